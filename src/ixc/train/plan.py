"""What a stage would do, told before it runs: weights by part, rates of all groups, memory. No weight is made."""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass
from typing import Any

import torch

from ixc.errors import UsageError
from ixc.train.config import Part, TrainConfig
from ixc.train.memory_estimate import MemoryItem, estimate
from ixc.train.param_groups import Group, counts, groups, skeleton


@dataclass(frozen=True, kw_only=True)
class TrainPlan:
    """A stage, seen from outside."""

    stage: TrainConfig
    """The stage."""
    parts: dict[Part, tuple[int, int]]
    """Part -> (weights that learn, all weights)."""
    groups: list[Group]
    """Parameter groups."""
    memory: list[MemoryItem]
    """Memory of one device."""
    gpus: int
    """Devices."""
    gpu_memory: float
    """Bytes of one."""

    @property
    def needed(self) -> float:
        """Bytes of one device."""
        return sum(item.size for item in self.memory)

    @property
    def fits(self) -> bool:
        """Whether they are there."""
        return self.needed <= self.gpu_memory

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "name": self.stage.name,
            "parts": {part: {"learning": some, "all": every} for part, (some, every) in self.parts.items()},
            "groups": [
                {"name": g.name, "rate": g.rate, "weight_decay": g.weight_decay, "weights": g.numbers}
                for g in self.groups
            ],
            "memory": [asdict(item) for item in self.memory],
            "needed": self.needed,
            "gpus": self.gpus,
            "gpu_memory": self.gpu_memory,
            "fits": self.fits,
            "sources": dict(self.stage.sources),
        }

    def text(self) -> list[str]:
        """Lines for people."""
        return [*self._parts(), "", *self._rates(), "", *self._numbers(), "", *self._memory()]

    def _parts(self) -> list[str]:
        rows = [(part, f"{some:,}", f"{every:,}") for part, (some, every) in self.parts.items()]
        sums = [sum(column) for column in zip(*self.parts.values(), strict=True)]
        rows.append(("all", *(f"{number:,}" for number in sums)))
        return [f"{'part':24}{'learns':>16}{'weights':>16}"] + [f"{a:24}{b:>16}{c:>16}" for a, b, c in rows]

    def _rates(self) -> list[str]:
        head = f"{'group':36}{'rate':>12}{'decay':>8}{'weights':>16}"
        return [head] + [f"{g.name:36}{g.rate:>12.3e}{g.weight_decay:>8g}{g.numbers:>16,}" for g in self.groups]

    def _numbers(self) -> list[str]:
        stage = self.stage
        rows = []
        for name, source in stage.sources.items():
            value = getattr(stage, name)
            shown = f"{value:g}" if isinstance(value, int | float) and not isinstance(value, bool) else ""
            shown = shown or (str(value) if name == "betas" else "")
            rows.append(f"{name:14}{shown:>12}  {source}")
        if stage.steps is not None:
            rows.append(f"{stage.steps:,} steps x {stage.samples:,} = {stage.steps * stage.samples:,} conversations")
        return rows

    def _memory(self) -> list[str]:
        rows = [f"{item.what:36}{item.size / 1e9:>8.2f} GB  = {item.formula}" for item in self.memory]
        verdict = "fits" if self.fits else "does not fit: lower budget, take more devices or 8-bit moments"
        end = f"{'one device':36}{self.needed / 1e9:>8.2f} GB  of {self.gpu_memory / 1e9:g}, {verdict}"
        return [f"memory of one of {self.gpus} devices", *rows, end]


def memory_here() -> float:
    """Bytes of this machine's GPU, or of its own memory where there is none."""
    if torch.cuda.is_available():
        return float(torch.cuda.get_device_properties(0).total_memory)
    return float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))


def train_plan(stage: TrainConfig, *, gpus: int = 8, gpu_memory: float = 80e9, eight_bit: bool = False) -> TrainPlan:
    """Everything that is known before a stage runs.

    Args:
        gpus: devices, >= 1.
        gpu_memory: bytes of one.
        eight_bit: AdamW's moments in 8 bit.

    Raises:
        UsageError: fewer than one device.
    """
    if gpus < 1:
        raise UsageError(f"gpus is {gpus}, at least 1 needed")
    model = skeleton(stage)
    parts = counts(model)
    return TrainPlan(
        stage=stage,
        parts=parts,
        groups=groups(model, stage),
        memory=estimate(stage, parts, gpus=gpus, eight_bit=eight_bit),
        gpus=gpus,
        gpu_memory=gpu_memory,
    )
