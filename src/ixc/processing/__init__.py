"""Pictures and text -> tensors: image processor, tokenizers and the processor that joins them."""

from typing import TYPE_CHECKING, Any

from ixc.utils.lazy_imports import lookup

if TYPE_CHECKING:
    from ixc.processing.image_io import open_image
    from ixc.processing.image_processing import IxcImageProcessorPil
    from ixc.processing.processing import IxcProcessor
    from ixc.processing.tokenization import IxcTokenizer, character_tokenizer

__all__ = [
    "IxcImageProcessorPil",
    "IxcProcessor",
    "IxcTokenizer",
    "character_tokenizer",
    "open_image",
    "register",
]

_MODULES = {
    "IxcImageProcessorPil": "image_processing",
    "IxcProcessor": "processing",
    "IxcTokenizer": "tokenization",
    "character_tokenizer": "tokenization",
    "open_image": "image_io",
}
__getattr__ = lookup(__name__, _MODULES)

_PUBLISHED_TOKENIZERS = ("InternLMXComposer2Tokenizer", "InternLM2Tokenizer")
"""Names a published `tokenizer_config.json` may give its class; they lead to ours instead of to remote code."""


def register(config_class: Any) -> None:
    """Makes AutoTokenizer, AutoImageProcessor and AutoProcessor know this room's classes for a model's config class.

    The config class comes as an argument: the rooms of the model and of processing do not know each other.
    """
    from transformers import AutoImageProcessor, AutoProcessor, AutoTokenizer

    from ixc.processing.image_processing import IxcImageProcessorPil
    from ixc.processing.processing import IxcProcessor
    from ixc.processing.tokenization import IxcTokenizer

    for name in _PUBLISHED_TOKENIZERS:
        alias = type(name, (IxcTokenizer,), {"__doc__": "The published name of IxcTokenizer."})
        AutoTokenizer.register(
            config_class, slow_tokenizer_class=alias, fast_tokenizer_class=IxcTokenizer, exist_ok=True
        )
    AutoTokenizer.register(config_class, fast_tokenizer_class=IxcTokenizer, exist_ok=True)
    AutoImageProcessor.register(config_class, image_processor_classes={"pil": IxcImageProcessorPil}, exist_ok=True)
    AutoProcessor.register(config_class, IxcProcessor, exist_ok=True)
