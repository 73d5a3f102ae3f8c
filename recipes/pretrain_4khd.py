"""The paper's first stage: the eyes and PLoRA learn to see beside a frozen language model.

ixc plan-train recipes/pretrain_4khd.py
"""

from ixc.model.configuration import IxcConfig
from ixc.train.config import Resolution, TrainConfig, Trained

SOURCES = {
    "trained": "[P] ViT and PLoRA, LLM frozen; layer-wise decay 0.90 in the ViT; projector, newline and separator "
    "begin at random there, that they learn is implied",
    "resolutions": "[P] HD-25, table 1; [O] every picture at HD-25",
    "samples": "[P] 4096",
    "epochs": "[P] 2; the number of samples is not given",
    "peak_rate": "[P] 2e-4",
    "warmup": "[P] linear over the first 1 % of the steps",
    "final_rate": "[P] cosine to 0",
    "weight_decay": "[F] 0.1",
    "betas": "[F] beta2 0.95; [O] beta1 0.9, AdamW's own",
    "clip": "[O] 1.0, the default of the original's trainer",
    "context": "[F] 4096; HD-25 takes 4057 at most, so the longest pictures leave 39 tokens of text",
    "budget": "[O] 16384: four conversations of the longest kind",
}

DATASETS = (
    *("ShareGPT4V-PT", "COCO", "Nocaps", "TextCaps", "LAION400M", "SBU", "CC3M"),  # general semantic alignment
    *("Concept Data",),  # world knowledge
    *("WanJuan", "Flicker", "MMC-Inst", "RCTW-17", "CTW", "LSVT", "ReCTS", "ArT"),  # vision capability
)
"""Table 1."""


def recipe() -> TrainConfig:
    """InternLM-XComposer2-4KHD-7B, pre-training."""
    return TrainConfig(
        name="pretrain-4khd",
        model=IxcConfig(),
        trained=(
            Trained(part="vision tower", layer_decay=0.9),
            Trained(part="projector"),
            Trained(part="newline and separator"),
            Trained(part="PLoRA"),
        ),
        resolutions=(Resolution(hd=25, dynamic=False, datasets=DATASETS),),
        samples=4096,
        epochs=2,
        peak_rate=2e-4,
        warmup=0.01,
        final_rate=0.0,
        weight_decay=0.1,
        betas=(0.9, 0.95),
        clip=1.0,
        context=4096,
        budget=16384,
        sources=SOURCES,
    )
