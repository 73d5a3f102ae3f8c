"""Sizes of a native folder's model, read without torch; `standalone.py` builds its layers from them.

The full configuration is in `configuration.py`; importing its base class takes half as long as importing torch.
`read_sizes` declines odd or missing values: the full configuration then reports what is wrong with them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from ixc.errors import UsageError
from ixc.model.key_mapping import MODEL_TYPE

MERGES = ("concat", "c_abstractor", "resampler")
"""The three variants of the paper (table 9) that turn 576 patches into 144 tokens."""

VISION_ACTIVATIONS = ("quick_gelu", "gelu")
"""Values of ``hidden_act`` of the vision tower."""

PLAIN = "plain"
"""Name of torch's attention without transformers, for one prompt without padding: see ``attention.py``."""

BITS = (8, 4)
"""Bits of quantized weights."""


def check_bits(bits: int) -> None:
    """Check the bits of quantized weights. Raises: UsageError: they are not in ``BITS``."""
    if bits not in BITS:
        raise UsageError(f"bits is {bits}, it must be 8 or 4")


@dataclass(frozen=True, kw_only=True)
class VisionSizes:
    """Fields of ``IxcVisionConfig`` that the forward pass reads."""

    hidden_size: int
    intermediate_size: int
    num_hidden_layers: int
    num_attention_heads: int
    image_size: int
    patch_size: int
    num_channels: int
    hidden_act: str
    layer_norm_eps: float
    attention_dropout: float = 0.0
    _attn_implementation: str = PLAIN

    @property
    def patches_per_side(self) -> int:
        """Patches on one side of a tile."""
        return self.image_size // self.patch_size


@dataclass(frozen=True, kw_only=True)
class TextSizes:
    """Fields of ``IxcTextConfig`` that the forward pass reads."""

    vocab_size: int
    hidden_size: int
    intermediate_size: int
    num_hidden_layers: int
    num_attention_heads: int
    num_key_value_heads: int
    head_dim: int
    max_position_embeddings: int
    rms_norm_eps: float
    pad_token_id: int
    eos_token_id: int | list[int]
    rope_parameters: dict[str, Any]
    plora_r: int
    plora_alpha: float
    plora_qkv_r: int
    plora_qkv_alpha: float
    plora_dropout: float = 0.0
    attention_dropout: float = 0.0
    _attn_implementation: str = PLAIN


@dataclass(frozen=True, kw_only=True)
class ModelSizes:
    """Fields of ``IxcConfig`` that the forward pass reads."""

    vision_config: VisionSizes
    text_config: TextSizes
    image_token_id: int
    merge: str
    newline: bool
    overview: bool


def read_sizes(folder: Path) -> ModelSizes | None:
    """Read the sizes in a folder's config.json; None where the full loader must decide (other layouts, odd values).

    Args:
        folder: model folder; its config.json is a JSON object.
    """
    found = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    if found.get("model_type") != MODEL_TYPE or "quantization_config" in found:
        return None
    vision, text = _sizes(VisionSizes, found.get("vision_config")), _sizes(TextSizes, found.get("text_config"))
    if vision is None or text is None:
        return None
    whole = _sizes(ModelSizes, {**found, "vision_config": vision, "text_config": text})
    return whole if whole is not None and _fits(whole) else None


def _sizes(kind: Any, given: Any) -> Any:
    """Build a dataclass of sizes; None where a field is missing or of another type than its annotation."""
    if not isinstance(given, Mapping):
        return None
    wanted = {field.name: field for field in fields(kind) if not field.name.startswith("_")}
    if any(name not in given for name in wanted):
        return None
    whole = {"int": (int,), "float": (int, float), "bool": (bool,), "str": (str,), "dict[str, Any]": (dict,)}
    for name, field in wanted.items():
        types = whole.get(str(field.type))
        if types is not None and type(given[name]) not in types:
            return None
    return kind(**{name: given[name] for name in wanted})


def _fits(sizes: ModelSizes) -> bool:
    """Return whether the layers support every value."""
    vision, text = sizes.vision_config, sizes.text_config
    counts = [value for part in (vision, text) for value in vars(part).values() if type(value) is int]
    rope = text.rope_parameters
    return (
        min(counts) >= 0
        and min(vision.num_attention_heads, vision.patch_size, text.num_key_value_heads, text.plora_r) > 0
        and vision.hidden_size % vision.num_attention_heads == 0
        and vision.image_size % vision.patch_size == 0
        and text.num_attention_heads % text.num_key_value_heads == 0
        and vision.hidden_act in VISION_ACTIVATIONS
        and sizes.merge in MERGES
        and set(rope) == {"rope_type", "rope_theta"}
        and rope["rope_type"] == "default"
    )


__all__ = ["MERGES", "PLAIN", "VISION_ACTIVATIONS", "ModelSizes", "TextSizes", "VisionSizes", "read_sizes"]
