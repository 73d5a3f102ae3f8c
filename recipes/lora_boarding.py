"""The embedded model learns a kind of page it never saw: boarding passes, each value below its key. Minutes on a CPU.

ixc synth ./passes -n 1600 --kind boarding --hd 1 --format conversations
ixc train recipes/lora_boarding.py --data ./passes/conversations.jsonl --merge
ixc eval synth --kind boarding --hd 1 --model runs/lora_boarding/model
"""

from dataclasses import replace
from pathlib import Path

from ixc.train.config import Adapter, Resolution, TrainConfig, read_train_config

OTHERS = {
    "adapter": "[F] on wqkv, wo, w1, w2, w3, alpha = r; [O] r 32: a new way of reading, not only new words",
    "resolutions": "[O] HD-1, one tile and the overview: the pages are drawn for it",
    "epochs": "[O] 1: pages cost nothing, so none is seen twice",
    "peak_rate": "[O] 5e-3; 4e-3 and 1e-2 learned as fast over the first steps",
    "context": "[O] 1024: a page takes up to 313 tokens, six questions and answers up to 300",
    "budget": "[O] as the context; 2048 and 512 took longer a step",
}


def recipe() -> TrainConfig:
    """LoRA of the embedded model on pages of one tile."""
    usual = read_train_config(Path(__file__).with_name("lora_nano.py"))
    return replace(
        usual,
        name="lora-boarding",
        adapter=Adapter(r=32, alpha=32, dropout=0.0),
        resolutions=(Resolution(hd=1, dynamic=False, datasets=("ixc synth --kind boarding",)),),
        epochs=1,
        peak_rate=5e-3,
        context=1024,
        budget=1024,
        sources={**usual.sources, **OTHERS},
    )
