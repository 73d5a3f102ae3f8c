"""Find the data file of a task, or download it once and check its MD5.

DATA/DocVQA_VAL.tsv     the official name of the data set; a file put there by hand may differ from the published one
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from http.client import HTTPException
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.request import urlopen

from ixc.errors import DataError
from ixc.utils.files import atomic_file

if TYPE_CHECKING:
    from ixc.evals.task import Task

SECONDS = 60
"""Socket timeout, seconds."""

CHUNK_BYTES = 1 << 20
"""Bytes read at once."""

Progress = Callable[[int, int], None]
"""Called with (bytes so far, bytes in all, or 0 where the server does not say)."""


def find(task: Task, data: Path, *, progress: Progress | None = None) -> Path:
    """Return the data file of a task; download it if it is missing.

    Args:
        task: the task.
        data: folder of data files, or the file itself.
        progress: called during a download.

    Raises:
        DataError: the file is missing and cannot be downloaded; the message says what to save where.
    """
    if data.is_file():
        return data
    path = data / f"{task.dataset}.tsv"
    if path.exists():
        return path
    if task.url is None:
        raise DataError(f"no file {path}, and {task.title} has no public address; put the file there ({task.source})")
    return _download(task.url, path, md5=task.md5, progress=progress or (lambda done, total: None))


def md5_of(path: Path) -> str:
    """Compute the MD5 of a file, 32 hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def _download(url: str, path: Path, *, md5: str | None, progress: Progress) -> Path:
    """Download to a draft, check its MD5, and only then give it its name."""
    remedy = f"download it yourself and save it as {path}, or give --data the folder that holds {path.name}"
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with atomic_file(path) as draft:  # each rank has its own draft: several may download at the same time
            found, size = _receive(url, draft, progress)
            if md5 is not None and found != md5:
                raise DataError(f"{url} has MD5 {found} ({size:,} bytes), {md5} expected; try again, or {remedy}")
    except (OSError, ValueError, HTTPException) as error:
        reason = getattr(error, "reason", None) or error
        raise DataError(f"no file {path}, and {url} cannot be fetched ({reason}); {remedy}") from error
    return path


def _receive(url: str, draft: Path, progress: Progress) -> tuple[str, int]:
    """Write the response to the draft; return its MD5 and its size in bytes."""
    digest, done = hashlib.md5(usedforsecurity=False), 0
    with urlopen(url, timeout=SECONDS) as response, draft.open("wb") as file:
        total = int(response.headers.get("Content-Length") or 0)
        while chunk := response.read(CHUNK_BYTES):
            file.write(chunk)
            digest.update(chunk)
            done += len(chunk)
            progress(done, total)
    if total and done < total:
        raise OSError(f"{done:,} of {total:,} bytes arrived")
    return digest.hexdigest(), done
