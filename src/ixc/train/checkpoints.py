"""Checkpoints that survive anything: written beside, summed, renamed; a broken one is skipped, the one before is used.

out/step-00000120/   trained.safetensors   optimizer.pt   progress.json   manifest.json (SHA-256 of the others)
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from ixc.errors import DataError

log = logging.getLogger(__name__)

MANIFEST = "manifest.json"
_PREFIX = "step-"


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """All that the next step depends on."""

    trained: dict[str, torch.Tensor]
    """Parameters that learn, by name."""
    optimizer: dict[str, Any]
    """State of the optimiser."""
    progress: dict[str, Any]
    """Numbers: the step reached, the place in the data, the settings of the run."""


def save(checkpoint: Checkpoint, out: Path, *, keep: int = 2) -> Path:
    """Writes `out/step-N`; its name appears once all bytes are on disk. Older ones beyond `keep` are deleted.

    Raises:
        DataError: the disk refuses.
    """
    folder = out / f"{_PREFIX}{checkpoint.progress['step']:08d}"
    beside = out / f".{folder.name}.partial"
    try:
        shutil.rmtree(beside, ignore_errors=True)
        beside.mkdir(parents=True)
        save_file(
            {name: value.contiguous() for name, value in checkpoint.trained.items()}, beside / "trained.safetensors"
        )
        torch.save(checkpoint.optimizer, beside / "optimizer.pt")
        (beside / "progress.json").write_text(json.dumps(checkpoint.progress, indent=1))
        sums = {path.name: _sum(path) for path in sorted(beside.iterdir())}
        (beside / MANIFEST).write_text(json.dumps(sums, indent=1))
        for path in (*beside.iterdir(), beside):
            _sync(path)
        shutil.rmtree(folder, ignore_errors=True)
        os.replace(beside, folder)
        _sync(out)
    except OSError as error:
        raise DataError(
            f"{folder} cannot be written ({error.strerror or error}); free some space, then resume"
        ) from error
    for old in found(out)[:-keep]:
        shutil.rmtree(old, ignore_errors=True)
    return folder


def found(out: Path) -> list[Path]:
    """Folders of checkpoints, oldest first, whole or not."""
    return sorted(out.glob(f"{_PREFIX}*")) if out.is_dir() else []


def latest(out: Path) -> Checkpoint | None:
    """The newest whole checkpoint, or None if there is no folder of one; broken ones are logged and skipped.

    Raises:
        DataError: there are folders and none is whole.
    """
    folders = found(out)
    for folder in reversed(folders):
        broken = _broken(folder)
        if broken is None:
            return _read(folder)
        log.warning("%s is skipped: %s; the one before is used", folder, broken)
    if folders:
        raise DataError(f"{out} has {len(folders)} checkpoints and 0 are whole; delete them to start afresh")
    return None


def _broken(folder: Path) -> str | None:
    """What is wrong with it, or None."""
    try:
        sums: Mapping[str, str] = json.loads((folder / MANIFEST).read_text())
        wrong = [name for name, expected in sums.items() if _sum(folder / name) != expected]
    except (OSError, ValueError) as error:
        return f"incomplete ({error})"
    return f"the checksum of {', '.join(wrong)} differs" if wrong else None


def _read(folder: Path) -> Checkpoint:
    return Checkpoint(
        trained=load_file(folder / "trained.safetensors"),
        optimizer=torch.load(folder / "optimizer.pt", weights_only=True),
        progress=json.loads((folder / "progress.json").read_text()),
    )


def _sum(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sync(path: Path) -> None:
    """Onto the disk, not only into its cache."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
