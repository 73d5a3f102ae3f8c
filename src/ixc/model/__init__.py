"""Tensors: the vision tower, the merge, Partial LoRA, the decoder and the whole model.

    pixels -> vision.py -> merge.py -> images.py (order, newlines) -> model.py <- decoder.py <- plora.py, rope.py
    names.py, strict.py, weights.py: files of weights; generation.py: what `generate` must know

Names are imported on first use: `import ixc.model` alone costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ixc.model.config import IxcConfig, IxcTextConfig, IxcVisionConfig
    from ixc.model.decoder import Decoder
    from ixc.model.model import IxcForConditionalGeneration, IxcModel
    from ixc.model.plora import PLoRALinear
    from ixc.model.vision import VisionTower
    from ixc.model.weights import import_weights, load

__all__ = [
    "Decoder",
    "IxcConfig",
    "IxcForConditionalGeneration",
    "IxcModel",
    "IxcTextConfig",
    "IxcVisionConfig",
    "PLoRALinear",
    "VisionTower",
    "import_weights",
    "load",
]

_HOMES = {
    "Decoder": "decoder",
    "IxcConfig": "config",
    "IxcForConditionalGeneration": "model",
    "IxcModel": "model",
    "IxcTextConfig": "config",
    "IxcVisionConfig": "config",
    "PLoRALinear": "plora",
    "VisionTower": "vision",
    "import_weights": "weights",
    "load": "weights",
}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
