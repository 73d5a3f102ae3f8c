"""A training state on disk: written beside and renamed, so that a kill at any moment leaves the last whole one.

A state holds every tensor and number that the next step depends on. The data of a step is drawn from (seed, step)
alone, so a resumed run continues exactly where it stopped.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch

from ixc.errors import DataError
from ixc.utils.files import atomic_file

OLD_KEYS = {
    "spotter": "classifier",
    "reader": "model",
    "eyes": "vision",
    "symbols": "glyph_tokens",
    "bearings": "probes",
    "turns": "slot_rotations",
    "marks": "special_embeddings",
    "aloud": "line_copying",
}
"""Names in states written before 30 November 2026 -> today's: of entries, and of the modules in weights' names."""


def save(state: dict[str, Any], path: Path) -> None:
    """Write a state; the file takes its name only once its bytes are on disk."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_file(path) as draft, open(draft, "wb") as file:
        torch.save(state, file)
        file.flush()
        os.fsync(file.fileno())


def load(path: Path, *, old: str | None = None) -> dict[str, Any] | None:
    """Read the state at a path, or return None if there is none.

    Args:
        path: file of the state.
        old: name of the same file in versions before 30 November 2026, read where `path` does not exist; its entries
            are returned under today's names.

    Raises:
        DataError: the file is not a whole state.
    """
    source = path if path.exists() or old is None else path.with_name(old)
    if not source.exists():
        return None
    try:
        return renamed(torch.load(source, weights_only=True))
    except Exception as error:
        raise DataError(f"{source} is not a whole training state ({error}); delete it to start afresh") from error


def renamed(found: Any) -> Any:
    """Entries under today's names, `OLD_KEYS` replaced part by part: `symbols.turns` -> `glyph_tokens.slot_rotations`.

    Optimizer states keep their integer keys; weights of the published model hold none of the old names.
    """
    if isinstance(found, dict):
        return type(found)((_renamed_key(key), renamed(value)) for key, value in found.items())
    if isinstance(found, list):
        return [renamed(value) for value in found]
    return found


def _renamed_key(key: Any) -> Any:
    return ".".join(OLD_KEYS.get(part, part) for part in key.split(".")) if isinstance(key, str) else key
