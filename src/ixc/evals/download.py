"""Data of a task by name: a file that is there, or one download whose MD5 is checked.

DATA/DocVQA_VAL.tsv     the official name of the data set; given by hand it may differ from the published file
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from http.client import HTTPException
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.request import urlopen

from ixc.errors import DataError
from ixc.utils.files import draft_of

if TYPE_CHECKING:
    from ixc.evals.task import Task

SECONDS = 60
"""How long a server may keep silent."""

PIECE = 1 << 20
"""Bytes read at once."""

Progress = Callable[[int, int], None]
"""Told (bytes so far, bytes of all or 0 where the server does not say)."""


def find(task: Task, data: Path, *, progress: Progress | None = None) -> Path:
    """The data file of a task, downloaded if it is not there.

    Args:
        data: folder of data files, or the file itself.
        progress: told of a download.

    Raises:
        DataError: neither there nor to be had; the line says what to download to where.
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
    """MD5 of a file, 32 hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def _download(url: str, path: Path, *, md5: str | None, progress: Progress) -> Path:
    """The file appears under its name whole and checked, or not at all."""
    remedy = f"download it yourself and save it as {path}, or give --data the folder that holds {path.name}"
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = draft_of(path)  # ranks may download it at the same time
    try:
        found, size = _receive(url, draft, progress)
        if md5 is not None and found != md5:
            raise DataError(f"{url} has MD5 {found} ({size:,} bytes), {md5} expected; try again, or {remedy}")
        draft.replace(path)
    except (OSError, ValueError, HTTPException) as error:
        reason = getattr(error, "reason", None) or error
        raise DataError(f"no file {path}, and {url} cannot be fetched ({reason}); {remedy}") from error
    finally:
        draft.unlink(missing_ok=True)
    return path


def _receive(url: str, draft: Path, progress: Progress) -> tuple[str, int]:
    """(MD5, bytes) of what was written."""
    digest, done = hashlib.md5(usedforsecurity=False), 0
    with urlopen(url, timeout=SECONDS) as answer, draft.open("wb") as file:
        total = int(answer.headers.get("Content-Length") or 0)
        while piece := answer.read(PIECE):
            file.write(piece)
            digest.update(piece)
            done += len(piece)
            progress(done, total)
    if total and done < total:
        raise OSError(f"{done:,} of {total:,} bytes came")
    return digest.hexdigest(), done
