"""What a full-size run is: the paper's two stages, LoRA, QLoRA. A recipe file's `recipe()` returns a `TrainConfig`.

Every number carries its source in `TrainConfig.sources`: [P] the paper (arXiv 2404.06512), [F] the original's published
fine-tuning scripts, [C] the published checkpoint, [O] our own choice where none of them says anything.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from math import cos, pi
from pathlib import Path
from typing import Literal

from ixc.errors import UsageError
from ixc.model.configuration import IxcConfig
from ixc.runlog.recipe_file import read

Part = Literal[
    "vision tower", "merge", "projector", "newline and separator", "PLoRA", "LLM", "embeddings", "head", "LoRA"
]  # fmt: skip
"""Parts of the model; `groups.part_of` says which parameter belongs to which. LLM: decoder blocks and last norm."""


@dataclass(frozen=True, kw_only=True)
class Trained:
    """How a part learns."""

    part: Part
    """Which."""
    scale: float = 1.0
    """Its rate, as a part of the peak."""
    layer_decay: float | None = None
    """Vision tower only: the rate falls by this factor a layer, from the last one down."""


@dataclass(frozen=True, kw_only=True)
class Resolution:
    """A setting, and the data sets read under it."""

    hd: int
    """Most tiles a picture."""
    dynamic: bool
    """Settings drawn between a picture's own size and `hd`."""
    datasets: tuple[str, ...]
    """By the paper's names."""


@dataclass(frozen=True, kw_only=True)
class Adapter:
    """LoRA through PEFT: beside the frozen weights, for every token; PLoRA is a part of the model, for image tokens."""

    r: int
    """Rank."""
    alpha: float
    """Numerator of its scale, alpha / r."""
    dropout: float
    """Probability on its input."""
    targets: str = r".*language_model\..*\.base"
    """The linear maps that carry one, as a pattern: wqkv, wo, w1, w2, w3 of the decoder, without their PLoRA."""
    weight_bits: int = 16
    """Of the frozen decoder: 16, or 4 (nf4 of bitsandbytes)."""


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """One run."""

    name: str
    """For logs."""
    model: IxcConfig
    """Sizes of the model."""
    trained: tuple[Trained, ...]
    """Parts that learn; the others are frozen."""
    resolutions: tuple[Resolution, ...]
    """Settings of the data."""
    samples: int
    """Conversations of an optimiser step, all devices together."""
    steps: int | None = None
    """Optimiser steps; None: `epochs` over the data."""
    epochs: float | None = None
    """Times over the data; None: `steps`."""
    peak_rate: float
    """Learning rate behind the warm-up."""
    warmup: float
    """Share of the steps in which the rate rises in a line from 0."""
    final_rate: float
    """Where the cosine ends."""
    weight_decay: float
    """On matrices; vectors (norms, biases, newline, separator) have none."""
    betas: tuple[float, float]
    """Of AdamW."""
    clip: float
    """Most norm of the gradient."""
    context: int
    """Most tokens of a conversation."""
    budget: int
    """Most tokens of a pack: one forward pass on one device."""
    adapter: Adapter | None = None
    """LoRA beside the frozen model."""
    sources: Mapping[str, str] = field(default_factory=dict)
    """Field -> where its number is from."""

    def __post_init__(self) -> None:
        if (self.steps is None) == (self.epochs is None):
            raise UsageError(f"steps is {self.steps} and epochs is {self.epochs}; give exactly one of them")
        if self.budget < self.context:
            raise UsageError(f"a pack holds {self.budget:,} tokens and a conversation {self.context:,}; raise budget")
        if (self.adapter is not None) != any(one.part == "LoRA" for one in self.trained):
            raise UsageError("an adapter and the trained part LoRA come together; give both or none")
        names = {one.name for one in fields(self)} - {"name", "model", "sources"}
        missing = sorted(name for name in names - set(self.sources) if getattr(self, name) is not None)
        if missing:
            raise UsageError(f"{len(missing)} numbers have no source: {', '.join(missing)}; name it in sources")

    def rate(self, step: int, *, steps: int) -> float:
        """Learning rate of a part of scale 1 at a step, 0 .. steps - 1: linear warm-up, then a cosine to the end."""
        rise = max(1, round(self.warmup * steps))
        if step < rise:
            return self.peak_rate * (step + 1) / rise
        done = (step - rise) / max(1, steps - rise)
        return self.final_rate + (self.peak_rate - self.final_rate) * (1 + cos(pi * done)) / 2


def read_train_config(path: Path) -> TrainConfig:
    """The stage that `recipe()` of a Python file returns. Errors as `reading.read`."""
    return read(path, TrainConfig)
