"""LoRA of the embedded model on boarding passes, a kind of page it never saw; minutes on a CPU.

ixc synth ./passes -n 1600 --kind boarding --hd 1 --format conversations
ixc train recipes/lora_boarding.py --data ./passes/conversations.jsonl --merge
ixc eval synth --kind boarding --hd 1 --model runs/lora_boarding/model
"""

from dataclasses import replace
from pathlib import Path

from ixc.train.config import Adapter, Resolution, TrainConfig, read_train_config


def recipe() -> TrainConfig:
    """LoRA of the embedded model on pages of one tile."""
    base = read_train_config(Path(__file__).with_name("lora_nano.py"))
    return replace(
        base,
        name="lora-boarding",
        # [F] on wqkv, wo, w1, w2, w3, alpha = r; [O] r 32: a new layout, not only new words
        adapter=Adapter(r=32, alpha=32, dropout=0.0),
        # [O] HD-1, one tile and the overview: the pages are drawn for it
        resolutions=(Resolution(hd=1, dynamic=False),),
        # [O] 1: pages cost nothing to draw, so none is seen twice
        epochs=1,
        # [O] 5e-3; 4e-3 and 1e-2 reduced the loss as fast over the first steps
        learning_rate=5e-3,
        # [O] 1024: a page takes up to 313 tokens, six questions and answers up to 300
        max_seq_length=1024,
        # [O] as max_seq_length; 2048 and 512 took longer a step
        max_tokens_per_batch=1024,
    )
