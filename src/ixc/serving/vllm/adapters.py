"""LoRA adapters that vLLM serves beside the model, each under a name of its own: checked before vLLM starts.

    NAME -> folder --check--> --enable-lora --lora-modules ... --max-lora-rank r --lora-target-modules base

vLLM adds an adapter to its own linear layers: W of the decoder's wqkv, wo, w1, w2 and w3 (`layers.py`), beside PLoRA.
wqkv is fused in the published order of rows, in which an adapter's B is trained, so B fits as it is. The vision encoder
and the projector are not vLLM's layers; an adapter of theirs is refused, and `ixc merge` makes a folder of it. vLLM is
not imported here; for its CPU kernels see `cpu_adapters.py`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ixc.errors import UsageError
from ixc.inference.cost import ModelGeometry
from ixc.utils.files import read_json_object

RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)
"""Values of vLLM's --max-lora-rank (`MaxLoRARanks`, vLLM 0.32)."""

CONFIG_FILE, WEIGHTS_FILE = "adapter_config.json", "adapter_model.safetensors"
"""PEFT's files."""

TARGET = "base"
"""Last name of the layers that adapters act on; without it vLLM would also keep room beside PLoRA's A and B."""

DECODER = re.compile(r"\.language_model\..*\.base\.lora_[AB]\.weight$")
"""Names of the tensors that vLLM has a place for."""

WITHOUT = ("modules_to_save", "use_dora", "lora_bias", "layer_replication")
"""Settings of PEFT that vLLM 0.32 does not apply to a language model."""


def adapter_options(adapters: Mapping[str, Path], *, model: str) -> tuple[str, ...]:
    """Return vLLM's options; none without adapters.

    Args:
        adapters: folders in PEFT's layout, by the names clients ask for.
        model: the name of the model itself.

    Raises:
        UsageError: a name is the model's, or an adapter that vLLM cannot serve.
    """
    if not adapters:
        return ()
    if model in adapters:
        raise UsageError(
            f"the model itself is named {model!r}; give the adapter another name, or the model with --name"
        )
    modules = [json.dumps({"name": name, "path": str(folder)}) for name, folder in adapters.items()]
    return (
        *("--enable-lora", "--max-loras", str(len(adapters)), "--max-lora-rank", str(max_rank(adapters))),
        *("--lora-target-modules", TARGET, "--lora-modules", *modules),
    )


def max_rank(adapters: Mapping[str, Path]) -> int:
    """Return the rank vLLM makes room for.

    Raises:
        UsageError: an adapter that vLLM cannot serve.
    """
    ranks = {folder: _rank(folder) for folder in adapters.values()}
    folder = max(ranks, key=lambda each: ranks[each])
    room = next((size for size in RANKS if size >= ranks[folder]), None)
    if room is None:
        raise UsageError(
            f"{folder} has rank {ranks[folder]}, vLLM takes {RANKS[-1]} at most; merge it with `ixc merge {folder} NEW`"
        )
    return room


def adapter_bytes(adapters: Mapping[str, Path], geometry: ModelGeometry, *, itemsize: int) -> int:
    """Return the memory of vLLM's room for adapters: A and B of the largest rank beside each matrix.

    Args:
        geometry: sizes of the model.
        itemsize: bytes of a number.
    """
    if not adapters:
        return 0
    attention = geometry.heads * geometry.head_dim
    sides = geometry.width + geometry.qkv_width + attention + geometry.width + 3 * (geometry.width + geometry.mlp)
    return len(adapters) * max_rank(adapters) * sides * geometry.layers * itemsize


def _rank(folder: Path) -> int:
    """Return the highest rank of an adapter after checking that vLLM can serve it."""
    settings = read_json_object(folder / CONFIG_FILE, error=UsageError, remedy="copy the adapter again")
    outside = [name for name in _names(folder) if not DECODER.search(name)]
    wrong = [name for name in WITHOUT if settings.get(name)]
    if outside or wrong:
        why = f"uses {', '.join(wrong)}" if wrong else f"changes {outside[0]}, which is outside the decoder's matrices"
        raise UsageError(f"{folder} {why}, and vLLM cannot serve that; merge it with `ixc merge {folder} NEW`")
    ranks = [settings.get("r"), *_object(settings.get("rank_pattern")).values()]
    if not all(type(rank) is int and rank > 0 for rank in ranks):
        raise UsageError(f"{folder}: r is {settings.get('r')!r}, a whole number above 0 needed; copy the adapter again")
    return max(ranks)


def _object(given: Any) -> dict[str, Any]:
    return given if isinstance(given, dict) else {}


def _names(folder: Path) -> list[str]:
    """Return the names of an adapter's tensors."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(folder / WEIGHTS_FILE, framework="np") as file:
            return list(file.keys())
    except (OSError, SafetensorError) as error:
        raise UsageError(f"{folder / WEIGHTS_FILE} cannot be read ({error}); copy the adapter again") from error
