"""The paper's first stage, pre-training: vision encoder and PLoRA are trained beside a frozen language model.

ixc plan-train recipes/pretrain_4khd.py
"""

from ixc.model.configuration import IxcConfig
from ixc.train.config import Resolution, TrainConfig, TrainedPart

# Data sets of table 1
#   general semantic alignment  ShareGPT4V-PT, COCO, Nocaps, TextCaps, LAION400M, SBU, CC3M
#   world knowledge             Concept Data
#   vision capability           WanJuan, Flicker, MMC-Inst, RCTW-17, CTW, LSVT, ReCTS, ArT


def recipe() -> TrainConfig:
    """InternLM-XComposer2-4KHD-7B, pre-training."""
    return TrainConfig(
        name="pretrain-4khd",
        model=IxcConfig(),
        # [P] ViT and PLoRA, LLM frozen; layer-wise decay 0.90 in the ViT; projector, newline and separator start at
        # random there, that they are trained is implied
        trained=(
            TrainedPart(part="vision tower", layer_decay=0.9),
            TrainedPart(part="projector"),
            TrainedPart(part="newline and separator"),
            TrainedPart(part="PLoRA"),
        ),
        # [P] HD-25, table 1; [O] every image at HD-25
        resolutions=(Resolution(hd=25, dynamic=False),),
        # [P] 4096
        global_batch_size=4096,
        # [P] 2; the number of samples is not given
        epochs=2,
        # [P] 2e-4
        learning_rate=2e-4,
        # [P] linear over the first 1 % of the steps
        warmup_ratio=0.01,
        # [P] cosine to 0
        min_learning_rate=0.0,
        # [F] 0.1
        weight_decay=0.1,
        # [F] beta2 0.95; [O] beta1 0.9, AdamW's own
        betas=(0.9, 0.95),
        # [O] 1.0, the default of the original's trainer
        max_grad_norm=1.0,
        # [F] 4096; HD-25 takes 4057 at most, so the longest images leave 39 tokens of text
        max_seq_length=4096,
        # [O] 16384: four conversations of the longest kind
        max_tokens_per_batch=16384,
    )
