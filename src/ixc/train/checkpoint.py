"""Checkpoints that survive a kill at any moment: written under another name, checksummed, renamed.

out/step-00000120/   .metadata  __RANK_0.distcp ...  progress.json  manifest.json (SHA-256 of all the others)

The tensors are in torch's distributed format (DCP): every rank writes its own shards, and a run may go on with another
number of ranks, one included. Every rank hashes the files it wrote, and verifies its share of the files before they are
read. A checkpoint with a wrong checksum is skipped and the one before it is used.

`utils.files.atomic_folder` is not used because here several processes write into one folder.
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
from torch import Tensor
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.filesystem import FileSystemReader, FileSystemWriter
from torch.distributed.checkpoint.metadata import TensorStorageMetadata
from torch.distributed.checkpoint.state_dict_loader import load as dcp_load
from torch.distributed.checkpoint.state_dict_saver import save as dcp_save

from ixc.errors import DataError
from ixc.train.distributed import SINGLE_PROCESS, ProcessGroup

log = logging.getLogger(__name__)

MANIFEST, PROGRESS, INDEX = "manifest.json", "progress.json", ".metadata"
_PREFIX = "step-"

_RENAMED_KEYS = {"place": "position"}
_RENAMED_SETTINGS = {"stage": "recipe", "samples": "global_batch_size"}
"""Keys of progress.json in checkpoints of version 0.x -> keys of today."""


@dataclass(frozen=True, kw_only=True)
class FoundCheckpoint:
    """An intact checkpoint on disk."""

    folder: Path
    """Its folder."""
    progress: dict[str, Any]
    """The step reached, the position in the data, the settings of the run."""
    tensors: dict[str, tuple[torch.Size, torch.dtype]]
    """Name -> shape and dtype of every tensor in it."""


def save(
    tensors: dict[str, Tensor], progress: Mapping[str, Any], out: Path, *, group: ProcessGroup = SINGLE_PROCESS
) -> Path:
    """Write `out/step-N`; the name appears once all bytes are on disk. All ranks call it, on one file system.

    Args:
        tensors: name -> tensor, sharded or not.
        progress: as `FoundCheckpoint.progress`.

    Raises:
        DataError: the file system refuses.
    """
    folder = out / f"{_PREFIX}{progress['step']:08d}"
    partial = out / f".{folder.name}.partial"
    try:
        if group.is_main:
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir(parents=True)
        group.barrier()
        with _no_single_process_warning():
            dcp_save(tensors, storage_writer=FileSystemWriter(partial), no_dist=group.world_size == 1)
        own_files = [path for path in partial.iterdir() if path.name.startswith(f"__{group.rank}_")]
        checksums = {name: value for part in group.all_gather(_checksums(own_files)) for name, value in part.items()}
        if group.is_main:
            _finish(partial, folder, progress, checksums)
    except (OSError, CheckpointException) as error:
        raise DataError(f"{folder} cannot be written ({_reason(error)}); free some space, then resume") from error
    group.barrier()
    return folder


def _finish(partial: Path, folder: Path, progress: Mapping[str, Any], checksums: dict[str, str]) -> None:
    """Write progress and manifest, flush everything to disk and rename; done by the main rank."""
    (partial / PROGRESS).write_text(json.dumps(progress, indent=1))
    checksums |= _checksums([partial / INDEX, partial / PROGRESS])
    (partial / MANIFEST).write_text(json.dumps(checksums, indent=1))
    for path in (*partial.iterdir(), partial):
        _sync(path)
    shutil.rmtree(folder, ignore_errors=True)
    os.replace(partial, folder)
    _sync(folder.parent)


def prune(out: Path, *, keep: int = 2) -> None:
    """Delete all but the newest checkpoints; two are kept so that there is a second one if the last is damaged."""
    for old in folders_in(out)[:-keep]:
        shutil.rmtree(old, ignore_errors=True)


def folders_in(out: Path) -> list[Path]:
    """Return the folders of checkpoints, oldest first, intact or not."""
    return sorted(out.glob(f"{_PREFIX}*")) if out.is_dir() else []


def latest(out: Path, *, group: ProcessGroup = SINGLE_PROCESS) -> FoundCheckpoint | None:
    """Return the newest intact checkpoint, or None if there is no folder of one; damaged ones are logged and skipped.

    Raises:
        DataError: there are folders and none is intact.
    """
    folders = folders_in(out)
    for folder in reversed(folders):
        damage = next((found for found in group.all_gather(_damage(folder, group)) if found), None)
        if damage is None:
            return _described(folder)
        if group.is_main:
            log.warning("%s is skipped: %s; the one before is used", folder, damage)
    if folders:
        raise DataError(f"{out} has {len(folders)} checkpoints and 0 are whole; delete them to start afresh")
    return None


def read_into(tensors: dict[str, Tensor], folder: Path, *, group: ProcessGroup = SINGLE_PROCESS) -> None:
    """Fill tensors from a checkpoint, each rank its own shards of them.

    Raises:
        DataError: a tensor is missing or has another shape.
    """
    try:
        with _no_single_process_warning():
            dcp_load(tensors, storage_reader=FileSystemReader(folder), no_dist=group.world_size == 1)
    except (OSError, CheckpointException) as error:
        raise DataError(f"{folder} cannot be read ({_reason(error)}); delete it, then resume") from error


def _described(folder: Path) -> FoundCheckpoint:
    index = FileSystemReader(folder).read_metadata().state_dict_metadata
    tensors = {
        name: (one.size, one.properties.dtype) for name, one in index.items() if isinstance(one, TensorStorageMetadata)
    }
    progress = _with_current_keys(json.loads((folder / PROGRESS).read_text()))
    return FoundCheckpoint(folder=folder, progress=progress, tensors=tensors)


def _with_current_keys(progress: Mapping[str, Any]) -> dict[str, Any]:
    """Translate the keys of a checkpoint that an older version wrote."""
    current = {_RENAMED_KEYS.get(key, key): value for key, value in progress.items()}
    settings = current.get("settings", {})
    return current | {"settings": {_RENAMED_SETTINGS.get(key, key): value for key, value in settings.items()}}


def _damage(folder: Path, group: ProcessGroup) -> str | None:
    """Return what is wrong with this rank's share of the files, or None."""
    try:
        expected: Mapping[str, str] = json.loads((folder / MANIFEST).read_text())
        names = sorted(expected)[group.rank :: group.world_size]
        actual = _checksums([folder / name for name in names])
        wrong = [name for name, value in actual.items() if expected[name] != value]
    except (OSError, ValueError) as error:
        return f"incomplete ({error})"
    return f"the checksum of {', '.join(wrong)} differs" if wrong else None


@contextmanager
def _no_single_process_warning() -> Iterator[None]:
    """Silence a warning: DCP of torch 2.13 warns without a process group even if no_dist is given."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "torch.distributed is disabled", UserWarning)
        yield


def _checksums(paths: list[Path]) -> dict[str, str]:
    checksums = {}
    for path in paths:
        with path.open("rb") as file:
            checksums[path.name] = hashlib.file_digest(file, "sha256").hexdigest()
    return checksums


def _reason(error: BaseException) -> str:
    """Return the first cause: DCP wraps the errors of all ranks."""
    if isinstance(error, CheckpointException) and error.failures:
        error = next(iter(error.failures.values()))[0]
    text = getattr(error, "strerror", None) or str(error)
    return " ".join(text.split())[:200]


def _sync(path: Path) -> None:
    """Flush a file or folder to the disk, not only to the operating system's cache."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
