"""Memory and model FLOPs utilisation of a run.

    FLOPs per token = 2 W (forward) + 2 W (gradient of the inputs) + 2 L (gradient of the weights)
    W, L: all and trained weights that every token passes

Attention, the vision tower and recomputed blocks are not counted, so the utilisation is a lower bound.
"""

from __future__ import annotations

import os
import resource
import sys
from collections.abc import Mapping
from dataclasses import dataclass

import torch

from ixc.train.config import Part, TrainConfig
from ixc.train.param_groups import count_weights, meta_model

PEAK_FLOPS = {
    "H200": 989e12, "H100": 989e12, "A100": 312e12, "L40S": 362e12, "4090": 165e12, "A10": 125e12, "L4": 121e12,
}  # fmt: skip
"""Substring of a GPU's name -> dense bfloat16 FLOP/s of the vendor's data sheet."""

TEXT_PARTS: tuple[Part, ...] = ("LLM", "PLoRA", "LoRA", "head")
"""Parts that every token passes."""


def flops_per_token(counts: Mapping[Part, tuple[int, int]]) -> float:
    """Floating point operations per token of a training step; `counts` as of `param_groups.count_weights`."""
    passed = [counts[part] for part in TEXT_PARTS if part in counts]
    return sum(4.0 * total + 2.0 * trained for trained, total in passed)


def peak_flops(name: str) -> float | None:
    """Dense bfloat16 FLOP/s of a GPU by its name; None: not in the table."""
    return next((flops for known, flops in PEAK_FLOPS.items() if known in name), None)


@dataclass(frozen=True, kw_only=True)
class Throughput:
    """Memory and utilisation at a step."""

    memory: float
    """Peak memory so far, bytes: of the GPU if one is in use, else of this process."""
    utilization: float | None
    """Share of the peak of all GPUs, 0 to 1; None: on the CPU, or the peak is unknown."""

    def text(self) -> str:
        """Return a few words for the progress line."""
        utilization = "" if self.utilization is None else f", {self.utilization:.0%} of the peak"
        return f"{self.memory / 1e9:.1f} GB{utilization}"

    def scalars(self) -> dict[str, float]:
        """Return name -> value for trackers."""
        share = {} if self.utilization is None else {"share_of_peak": self.utilization}
        return {"memory_gb": self.memory / 1e9} | share


class ThroughputMeter:
    """Turn tokens per second into a `Throughput`.

    Args:
        cost: FLOPs per token, of `flops_per_token`.
        peak: FLOP/s of all GPUs together; None: unknown.
    """

    def __init__(self, cost: float, peak: float | None) -> None:
        self.cost, self.peak = cost, peak

    def __call__(self, tokens_per_second: float) -> Throughput:
        utilization = None if self.peak is None else tokens_per_second * self.cost / self.peak
        return Throughput(memory=peak_memory(), utilization=utilization)


def throughput_meter(config: TrainConfig) -> ThroughputMeter:
    """Return the meter of this machine and a run."""
    peak = peak_flops(torch.cuda.get_device_name()) if torch.cuda.is_available() else None
    if peak is None:
        return ThroughputMeter(0.0, None)
    cost = flops_per_token(count_weights(meta_model(config)))
    return ThroughputMeter(cost, peak * int(os.environ.get("WORLD_SIZE", "1")))


def peak_memory() -> float:
    """Peak memory so far, bytes: of the GPU if one is in use, else of this process."""
    if torch.cuda.is_available() and torch.cuda.max_memory_allocated():
        return float(torch.cuda.max_memory_allocated())
    unit = 1 if sys.platform == "darwin" else 1024  # ru_maxrss is in bytes on macOS and in KiB on Linux
    return float(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit)
