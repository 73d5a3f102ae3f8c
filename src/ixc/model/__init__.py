"""Tensors: the vision tower, the merge, Partial LoRA, the decoder and the whole model.

    pixels -> vision.py -> merge.py -> images.py (order, newlines) -> model.py <- decoder.py <- plora.py, rope.py
    names.py, strict.py, weights.py: files of weights; generation.py: what `generate` must know

Names are imported on first use: `import ixc.model` alone costs nothing.
"""

from typing import TYPE_CHECKING

from ixc.utils.lazy_imports import lookup

if TYPE_CHECKING:
    from ixc.model.configuration import IxcConfig, IxcTextConfig, IxcVisionConfig
    from ixc.model.conversion import import_weights
    from ixc.model.decoder import Decoder
    from ixc.model.loading import load
    from ixc.model.modeling import IxcForConditionalGeneration, IxcModel
    from ixc.model.plora import PLoRALinear
    from ixc.model.vision import VisionTower

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

_MODULES = {
    "Decoder": "decoder",
    "IxcConfig": "configuration",
    "IxcForConditionalGeneration": "modeling",
    "IxcModel": "modeling",
    "IxcTextConfig": "configuration",
    "IxcVisionConfig": "configuration",
    "PLoRALinear": "plora",
    "VisionTower": "vision",
    "import_weights": "conversion",
    "load": "loading",
}
__getattr__ = lookup(__name__, _MODULES)
