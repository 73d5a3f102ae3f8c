"""A training state on disk: written beside and renamed, so that a kill at any moment leaves the last whole one.

What a state holds: every tensor and number that the next step depends on. The data of a step is drawn from
(seed, step) alone, so nothing else is needed to go on exactly where a run stopped.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch

from ixc.errors import DataError


def save(state: dict[str, Any], path: Path) -> None:
    """Write a state; the name changes only once the bytes are on disk."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_suffix(".partial")
    with open(beside, "wb") as file:
        torch.save(state, file)
        file.flush()
        os.fsync(file.fileno())
    os.replace(beside, path)


def load(path: Path) -> dict[str, Any] | None:
    """The state at a path, or None if there is none.

    Raises:
        DataError: the file is not a whole state.
    """
    if not path.exists():
        return None
    try:
        return torch.load(path, weights_only=True)
    except Exception as error:
        raise DataError(f"{path} is not a whole training state ({error}); delete it to start afresh") from error
