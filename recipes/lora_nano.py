"""The embedded model learns your documents: LoRA beside its frozen weights, on a laptop.

ixc train recipes/lora_nano.py --data talks.jsonl --out runs/mine
ixc merge runs/mine ./my-reader
"""

from pathlib import Path

import ixc
from ixc.model.loading import read_config
from ixc.train.config import Adapter, Resolution, TrainConfig, Trained

EMBEDDED = Path(ixc.__file__).parent / "pretrained" / "nano"

SOURCES = {
    "trained": "[F] LoRA alone, the base frozen",
    "adapter": "[F] on wqkv, wo, w1, w2, w3, alpha = r; [O] r 8, a 32nd of the width 256; no dropout, as the base",
    "resolutions": "[O] HD-4, up to four tiles of 336 pixels",
    "samples": "[O] 8: an eighth of theirs, for data of hundreds of pages",
    "epochs": "[O] 3: small data may be seen more than their once",
    "peak_rate": "[O] 2e-3, 40 times theirs, for a model a 16th as wide; not searched",
    "warmup": "[O] 5 %: some steps even of short runs; [F] 1 % of long ones",
    "final_rate": "[F] cosine to 0",
    "weight_decay": "[O] 0: an adapter that begins at zero needs no pull towards it",
    "betas": "[F] beta2 0.95; [O] beta1 0.9, AdamW's own",
    "clip": "[O] 1.0, the default of the original's trainer",
    "context": "[O] 2048: an HD-4 page takes 757 tokens, an HD-9 page 1489; a letter is a token",
    "budget": "[O] as the context: attention of one pack stays below 70 MB a layer",
}


def recipe() -> TrainConfig:
    """LoRA of the embedded model."""
    return TrainConfig(
        name="lora-nano",
        model=read_config(EMBEDDED),
        trained=(Trained(part="LoRA"),),
        adapter=Adapter(r=8, alpha=8, dropout=0.0),
        resolutions=(Resolution(hd=4, dynamic=False, datasets=("your own",)),),
        samples=8,
        epochs=3,
        peak_rate=2e-3,
        warmup=0.05,
        final_rate=0.0,
        weight_decay=0.0,
        betas=(0.9, 0.95),
        clip=1.0,
        context=2048,
        budget=2048,
        sources=SOURCES,
    )
