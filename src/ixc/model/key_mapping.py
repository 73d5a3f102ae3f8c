"""The published names of the weights and ours, one table for both directions (spec k).

The published files call a linear map ``attention.wqkv.weight`` and its addition ``attention.wqkv.Plora_A.weight``;
here the map is the ``base`` beside ``Plora_A`` and ``Plora_B``. Folders written by ``save_pretrained`` carry the
published names again, so every tool that read the original files reads ours.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers.core_model_loading import WeightRenaming

MODEL_TYPE = "ixc"
"""The ``model_type`` of folders written by this package."""

PREFIXES = {
    "vit.vision_tower.vision_model.": "model.vision_tower.",
    "vision_proj.": "model.vision_proj.",
    "merge.": "model.merge.",
    "plora_glb_GN": "model.plora_glb_GN",
    "plora_sub_GN": "model.plora_sub_GN",
    "model.tok_embeddings.": "model.language_model.tok_embeddings.",
    "model.layers.": "model.language_model.layers.",
    "model.norm.": "model.language_model.norm.",
}
"""How published keys begin -> how ours begin. ``output.weight`` is the same in both; ``merge.`` is ours alone."""

PLORA_LINEARS = ("attention.wqkv", "attention.wo", "feed_forward.w1", "feed_forward.w2", "feed_forward.w3")
"""The linear maps of a layer that carry a PLoRA."""

IGNORED_KEYS = (r"\.position_ids$", r"\.post_layernorm\.(weight|bias)$")
"""Keys a file may hold that the model has no use for: constant positions, and CLIP's unused last norm (spec k)."""


def renamings() -> list[WeightRenaming]:
    """The table as transformers wants it, published -> ours; it reverses it by itself on saving."""
    from transformers.core_model_loading import WeightRenaming

    pairs = [(f"^{re.escape(old)}", f"^{re.escape(new)}") for old, new in PREFIXES.items()]
    pairs += [(re.escape(f"{name}.weight"), re.escape(f"{name}.base.weight")) for name in PLORA_LINEARS]
    return [WeightRenaming(old, new) for old, new in pairs]


def published_name(key: str) -> str:
    """Our name of a parameter -> the published one."""
    for old, new in PREFIXES.items():
        if key.startswith(new):
            key = old + key.removeprefix(new)
            break
    return key.replace(".base.weight", ".weight")


def own_name(key: str) -> str:
    """The published name of a parameter -> ours; ours stays as it is."""
    for old, new in PREFIXES.items():
        if key.startswith(old):
            key = new + key.removeprefix(old)
            break
    linear = key.removesuffix(".weight")
    return f"{linear}.base.weight" if key != linear and linear.endswith(PLORA_LINEARS) else key


def is_ignored(key: str) -> bool:
    """True for keys of ``IGNORED_KEYS``."""
    return any(re.search(pattern, key) for pattern in IGNORED_KEYS)


def register_renamings() -> None:
    """Gives the table to transformers, for ``from_pretrained`` and ``save_pretrained``."""
    from transformers.conversion_mapping import register_checkpoint_conversion_mapping

    register_checkpoint_conversion_mapping(MODEL_TYPE, [*renamings()], overwrite=True)
