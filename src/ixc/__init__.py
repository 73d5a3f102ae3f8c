"""InternLM-XComposer2-4KHD on today's transformers: reads images from 336 px to 4K HD.

    import ixc
    ixc.load().ask(["page.png"], "What is the title?").text

Public names are looked up on first use, so that `import ixc` imports no torch; it does register the model with the Auto
classes of transformers (see `ixc.auto`).
"""

from typing import TYPE_CHECKING

from ixc.auto import watch as _watch
from ixc.utils.lazy_imports import lookup

if TYPE_CHECKING:
    from ixc.core.tiling import partition
    from ixc.errors import IxcError
    from ixc.inference.engine import load
    from ixc.model.configuration import IxcConfig
    from ixc.model.modeling import IxcForConditionalGeneration
    from ixc.processing.image_io import open_image
    from ixc.processing.processing import IxcProcessor

__version__ = "0.1.0"

_MODULES = {
    "IxcConfig": "model.configuration",
    "IxcError": "errors",
    "IxcForConditionalGeneration": "model.modeling",
    "IxcProcessor": "processing.processing",
    "load": "inference.engine",
    "open_image": "processing.image_io",
    "partition": "core.tiling",
}
__getattr__ = lookup(__name__, _MODULES)

__all__ = [
    "IxcConfig",
    "IxcError",
    "IxcForConditionalGeneration",
    "IxcProcessor",
    "load",
    "open_image",
    "partition",
]


_watch()
