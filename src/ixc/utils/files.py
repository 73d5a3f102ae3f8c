"""A file that appears under its name whole or not at all: written beside it first, then moved over it.

Several processes may write the same file at once (the ranks of a run that end together): each has a draft of its own.
"""

from __future__ import annotations

import os
from pathlib import Path


def draft_of(path: Path) -> Path:
    """This process's draft of a file, in the same folder: `.NAME.PID.partial`."""
    return path.with_name(f".{path.name}.{os.getpid()}.partial")


def write(path: Path, data: bytes) -> None:
    """The bytes under `path`; what was there stays until all of them are written.

    Raises:
        OSError: the folder is missing or cannot be written.
    """
    draft = draft_of(path)
    try:
        draft.write_bytes(data)
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)
