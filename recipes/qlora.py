"""LoRA beside the 7B with its decoder in 4 bit, for a card of 16 to 24 GB.

ixc plan-train recipes/qlora.py --gpus 1 --gpu-memory 24
"""

from ixc.model.configuration import IxcConfig
from ixc.train.config import Adapter, Resolution, TrainConfig, Trained

SOURCES = {
    "trained": "[F] LoRA alone, the base frozen",
    "adapter": "[F] r 64, alpha 64, dropout 0.05 on wqkv, wo, w1, w2, w3; 4 bit (nf4) from QLoRA, arXiv 2305.14314",
    "resolutions": "[O] HD-25; the memory saved goes into the context, so HD-55 fits too",
    "samples": "[F] 64",
    "epochs": "[F] 1",
    "peak_rate": "[F] 5e-5",
    "warmup": "[F] 1 %",
    "final_rate": "[F] cosine to 0",
    "weight_decay": "[F] 0.1",
    "betas": "[F] beta2 0.95; [O] beta1 0.9, AdamW's own",
    "clip": "[O] 1.0, the default of the original's trainer",
    "context": "[O] 9216: the longest HD-55 picture, 8737, and 479 tokens of text",
    "budget": "[O] as the context",
}


def recipe() -> TrainConfig:
    """QLoRA of InternLM-XComposer2-4KHD-7B."""
    return TrainConfig(
        name="qlora",
        model=IxcConfig(),
        trained=(Trained(part="LoRA"),),
        adapter=Adapter(r=64, alpha=64, dropout=0.05, weight_bits=4),
        resolutions=(Resolution(hd=25, dynamic=False, datasets=("your own",)),),
        samples=64,
        epochs=1,
        peak_rate=5e-5,
        warmup=0.01,
        final_rate=0.0,
        weight_decay=0.1,
        betas=(0.9, 0.95),
        clip=1.0,
        context=9216,
        budget=9216,
        sources=SOURCES,
    )
