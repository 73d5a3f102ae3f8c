"""LoRA beside the frozen embedded model on your documents, on a laptop.

ixc train recipes/lora_nano.py --data conversations.jsonl --out runs/mine
ixc merge runs/mine ./my-model
"""

from pathlib import Path

import ixc
from ixc.model.loading import read_config
from ixc.train.config import Adapter, Resolution, TrainConfig, TrainedPart

EMBEDDED = Path(ixc.__file__).parent / "pretrained" / "nano"


def recipe() -> TrainConfig:
    """LoRA of the embedded model."""
    return TrainConfig(
        name="lora-nano",
        model=read_config(EMBEDDED),
        # [F] LoRA alone, the base frozen
        trained=(TrainedPart(part="LoRA"),),
        # [F] on wqkv, wo, w1, w2, w3, alpha = r; [O] r 8, a 32nd of the width 256; no dropout, as the base
        adapter=Adapter(r=8, alpha=8, dropout=0.0),
        # [O] HD-4, up to four tiles of 336 pixels
        resolutions=(Resolution(hd=4, dynamic=False),),
        # [O] 8: an eighth of theirs, for data of hundreds of pages
        global_batch_size=8,
        # [O] 3: small data may be seen more than their once
        epochs=3,
        # [O] 2e-3, 40 times theirs, for a model a 16th as wide; not searched
        learning_rate=2e-3,
        # [O] 5 %: some steps even of short runs; [F] 1 % of long ones
        warmup_ratio=0.05,
        # [F] cosine to 0
        min_learning_rate=0.0,
        # [O] 0: an adapter starts at zero and needs no pull towards it
        weight_decay=0.0,
        # [F] beta2 0.95; [O] beta1 0.9, AdamW's own
        betas=(0.9, 0.95),
        # [O] 1.0, the default of the original's trainer
        max_grad_norm=1.0,
        # [O] 2048: an HD-4 page takes 757 tokens, an HD-9 page 1489; a character is a token
        max_seq_length=2048,
        # [O] as max_seq_length: attention of one pack stays below 70 MB a layer
        max_tokens_per_batch=2048,
    )
