"""The configuration of a full-size training run: the paper's two stages, LoRA, QLoRA.

A recipe file's `recipe()` returns a `TrainConfig`. The recipes of this package name the source of every number in
comments: [P] the paper (arXiv 2404.06512), [F] the original's published fine-tuning scripts, [C] the published
checkpoint's configuration, [O] our own choice where none of them says anything.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import cos, pi
from pathlib import Path
from typing import Any, Literal

from ixc.errors import UsageError
from ixc.model.configuration import IxcConfig
from ixc.runlog.recipe_file import read, refuse_old_fields

Part = Literal[
    "vision tower", "merge", "projector", "newline and separator", "PLoRA", "LLM", "embeddings", "head", "LoRA"
]  # fmt: skip
"""Parts of the model; `param_groups.part_of` maps a parameter's name to its part. LLM means the decoder blocks and the
last norm."""

REMOVED_SOURCES = "no field any more: delete it, or keep it as a comment"


@refuse_old_fields({"scale": "lr_scale"})
@dataclass(frozen=True, kw_only=True)
class TrainedPart:
    """One part of the model that is trained, and its learning rate."""

    part: Part
    """The part."""
    lr_scale: float = 1.0
    """Its learning rate, as a multiple of the run's."""
    layer_decay: float | None = None
    """Vision tower only: factor by which the learning rate falls from each block to the one below it, last block
    first (layer-wise learning-rate decay)."""


@refuse_old_fields({"datasets": REMOVED_SOURCES})
@dataclass(frozen=True, kw_only=True)
class Resolution:
    """An HD setting under which a data file can be read."""

    hd: int
    """Most tiles per image."""
    dynamic: bool
    """Draw the setting of each sample between the image's own size and `hd`."""


@refuse_old_fields({"targets": "target_modules"})
@dataclass(frozen=True, kw_only=True)
class Adapter:
    """LoRA through PEFT: an update beside the frozen weights, applied to every token.

    Unlike LoRA, PLoRA is a part of the model and applies to image tokens only.
    """

    r: int
    """Rank."""
    alpha: float
    """Numerator of the scale, alpha / r."""
    dropout: float
    """Dropout probability on the adapter's input."""
    target_modules: str = r".*language_model\..*\.base"
    """Pattern of the linear maps that carry an adapter, matched against whole module names. Default: wqkv, wo, w1, w2,
    w3 of the decoder, without their PLoRA."""
    weight_bits: int = 16
    """Bits of the frozen decoder weights: 16, or 4 (nf4 of bitsandbytes)."""


@refuse_old_fields(
    {
        "samples": "global_batch_size",
        "peak_rate": "learning_rate",
        "warmup": "warmup_ratio",
        "final_rate": "min_learning_rate",
        "clip": "max_grad_norm",
        "context": "max_seq_length",
        "budget": "max_tokens_per_batch",
        "sources": REMOVED_SOURCES,
    }
)
@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """One training run."""

    name: str
    """Name for logs and checkpoints."""
    model: IxcConfig
    """Configuration of the model."""
    trained: tuple[TrainedPart, ...]
    """Parts that are trained; all others are frozen."""
    resolutions: tuple[Resolution, ...]
    """HD settings of the data."""
    global_batch_size: int
    """Conversations per optimiser step, summed over all devices."""
    steps: int | None = None
    """Optimiser steps; None: given by `epochs`."""
    epochs: float | None = None
    """Passes over the data; None: given by `steps`."""
    learning_rate: float
    """Peak learning rate, reached at the end of the warm-up."""
    warmup_ratio: float
    """Share of the steps, 0 to 1, in which the learning rate rises linearly from 0."""
    min_learning_rate: float
    """Learning rate at the end of the cosine decay."""
    weight_decay: float
    """AdamW's weight decay on matrices; vectors (norms, biases, newline, separator) have none."""
    betas: tuple[float, float]
    """AdamW's betas."""
    max_grad_norm: float
    """Gradient norm above which gradients are scaled down."""
    max_seq_length: int
    """Most tokens of one conversation, image tokens included."""
    max_tokens_per_batch: int
    """Most tokens of one pack, which is one forward pass on one device."""
    adapter: Adapter | None = None
    """LoRA beside the frozen model; None: no adapter."""

    def __post_init__(self) -> None:
        if (self.steps is None) == (self.epochs is None):
            raise UsageError(f"steps is {self.steps} and epochs is {self.epochs}; give exactly one of them")
        if self.max_tokens_per_batch < self.max_seq_length:
            raise UsageError(
                f"a pack holds {self.max_tokens_per_batch:,} tokens and a conversation {self.max_seq_length:,}; "
                "raise max_tokens_per_batch"
            )
        if (self.adapter is not None) != any(one.part == "LoRA" for one in self.trained):
            raise UsageError("an adapter and the trained part LoRA come together; give both or none")

    def learning_rate_at(self, step: int, *, total_steps: int) -> float:
        """Learning rate of a part with lr_scale 1: linear warm-up, then cosine decay.

        Args:
            step: 0 .. total_steps - 1.
            total_steps: optimiser steps of the whole run.
        """
        warmup_steps = max(1, round(self.warmup_ratio * total_steps))
        if step < warmup_steps:
            return self.learning_rate * (step + 1) / warmup_steps
        progress = (step - warmup_steps) / max(1, total_steps - warmup_steps)
        return self.min_learning_rate + (self.learning_rate - self.min_learning_rate) * (1 + cos(pi * progress)) / 2


def read_train_config(path: Path) -> TrainConfig:
    """Return the `TrainConfig` that `recipe()` of a Python file returns. Errors as `recipe_file.read`."""
    return read(path, TrainConfig)


_RENAMED = {"Stage": "TrainConfig", "Trained": "TrainedPart", "read_stage": "read_train_config"}


def __getattr__(name: str) -> Any:
    """Name the successor of a class that recipes written for an older version import from here."""
    if name in _RENAMED:
        raise UsageError(f"{name} of ixc.train.config is now {_RENAMED[name]}; rename it in the recipe")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
