"""What a run began with, in a few numbers: resuming beside other weights or with edited data is refused.

Weights are told by the header of every file and blocks spread over it, since 17 GB would take minutes; data files by
all their bytes; folders of data by names and sizes. Pictures are not looked at.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ixc.data.mixture import Source
from ixc.errors import DataError

BLOCK, BLOCKS = 4096, 64
"""Bytes read at one place of a file of weights, and places, evenly spread; the first one holds the header's start."""

WEIGHTS = ("*.safetensors", "*.bin", "config.json")
"""Files that make a model folder what it is."""


def of_model(folder: Path) -> str:
    """Of a model folder, wherever it lies.

    Raises:
        DataError: a file cannot be read.
    """
    paths = sorted({path for pattern in WEIGHTS for path in folder.glob(pattern)})
    return _mixed([f"{path.name} {path.stat().st_size} {_sampled(path)}" for path in paths])


def of_data(sources: Sequence[Source]) -> dict[str, str]:
    """Name of a source -> what its file holds; records without a file (`path`) are left out.

    Raises:
        DataError: a file cannot be read.
    """
    paths: dict[str, Any] = {source.name: getattr(source.records, "path", None) for source in sources}
    return {name: _of_path(path) for name, path in paths.items() if isinstance(path, Path) and path.exists()}


def _of_path(path: Path) -> str:
    try:
        if path.is_dir():
            files = sorted(one for one in path.rglob("*") if one.is_file())
            return _mixed([f"{one.relative_to(path)} {one.stat().st_size}" for one in files])
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror or error}); check the disk") from error


def _sampled(path: Path) -> str:
    size, found = path.stat().st_size, hashlib.sha256()
    try:
        with path.open("rb") as file:
            for number in range(BLOCKS):
                file.seek(max(0, size - BLOCK) * number // (BLOCKS - 1))
                found.update(file.read(BLOCK))
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror or error}); check the disk") from error
    return found.hexdigest()


def _mixed(lines: Sequence[str]) -> str:
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()
