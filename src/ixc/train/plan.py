"""What a run would do, computed without making any weight: weights by part, learning rates of all groups, memory."""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass, fields
from typing import Any

import torch

from ixc.errors import UsageError
from ixc.train.config import Part, TrainConfig
from ixc.train.memory_estimate import MemoryItem, estimate
from ixc.train.param_groups import ParamGroup, count_weights, meta_model, param_groups


@dataclass(frozen=True, kw_only=True)
class TrainPlan:
    """What a run would do."""

    config: TrainConfig
    """Configuration of the run."""
    parts: dict[Part, tuple[int, int]]
    """Part -> (trained weights, all weights)."""
    groups: list[ParamGroup]
    """Parameter groups."""
    memory: list[MemoryItem]
    """Memory of one device, item by item."""
    gpus: int
    """Number of devices."""
    gpu_memory: float
    """Memory of one device, bytes."""

    @property
    def needed(self) -> float:
        """Bytes needed on one device."""
        return sum(item.size for item in self.memory)

    @property
    def fits(self) -> bool:
        """Whether one device has them."""
        return self.needed <= self.gpu_memory

    def as_dict(self) -> dict[str, Any]:
        """Return the plan for JSON."""
        return {
            "name": self.config.name,
            "parts": {part: {"learning": some, "all": every} for part, (some, every) in self.parts.items()},
            "groups": [
                {"name": g.name, "rate": g.learning_rate, "weight_decay": g.weight_decay, "weights": g.num_weights}
                for g in self.groups
            ],
            "memory": [asdict(item) for item in self.memory],
            "needed": self.needed,
            "gpus": self.gpus,
            "gpu_memory": self.gpu_memory,
            "fits": self.fits,
        }

    def text(self) -> list[str]:
        """Return the plan as lines of text."""
        return [*self._parts(), "", *self._learning_rates(), "", *self._settings(), "", *self._memory()]

    def _parts(self) -> list[str]:
        rows = [(str(part), trained, total) for part, (trained, total) in self.parts.items()]
        rows.append(("all", sum(row[1] for row in rows), sum(row[2] for row in rows)))
        return [f"{'part':24}{'learns':>16}{'weights':>16}"] + [f"{a:24}{b:>16,}{c:>16,}" for a, b, c in rows]

    def _learning_rates(self) -> list[str]:
        head = f"{'group':36}{'rate':>12}{'decay':>8}{'weights':>16}"
        return [head] + [
            f"{g.name:36}{g.learning_rate:>12.3e}{g.weight_decay:>8g}{g.num_weights:>16,}" for g in self.groups
        ]

    def _settings(self) -> list[str]:
        """The numbers of the configuration, and the conversations of a run whose steps are given."""
        config = self.config
        values = {one.name: getattr(config, one.name) for one in fields(config)}
        rows = [f"{name:22}{value:>12g}" for name, value in values.items() if isinstance(value, int | float)]
        rows.append(f"{'betas':22}{config.betas!s:>12}")
        if config.steps is not None:
            size = config.global_batch_size
            rows.append(f"{config.steps:,} steps x {size:,} = {config.steps * size:,} conversations")
        return rows

    def _memory(self) -> list[str]:
        rows = [f"{item.what:36}{item.size / 1e9:>8.2f} GB  = {item.formula}" for item in self.memory]
        verdict = (
            "fits" if self.fits else "does not fit: lower max_tokens_per_batch, take more devices or 8-bit moments"
        )
        end = f"{'one device':36}{self.needed / 1e9:>8.2f} GB  of {self.gpu_memory / 1e9:g}, {verdict}"
        return [f"memory of one of {self.gpus} devices", *rows, end]


def local_memory() -> float:
    """Memory of this machine's GPU in bytes, or of the machine itself where there is no GPU."""
    if torch.cuda.is_available():
        return float(torch.cuda.get_device_properties(0).total_memory)
    return float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))


def train_plan(config: TrainConfig, *, gpus: int = 8, gpu_memory: float = 80e9, eight_bit: bool = False) -> TrainPlan:
    """Compute everything that is known before a run.

    Args:
        gpus: number of devices, >= 1.
        gpu_memory: memory of one device, bytes.
        eight_bit: AdamW's moments in 8 bit.

    Raises:
        UsageError: fewer than one device.
    """
    if gpus < 1:
        raise UsageError(f"gpus is {gpus}, at least 1 needed")
    model = meta_model(config)
    counts = count_weights(model)
    return TrainPlan(
        config=config,
        parts=counts,
        groups=param_groups(model, config),
        memory=estimate(config, counts, gpus=gpus, eight_bit=eight_bit),
        gpus=gpus,
        gpu_memory=gpu_memory,
    )
