"""A run is a Python function that returns one of these."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ixc.errors import UsageError
from ixc.model.configuration import IxcConfig
from ixc.nano.stages.character_pretrain import VisionPretrainConfig
from ixc.nano.stages.joint import JointConfig
from ixc.nano.stages.layout_lm import LayoutLmConfig
from ixc.nano.stages.ocr_alignment import OcrAlignmentConfig
from ixc.runlog.recipe_file import read


@dataclass(frozen=True, kw_only=True)
class NanoConfig:
    """Training of the embedded model from scratch: hand, eyes, eyes in the hand's letters, both."""

    model: IxcConfig
    language: LayoutLmConfig
    sight: VisionPretrainConfig
    spelling: OcrAlignmentConfig
    joint: JointConfig
    threads: int = 0
    """Cores of the stages after the first two, for sums in another order are other weights; 0 = all."""
    quick: bool = False
    """Products are of bf16 on processors with units for them (`quick.py`); the weights are then those of such ones."""
    stored: Literal["float32", "float16", "bfloat16"] = "float32"
    """Number type of the weights in the model folder."""
    begin: Path | None = None
    """Model folder of an earlier run, whose weights are gone on from instead of the stages before the joint one."""
    again: bool = False
    """With `begin`: language and spelling go on from it too, side by side with one alphabet that stands still, before
    the joint stage does."""
    kept: float = 0.0
    """With `begin`: share of its weights in the model, the rest being what was learned, number by number: two that lie
    near each other answer better together (Wortsman et al. 2022, arXiv 2109.01903). The states are without it."""

    def __post_init__(self) -> None:
        """Raises: UsageError: bearings ask layers that the reader does not have, or more is kept than there is."""
        if not 0 <= self.kept < 1 or (self.kept and self.begin is None):
            raise UsageError(
                f"kept={self.kept:g} of the weights that a run begins from; use 0 to below 1, above 0 with `begin` only"
            )
        layers = self.model.text_config.num_hidden_layers
        for stage in (self.language, self.joint):
            if stage.bearings is not None and (last := stage.bearings[0] + 2) >= layers:
                raise UsageError(
                    f"bearings behind layer {stage.bearings[0]} ask layers up to {last}, and the reader has 0 to "
                    f"{layers - 1}; take layer {max(0, layers - 3)} or a deeper reader"
                )


def read_recipe(path: Path) -> NanoConfig:
    """The recipe that `recipe()` of a Python file returns. Errors as `reading.read`."""
    return read(path, NanoConfig)
