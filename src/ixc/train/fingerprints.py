"""Fingerprints of the weights and the data a run began with: resuming with others is refused.

A model folder is fingerprinted by the header of every weights file and blocks spread over it, since hashing 17 GB would
take minutes; a data file by all its bytes; a folder of data by names and sizes. Image files are not read.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ixc.data.mixture import Source
from ixc.errors import DataError
from ixc.utils.files import samples

BLOCK, BLOCKS = 4096, 64
"""Bytes per sampled block of a weights file, and number of blocks, evenly spread; the first has the header's start."""

WEIGHT_FILES = ("*.safetensors", "*.bin", "config.json")
"""Files of a model folder that are fingerprinted."""


def model_fingerprint(folder: Path) -> str:
    """Fingerprint a model folder, independent of where it lies.

    Raises:
        DataError: a file cannot be read.
    """
    paths = sorted({path for pattern in WEIGHT_FILES for path in folder.glob(pattern)})
    return _hash_lines([f"{path.name} {path.stat().st_size} {_sampled_hash(path)}" for path in paths])


def data_fingerprints(sources: Sequence[Source]) -> dict[str, str]:
    """Return source name -> fingerprint of its file; records without a file (`path`) are left out.

    Raises:
        DataError: a file cannot be read.
    """
    paths: dict[str, Any] = {source.name: getattr(source.records, "path", None) for source in sources}
    return {name: _path_fingerprint(path) for name, path in paths.items() if isinstance(path, Path) and path.exists()}


def _path_fingerprint(path: Path) -> str:
    try:
        if path.is_dir():
            files = sorted(one for one in path.rglob("*") if one.is_file())
            return _hash_lines([f"{one.relative_to(path)} {one.stat().st_size}" for one in files])
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror or error}); check the disk") from error


def _sampled_hash(path: Path) -> str:
    size, sha256 = path.stat().st_size, hashlib.sha256()
    try:
        with path.open("rb") as file:
            for block in samples(file, size, count=BLOCKS, length=BLOCK):
                sha256.update(block)
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror or error}); check the disk") from error
    return sha256.hexdigest()


def _hash_lines(lines: Sequence[str]) -> str:
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()
