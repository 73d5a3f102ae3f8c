"""A training state on disk: written beside and renamed, so that a kill at any moment leaves the last whole one.

What a state holds: every tensor and number that the next step depends on. The data of a step is drawn from
(seed, step) alone, so nothing else is needed to go on exactly where a run stopped.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

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


def start(module: nn.Module, path: Path | None, *, part: str) -> None:
    """Begin from the weights of an earlier run instead of from nothing.

    Args:
        path: safetensors file with the keys of several modules, each below its name; None leaves the module as it is.
        part: name of this module in the file.

    Raises:
        DataError: the file is missing, damaged, or does not fit the module.
    """
    if path is None:
        return
    try:
        weights = load_file(path)
        mine = {k.removeprefix(f"{part}."): v.float() for k, v in weights.items() if k.startswith(f"{part}.")}
        module.load_state_dict(mine)
    except (OSError, SafetensorError, RuntimeError) as error:
        raise DataError(f"{path} cannot start {part} ({str(error)[:200]}); take the file of the same recipe") from error


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
