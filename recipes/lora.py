"""LoRA beside the frozen 7B in 16 bit, on one GPU of 24 GB.

ixc plan-train recipes/lora.py --gpus 1 --gpu-memory 24
"""

from ixc.model.configuration import IxcConfig
from ixc.train.config import Adapter, Resolution, TrainConfig, TrainedPart


def recipe() -> TrainConfig:
    """LoRA of InternLM-XComposer2-4KHD-7B."""
    return TrainConfig(
        name="lora",
        model=IxcConfig(),
        # [F] LoRA alone, the base frozen
        trained=(TrainedPart(part="LoRA"),),
        # [F] on wqkv, wo, w1, w2, w3, alpha = r, dropout 0.05; [O] r 16 where they have 64, to fit 24 GB
        adapter=Adapter(r=16, alpha=16, dropout=0.05),
        # [P] HD-25, the paper's setting for all but HD-OCR data; the scripts leave it to be set
        resolutions=(Resolution(hd=25, dynamic=False),),
        # [F] 1 x 8 accumulated on 8 devices = 64; [O] kept on one device
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
        # [F] 4096; HD-25 takes 4057 at most: ixc data check names the records that do not fit
        max_seq_length=4096,
        # [F] 4096: one long conversation, or several short ones
        max_tokens_per_batch=4096,
    )
