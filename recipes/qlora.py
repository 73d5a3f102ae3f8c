"""LoRA beside the 7B with its decoder in 4 bit, for a GPU of 16 to 24 GB.

ixc plan-train recipes/qlora.py --gpus 1 --gpu-memory 24
"""

from ixc.model.configuration import IxcConfig
from ixc.train.config import Adapter, Resolution, TrainConfig, TrainedPart


def recipe() -> TrainConfig:
    """QLoRA of InternLM-XComposer2-4KHD-7B."""
    return TrainConfig(
        name="qlora",
        model=IxcConfig(),
        # [F] LoRA alone, the base frozen
        trained=(TrainedPart(part="LoRA"),),
        # [F] r 64, alpha 64, dropout 0.05 on wqkv, wo, w1, w2, w3; 4 bit (nf4) from QLoRA, arXiv 2305.14314
        adapter=Adapter(r=64, alpha=64, dropout=0.05, weight_bits=4),
        # [O] HD-25; the memory saved goes into the context, so HD-55 fits too
        resolutions=(Resolution(hd=25, dynamic=False),),
        # [F] 64
        global_batch_size=64,
        # [F] 1
        epochs=1,
        # [F] 5e-5
        learning_rate=5e-5,
        # [F] 1 %
        warmup_ratio=0.01,
        # [F] cosine to 0
        min_learning_rate=0.0,
        # [F] 0.1
        weight_decay=0.1,
        # [F] beta2 0.95; [O] beta1 0.9, AdamW's own
        betas=(0.9, 0.95),
        # [O] 1.0, the default of the original's trainer
        max_grad_norm=1.0,
        # [O] 9216: the longest HD-55 image, 8737, and 479 tokens of text
        max_seq_length=9216,
        # [O] as max_seq_length
        max_tokens_per_batch=9216,
    )
