"""LoRA adapters that vLLM serves beside the model, each under a name of its own: looked at before vLLM starts.

    NAME=DIR --parse--> names and folders --check--> --enable-lora --lora-modules ... --max-lora-rank r

vLLM adds adapters to its own maps: those of the reader (wqkv, wo, w1, w2, w3), beside PLoRA. The eyes and the projector
are not vLLM's, so an adapter of theirs is refused here; `ixc merge` makes a folder of it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ixc.errors import UsageError

RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)
"""Ranks vLLM makes room for."""

SETTINGS, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
"""PEFT's files."""

READER = re.compile(r"\.language_model\..*\.base\.lora_[AB]\.weight$")
"""Tensors that vLLM has a place for."""


def parse(words: Sequence[str]) -> dict[str, Path]:
    """NAME=DIR of a command -> folders by name.

    Raises:
        UsageError: another form, a name given twice.
    """
    found: dict[str, Path] = {}
    for word in words:
        name, equals, folder = word.partition("=")
        if not (name and equals and folder):
            raise UsageError(f"--lora {word!r} is no NAME=DIR; write --lora passes=runs/passes")
        if name in found:
            raise UsageError(f"--lora names {name!r} twice; give each adapter a name of its own")
        found[name] = _folder(Path(folder))
    return found


def options(adapters: Mapping[str, Path], *, model: str) -> dict[str, tuple[str, ...]]:
    """vLLM's options, each with its words; none without adapters.

    Args:
        model: the name of the model itself.

    Raises:
        UsageError: a name is the model's, or an adapter that vLLM cannot serve.
    """
    if not adapters:
        return {}
    if model in adapters:
        raise UsageError(
            f"the model itself is named {model!r}; give the adapter another name, or the model with --name"
        )
    rank = max(_check(folder) for folder in adapters.values())
    room = next((size for size in RANKS if size >= rank), None)
    if room is None:
        raise UsageError(f"an adapter has rank {rank}, vLLM takes {RANKS[-1]} at most; fold it in with `ixc merge`")
    modules = tuple(json.dumps({"name": name, "path": str(folder)}) for name, folder in adapters.items())
    return {
        "--enable-lora": (),
        "--max-loras": (str(len(adapters)),),
        "--max-lora-rank": (str(room),),
        "--lora-modules": modules,
    }


def _folder(path: Path) -> Path:
    """An adapter's own folder, or a finished run's."""
    for folder in (path, path / "adapter"):
        if (folder / SETTINGS).is_file():
            return folder.resolve()
    raise UsageError(f"{path} has no {SETTINGS}; name a run of an adapter stage, or an adapter's folder")


def _check(folder: Path) -> int:
    """The rank of an adapter that vLLM can serve."""
    settings = _settings(folder)
    outside = [name for name in _names(folder) if not READER.search(name)]
    if outside or settings.get("modules_to_save"):
        raise UsageError(
            f"{folder} teaches more than the reader ({len(outside)} tensors, first {outside[:1]}), and vLLM serves "
            f"adapters of the reader alone; fold it in with `ixc merge {folder} NEW` and serve NEW"
        )
    ranks = [settings.get("r"), *(settings.get("rank_pattern") or {}).values()]
    if not all(type(rank) is int and rank > 0 for rank in ranks):
        raise UsageError(f"{folder}: r is {settings.get('r')!r}, a whole number above 0 needed; copy the adapter again")
    return max(ranks)


def _settings(folder: Path) -> dict[str, Any]:
    try:
        found = json.loads((folder / SETTINGS).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UsageError(f"{folder / SETTINGS} is not JSON ({error}); copy the adapter again") from error
    if not isinstance(found, dict):
        raise UsageError(f"{folder / SETTINGS} holds a {type(found).__name__}, a JSON object needed")
    return found


def _names(folder: Path) -> list[str]:
    """Names of its tensors."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(folder / WEIGHTS, framework="np") as file:
            return list(file.keys())
    except (OSError, SafetensorError) as error:
        raise UsageError(f"{folder / WEIGHTS} cannot be read ({error}); copy the adapter again") from error
