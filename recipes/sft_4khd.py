"""The paper's second stage, 4KHD fine-tuning: everything is trained; HD-OCR data at HD-55, the rest up to HD-25.

ixc plan-train recipes/sft_4khd.py
"""

from ixc.model.configuration import IxcConfig
from ixc.train.config import Resolution, TrainConfig, TrainedPart

# Data sets of table 2
#   at HD-55: HD-OCR QA         InfoVQA, DocVQA
#   between own size and HD-25
#     caption                   ShareGPT4V, COCO, Nocaps
#     general QA                VQAv2, GQA, OK-VQA, VD, RD, VSR
#     science QA                AI2D, SQA, TQA, IconQA
#     chart QA                  DVQA, ChartQA, ChartQA-AUG
#     math QA                   MathQA, Geometry3K, TabMWP, CLEVR-MATH/Super
#     world knowledge QA        A-OKVQA, KVQA, ViQuAE
#     OCR QA                    TextVQA, OCR-VQA, ST-VQA
#     conversation              LLaVA-150k, LVIS-Instruct4V, ShareGPT-en&zh, InternLM-Chat


def recipe() -> TrainConfig:
    """InternLM-XComposer2-4KHD-7B, 4KHD fine-tuning."""
    return TrainConfig(
        name="sft-4khd",
        model=IxcConfig(),
        # [P] all components jointly; layer-wise decay 0.9 in the ViT; LLM x 0.2; [O] PLoRA, projector and the two
        # learned vectors x 1 as they serve the images; embeddings and head with the LLM
        trained=(
            TrainedPart(part="vision tower", layer_decay=0.9),
            TrainedPart(part="projector"),
            TrainedPart(part="newline and separator"),
            TrainedPart(part="PLoRA"),
            TrainedPart(part="LLM", lr_scale=0.2),
            TrainedPart(part="embeddings", lr_scale=0.2),
            TrainedPart(part="head", lr_scale=0.2),
        ),
        # [P] table 2: HD-OCR QA at HD-55, every other task between its own size and HD-25; how sizes are drawn is not
        # given: [O] each number of tiles equally probable
        resolutions=(
            Resolution(hd=55, dynamic=False),
            Resolution(hd=25, dynamic=True),
        ),
        # [P] 2048
        global_batch_size=2048,
        # [P] 3500, so 7.17 M samples
        steps=3500,
        # [P] 5e-5
        learning_rate=5e-5,
        # [P] of pre-training, 1 %; not stated for this stage
        warmup_ratio=0.01,
        # [P] of pre-training, cosine to 0; not stated for this stage
        min_learning_rate=0.0,
        # [F] 0.1
        weight_decay=0.1,
        # [F] beta2 0.95; [O] beta1 0.9, AdamW's own
        betas=(0.9, 0.95),
        # [O] 1.0, the default of the original's trainer
        max_grad_norm=1.0,
        # [C] max_length 16384 of its configuration; HD-55 takes 8737 at most
        max_seq_length=16384,
        # [O] 16384: one HD-55 conversation of the longest kind, or four of HD-25. [P] uses a batch size for each of
        # the two, as HD-55 has about twice the tokens, and gives no numbers
        max_tokens_per_batch=16384,
    )
