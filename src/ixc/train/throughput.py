"""How hard the machine works: memory of this process, and the share of the GPU's peak that the decoder alone reaches.

    operations a token = 2 W (forward) + 2 W (back to the inputs) + 2 L (what learns)    W, L weights of the decoder

Attention, the tower and recomputed blocks are not counted: the share is a lower bound.
"""

from __future__ import annotations

import os
import resource
import sys
from collections.abc import Mapping
from dataclasses import dataclass

import torch

from ixc.train.config import Part, TrainConfig
from ixc.train.param_groups import counts, skeleton

PEAKS = {"H200": 989e12, "H100": 989e12, "A100": 312e12, "L40S": 362e12, "4090": 165e12, "A10": 125e12, "L4": 121e12}
"""Name of a GPU contains -> dense bfloat16 operations a second, of its maker's data sheet."""

TEXT: tuple[Part, ...] = ("LLM", "PLoRA", "LoRA", "head")
"""Parts every token passes."""


def operations(parts: Mapping[Part, tuple[int, int]]) -> float:
    """Floating point operations of a training step by token; `parts` of `groups.counts`."""
    mine = [parts[part] for part in TEXT if part in parts]
    return sum(4.0 * every + 2.0 * some for some, every in mine)


def peak(name: str) -> float | None:
    """Operations a second of a GPU by its name; None: not in the table."""
    return next((speed for known, speed in PEAKS.items() if known in name), None)


@dataclass(frozen=True, kw_only=True)
class Throughput:
    """What the gauge shows at a step."""

    memory: float
    """Most bytes so far: of the GPU if one is in use, else of this process."""
    share: float | None
    """Of the peak of one GPU, 0 .. 1; None: on the CPU, or its peak is not known."""

    def text(self) -> str:
        """Words behind a step."""
        peak = "" if self.share is None else f", {self.share:.0%} of the peak"
        return f"{self.memory / 1e9:.1f} GB{peak}"

    def numbers(self) -> dict[str, float]:
        """For curves."""
        return {"memory_gb": self.memory / 1e9} | ({} if self.share is None else {"share_of_peak": self.share})


class ThroughputMeter:
    """Reads the machine.

    Args:
        cost: operations of a token, by `operations`.
        most: operations a second of all GPUs that work; None: not known.
    """

    def __init__(self, cost: float, most: float | None) -> None:
        self.cost, self.most = cost, most

    def __call__(self, tokens_per_second: float) -> Throughput:
        """At a pace."""
        share = None if self.most is None else tokens_per_second * self.cost / self.most
        return Throughput(memory=memory(), share=share)


def throughput_meter(stage: TrainConfig) -> ThroughputMeter:
    """That of this machine and a stage."""
    most = peak(torch.cuda.get_device_name()) if torch.cuda.is_available() else None
    if most is None:
        return ThroughputMeter(0.0, None)
    return ThroughputMeter(operations(counts(skeleton(stage))), most * int(os.environ.get("WORLD_SIZE", "1")))


def memory() -> float:
    """Most bytes so far: of the GPU if one is in use, else of this process."""
    if torch.cuda.is_available() and torch.cuda.max_memory_allocated():
        return float(torch.cuda.max_memory_allocated())
    unit = 1 if sys.platform == "darwin" else 1024
    return float(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit)
