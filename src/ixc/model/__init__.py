"""The model: vision tower, projector merge, Partial LoRA, decoder, and its files of weights.

    pixels -> vision.py -> projector_merge.py -> image_features.py (order, newlines) -> modeling.py
    modeling.py <- decoder.py <- blocks.py <- attention.py, plora.py, rope.py;  generation.py: hooks of `generate`
    checkpoint_files.py, tensor_files.py, key_mapping.py <- loading.py, conversion.py, quantization/: files of weights

Names are imported on first use: `import ixc.model` alone imports no torch.
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
