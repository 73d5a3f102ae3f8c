"""Names of the weights: the published keys and ours, in one table for both directions (spec k).

The published files call a linear map ``attention.wqkv.weight`` and its low-rank update
``attention.wqkv.Plora_A.weight``; here the map is ``base``, beside ``Plora_A`` and ``Plora_B``.
Folders written by ``save_pretrained`` carry the
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
"""Prefix of the published keys -> prefix of ours. ``output.weight`` is the same in both; ``merge.`` is ours alone."""

PLORA_LINEARS = ("attention.wqkv", "attention.wo", "feed_forward.w1", "feed_forward.w2", "feed_forward.w3")
"""The linear maps of a layer that carry a PLoRA."""

IGNORED_KEYS = (r"\.position_ids$", r"\.post_layernorm\.(weight|bias)$")
"""Keys a file may hold and the model does not use: constant positions, and CLIP's last norm (spec k)."""


def renamings() -> list[WeightRenaming]:
    """Return the table in the form of transformers, published -> ours; transformers reverses it on saving."""
    from transformers.core_model_loading import WeightRenaming

    pairs = [(f"^{re.escape(old)}", f"^{re.escape(new)}") for old, new in PREFIXES.items()]
    pairs += [(re.escape(f"{name}.weight"), re.escape(f"{name}.base.weight")) for name in PLORA_LINEARS]
    return [WeightRenaming(old, new) for old, new in pairs]


def published_name(key: str) -> str:
    """Convert our name of a parameter to the published one."""
    for old, new in PREFIXES.items():
        if key.startswith(new):
            key = old + key.removeprefix(new)
            break
    return key.replace(".base.weight", ".weight")


def own_name(key: str) -> str:
    """Convert the published name of a parameter to ours; our own name stays as it is."""
    for old, new in PREFIXES.items():
        if key.startswith(old):
            key = new + key.removeprefix(old)
            break
    linear = key.removesuffix(".weight")
    return f"{linear}.base.weight" if key != linear and linear.endswith(PLORA_LINEARS) else key


def is_ignored(key: str) -> bool:
    """Return True for keys that match ``IGNORED_KEYS``."""
    return any(re.search(pattern, key) for pattern in IGNORED_KEYS)


def register_renamings() -> None:
    """Register the table with transformers, for ``from_pretrained`` and ``save_pretrained``."""
    from transformers.conversion_mapping import register_checkpoint_conversion_mapping

    register_checkpoint_conversion_mapping(MODEL_TYPE, [*renamings()], overwrite=True)
