"""Fine-tuning for everyone: LoRA beside the frozen 7B in 16 bit, on one card of 24 GB.

ixc plan-train recipes/lora.py --gpus 1 --gpu-memory 24
"""

from ixc.model.configuration import IxcConfig
from ixc.train.config import Adapter, Resolution, TrainConfig, Trained

SOURCES = {
    "trained": "[F] LoRA alone, the base frozen",
    "adapter": "[F] on wqkv, wo, w1, w2, w3, alpha = r, dropout 0.05; [O] r 16 where they have 64, to fit 24 GB",
    "resolutions": "[P] HD-25, the paper's setting for all but HD-OCR data; the scripts leave it to be set",
    "samples": "[F] 1 x 8 accumulated on 8 devices = 64; [O] kept on one device",
    "epochs": "[F] 1",
    "peak_rate": "[F] 5e-5",
    "warmup": "[F] 1 %",
    "final_rate": "[F] cosine to 0",
    "weight_decay": "[F] 0.1",
    "betas": "[F] beta2 0.95; [O] beta1 0.9, AdamW's own",
    "clip": "[O] 1.0, the default of the original's trainer",
    "context": "[F] 4096; HD-25 takes 4057 at most: ixc data check names the records that do not fit",
    "budget": "[F] 4096: one long conversation, or several short ones",
}


def recipe() -> TrainConfig:
    """LoRA of InternLM-XComposer2-4KHD-7B."""
    return TrainConfig(
        name="lora",
        model=IxcConfig(),
        trained=(Trained(part="LoRA"),),
        adapter=Adapter(r=16, alpha=16, dropout=0.05),
        resolutions=(Resolution(hd=25, dynamic=False, datasets=("your own",)),),
        samples=64,
        epochs=1,
        peak_rate=5e-5,
        warmup=0.01,
        final_rate=0.0,
        weight_decay=0.1,
        betas=(0.9, 0.95),
        clip=1.0,
        context=4096,
        budget=4096,
        sources=SOURCES,
    )
