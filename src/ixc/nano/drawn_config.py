"""Configuration of a training run on drawn pages; a recipe is a Python function that returns one."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ixc.errors import UsageError
from ixc.model.configuration import IxcConfig
from ixc.nano.stages.character_pretrain import CharacterPretrainConfig
from ixc.nano.stages.joint import JointConfig
from ixc.nano.stages.layout_lm import LayoutLmConfig
from ixc.nano.stages.ocr_alignment import OcrAlignmentConfig
from ixc.runlog.recipe_file import read


@dataclass(frozen=True, kw_only=True)
class NanoConfig:
    """Training of the embedded model from scratch, stage by stage."""

    model: IxcConfig
    layout_lm: LayoutLmConfig
    character_pretrain: CharacterPretrainConfig
    ocr_alignment: OcrAlignmentConfig
    joint: JointConfig
    threads: int = 0
    """CPU threads of the joint stage; 0 = all cores. Another number sums in another order and gives other weights."""
    bf16_cpu: bool = False
    """Multiply in bf16 on processors with AVX512-BF16 (`bf16_cpu.py`); the weights differ from a float32 run's."""
    stored: Literal["float32", "float16", "bfloat16"] = "float32"
    """Number type of the weights in the model folder."""
    init_from: Path | None = None
    """Model folder to initialise from, of the same shape; the stages before the joint one are then skipped."""
    continue_pretraining: bool = False
    """With `init_from`: run the OCR alignment of the loaded vision encoder before the joint stage."""
    init_weight_average: float = 0.0
    """With `init_from`: share, 0 to below 1, of the initial weights in the exported model, averaged parameter by
    parameter with the trained ones (Wortsman et al. 2022, arXiv 2109.01903). The training states are not averaged."""

    def __post_init__(self) -> None:
        """Check options against each other.

        Raises:
            UsageError: the auxiliary probes need more layers than the language model has, or `init_weight_average` is
                out of range or set without `init_from`.
        """
        share = self.init_weight_average
        if not 0 <= share < 1 or (share and self.init_from is None):
            raise UsageError(
                f"init_weight_average is {share:g}; use 0 to below 1, and more than 0 only together with init_from"
            )
        layers = self.model.text_config.num_hidden_layers
        if self.joint.probes is not None and (last := self.joint.probes[0] + 2) >= layers:
            raise UsageError(
                f"probes after layer {self.joint.probes[0]} read layers up to {last}, and the language model has 0 to "
                f"{layers - 1}; use layer {max(0, layers - 3)} or a deeper language model"
            )


def read_recipe(path: Path) -> NanoConfig:
    """The configuration that `recipe()` of a Python file returns. Errors as `ixc.runlog.recipe_file.read`."""
    return read(path, NanoConfig)
