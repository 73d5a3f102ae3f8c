"""InternLM-XComposer2-4KHD on today's transformers: reads images from 336 px to 4K HD.

    import ixc
    model = ixc.load()
    model.ask(["page.png"], "What is the title?").text
    model.batch([ixc.Query(["a.png"], "What is the title?"), ixc.Query(["b.png"], "What is the Total?", hd=4)])

Public names are looked up on first use, so that `import ixc` imports no torch; it does register the model with the Auto
classes of transformers (see `ixc.auto`).
"""

from typing import TYPE_CHECKING

from ixc.auto import watch as _watch
from ixc.utils.lazy_imports import lookup

if TYPE_CHECKING:
    from ixc.auto import register
    from ixc.core.tiling import partition
    from ixc.errors import IxcError
    from ixc.inference.engine import Model, load
    from ixc.inference.query import Query
    from ixc.inference.request import Answer
    from ixc.inference.sampling import Sampling
    from ixc.model.configuration import IxcConfig
    from ixc.model.modeling import IxcForConditionalGeneration
    from ixc.processing.image_io import open_image
    from ixc.processing.processing import IxcProcessor

__version__ = "0.1.0"

_MODULES = {
    "Answer": "inference.request",
    "IxcConfig": "model.configuration",
    "IxcError": "errors",
    "IxcForConditionalGeneration": "model.modeling",
    "IxcProcessor": "processing.processing",
    "Model": "inference.engine",
    "Query": "inference.query",
    "Sampling": "inference.sampling",
    "load": "inference.engine",
    "open_image": "processing.image_io",
    "partition": "core.tiling",
    "register": "auto",
}
__getattr__ = lookup(__name__, _MODULES)

__all__ = [
    "Answer",
    "IxcConfig",
    "IxcError",
    "IxcForConditionalGeneration",
    "IxcProcessor",
    "Model",
    "Query",
    "Sampling",
    "load",
    "open_image",
    "partition",
    "register",
]


_watch()
