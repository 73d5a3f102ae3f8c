"""Checkpoints that survive anything: written beside, summed, renamed; a broken one is skipped, the one before is used.

out/step-00000120/   .metadata  __RANK_0.distcp ...  progress.json  manifest.json (SHA-256 of all the others)

The tensors are in torch's distributed format (DCP): every rank writes its own shards, and a run may go on with another
number of ranks, one included. Every rank sums the files it wrote, and checks its part of them before they are read.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.distributed.checkpoint as dcp
from torch import Tensor
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.metadata import TensorStorageMetadata

from ixc.errors import DataError
from ixc.train.distributed import ProcessGroup

log = logging.getLogger(__name__)

MANIFEST, PROGRESS, INDEX = "manifest.json", "progress.json", ".metadata"
_PREFIX = "step-"

ALONE = ProcessGroup()
"""One process."""


@dataclass(frozen=True, kw_only=True)
class FoundCheckpoint:
    """A whole checkpoint on the disk."""

    folder: Path
    """Where it is."""
    progress: dict[str, Any]
    """Numbers: the step reached, the place in the data, the settings of the run."""
    tensors: dict[str, tuple[torch.Size, torch.dtype]]
    """Name -> shape and dtype of what it holds."""


def save(tensors: dict[str, Tensor], progress: Mapping[str, Any], out: Path, *, team: ProcessGroup = ALONE) -> Path:
    """Writes `out/step-N`; its name appears once all bytes are on disk. All ranks call it, on one file system.

    Args:
        tensors: name -> tensor, sharded or not.
        progress: as `FoundCheckpoint.progress`.

    Raises:
        DataError: the disk refuses.
    """
    folder = out / f"{_PREFIX}{progress['step']:08d}"
    beside = out / f".{folder.name}.partial"
    try:
        if team.leads:
            shutil.rmtree(beside, ignore_errors=True)
            beside.mkdir(parents=True)
        team.wait()
        with _by_one_process():
            dcp.save(tensors, storage_writer=dcp.FileSystemWriter(beside), no_dist=team.ranks == 1)
        mine = [path for path in beside.iterdir() if path.name.startswith(f"__{team.rank}_")]
        sums = {name: value for part in team.gathered(_sums(mine)) for name, value in part.items()}
        if team.leads:
            _finish(beside, folder, progress, sums)
    except (OSError, CheckpointException) as error:
        raise DataError(f"{folder} cannot be written ({_reason(error)}); free some space, then resume") from error
    team.wait()
    return folder


def _finish(beside: Path, folder: Path, progress: Mapping[str, Any], sums: dict[str, str]) -> None:
    """The leading rank's part: progress, manifest, onto the disk, and the name."""
    (beside / PROGRESS).write_text(json.dumps(progress, indent=1))
    sums |= _sums([beside / INDEX, beside / PROGRESS])
    (beside / MANIFEST).write_text(json.dumps(sums, indent=1))
    for path in (*beside.iterdir(), beside):
        _sync(path)
    shutil.rmtree(folder, ignore_errors=True)
    os.replace(beside, folder)
    _sync(folder.parent)


def prune(out: Path, *, keep: int = 2) -> None:
    """Deletes all checkpoints but the newest; at least two stay, for the day the last one breaks."""
    for old in found(out)[:-keep]:
        shutil.rmtree(old, ignore_errors=True)


def found(out: Path) -> list[Path]:
    """Folders of checkpoints, oldest first, whole or not."""
    return sorted(out.glob(f"{_PREFIX}*")) if out.is_dir() else []


def latest(out: Path, *, team: ProcessGroup = ALONE) -> FoundCheckpoint | None:
    """The newest whole checkpoint, or None if there is no folder of one; broken ones are logged and skipped.

    Raises:
        DataError: there are folders and none is whole.
    """
    folders = found(out)
    for folder in reversed(folders):
        broken = next((said for said in team.gathered(_broken(folder, team)) if said), None)
        if broken is None:
            return _described(folder)
        if team.leads:
            log.warning("%s is skipped: %s; the one before is used", folder, broken)
    if folders:
        raise DataError(f"{out} has {len(folders)} checkpoints and 0 are whole; delete them to start afresh")
    return None


def read_into(tensors: dict[str, Tensor], folder: Path, *, team: ProcessGroup = ALONE) -> None:
    """Fills tensors from a checkpoint, each rank its own shards of them.

    Raises:
        DataError: a tensor is missing or has another shape.
    """
    try:
        with _by_one_process():
            dcp.load(tensors, storage_reader=dcp.FileSystemReader(folder), no_dist=team.ranks == 1)
    except (OSError, CheckpointException) as error:
        raise DataError(f"{folder} cannot be read ({_reason(error)}); delete it, then resume") from error


def _described(folder: Path) -> FoundCheckpoint:
    index = dcp.FileSystemReader(folder).read_metadata().state_dict_metadata
    tensors = {
        name: (one.size, one.properties.dtype) for name, one in index.items() if isinstance(one, TensorStorageMetadata)
    }
    return FoundCheckpoint(folder=folder, progress=json.loads((folder / PROGRESS).read_text()), tensors=tensors)


def _broken(folder: Path, team: ProcessGroup) -> str | None:
    """What is wrong with this rank's part of the files, or None."""
    try:
        wanted: Mapping[str, str] = json.loads((folder / MANIFEST).read_text())
        names = sorted(wanted)[team.rank :: team.ranks]
        wrong = [name for name, value in _sums([folder / name for name in names]).items() if wanted[name] != value]
    except (OSError, ValueError) as error:
        return f"incomplete ({error})"
    return f"the checksum of {', '.join(wrong)} differs" if wrong else None


@contextmanager
def _by_one_process() -> Iterator[None]:
    """DCP warns of a process without others, even one that says so."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "torch.distributed is disabled", UserWarning)
        yield


def _sums(paths: list[Path]) -> dict[str, str]:
    found = {}
    for path in paths:
        with path.open("rb") as file:
            found[path.name] = hashlib.file_digest(file, "sha256").hexdigest()
    return found


def _reason(error: BaseException) -> str:
    """The first cause: DCP wraps what every rank met."""
    if isinstance(error, CheckpointException) and error.failures:
        error = next(iter(error.failures.values()))[0]
    text = getattr(error, "strerror", None) or str(error)
    return " ".join(text.split())[:200]


def _sync(path: Path) -> None:
    """Onto the disk, not only into its cache."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
