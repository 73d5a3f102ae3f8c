"""The paper's second stage: everything learns, documents at HD-55, the rest between its own size and HD-25.

ixc plan-train recipes/sft_4khd.py
"""

from ixc.model.configuration import IxcConfig
from ixc.train.config import Resolution, TrainConfig, Trained

SOURCES = {
    "trained": "[P] all components jointly; layer-wise decay 0.9 in the ViT; LLM x 0.2; [O] PLoRA, projector and the "
    "two learned vectors x 1 as they serve the pictures; embeddings and head with the LLM",
    "resolutions": "[P] table 2: HD-OCR QA at HD-55, every other task between its own size and HD-25; how sizes are "
    "drawn is not given: [O] each number of tiles equally probable",
    "samples": "[P] 2048",
    "steps": "[P] 3500, so 7.17 M samples",
    "peak_rate": "[P] 5e-5",
    "warmup": "[P] of pre-training, 1 %; not stated for this stage",
    "final_rate": "[P] of pre-training, cosine to 0; not stated for this stage",
    "weight_decay": "[F] 0.1",
    "betas": "[F] beta2 0.95; [O] beta1 0.9, AdamW's own",
    "clip": "[O] 1.0, the default of the original's trainer",
    "context": "[C] max_length 16384 of its configuration; HD-55 takes 8737 at most",
    "budget": "[O] 16384: one HD-55 conversation of the longest kind, or four of HD-25. [P] uses a batch size for each "
    "of the two, as HD-55 has about twice the tokens, and gives no numbers",
}

HD_OCR = ("InfoVQA", "DocVQA")
DYNAMIC = (
    *("ShareGPT4V", "COCO", "Nocaps"),  # caption
    *("VQAv2", "GQA", "OK-VQA", "VD", "RD", "VSR"),  # general QA
    *("AI2D", "SQA", "TQA", "IconQA"),  # science QA
    *("DVQA", "ChartQA", "ChartQA-AUG"),  # chart QA
    *("MathQA", "Geometry3K", "TabMWP", "CLEVR-MATH/Super"),  # math QA
    *("A-OKVQA", "KVQA", "ViQuAE"),  # world knowledge QA
    *("TextVQA", "OCR-VQA", "ST-VQA"),  # OCR QA
    *("LLaVA-150k", "LVIS-Instruct4V", "ShareGPT-en&zh", "InternLM-Chat"),  # conversation
)
"""Table 2."""


def recipe() -> TrainConfig:
    """InternLM-XComposer2-4KHD-7B, 4KHD fine-tuning."""
    return TrainConfig(
        name="sft-4khd",
        model=IxcConfig(),
        trained=(
            Trained(part="vision tower", layer_decay=0.9),
            Trained(part="projector"),
            Trained(part="newline and separator"),
            Trained(part="PLoRA"),
            Trained(part="LLM", scale=0.2),
            Trained(part="embeddings", scale=0.2),
            Trained(part="head", scale=0.2),
        ),
        resolutions=(
            Resolution(hd=55, dynamic=False, datasets=HD_OCR),
            Resolution(hd=25, dynamic=True, datasets=DYNAMIC),
        ),
        samples=2048,
        steps=3500,
        peak_rate=5e-5,
        warmup=0.01,
        final_rate=0.0,
        weight_decay=0.1,
        betas=(0.9, 0.95),
        clip=1.0,
        context=16384,
        budget=16384,
        sources=SOURCES,
    )
