"""Read JSON files, and write files and folders atomically: to a draft in the same folder, then renamed.

Several processes may write the same file at once (the ranks of a run that end together): each has its own draft.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from ixc.errors import DataError, IxcError, UsageError
from ixc.utils.counted import counted


def draft_of(path: Path) -> Path:
    """Return the path of this process's draft of a file, in the same folder: `.NAME.PID.partial`.

    Raises:
        IsADirectoryError: the path ends in no name, as "." does.
    """
    if not path.name or path.name == "..":
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    return path.with_name(f".{path.name}.{os.getpid()}.partial")


@contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """Yield a draft that is renamed to `path` when the block succeeds, and deleted when it fails.

    Raises:
        OSError: the folder is missing or cannot be written.
    """
    draft = draft_of(path)
    try:
        yield draft
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


def atomic_write(path: Path, data: bytes | str) -> None:
    """Write a file atomically; the old content stays until all of the new one is written.

    Args:
        path: the file.
        data: bytes, or text that is written as UTF-8.

    Raises:
        OSError: the folder is missing or cannot be written.
    """
    with atomic_file(path) as draft:
        draft.write_bytes(data.encode() if isinstance(data, str) else data)


def read_json_object(path: Path, *, remedy: str, error: type[IxcError] = DataError) -> dict[str, Any]:
    """Read a JSON file that holds an object.

    Args:
        path: the file.
        remedy: what the user can do about a broken file, the end of the message: "fetch it again".
        error: class of the exception.

    Raises:
        IxcError: of class `error`: the file is missing, cannot be read, is not JSON, or holds something else.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as reason:
        raise error(f"no file {path}; {remedy}") from reason
    except (OSError, ValueError, RecursionError) as reason:
        raise error(f"{path} is not JSON ({str(reason)[:120]}); {remedy}") from reason
    if not isinstance(found, dict):
        raise error(f"{path} holds a {type(found).__name__}, a JSON object needed; {remedy}")
    return found


def samples(file: BinaryIO, size: int, *, count: int, length: int) -> Iterator[bytes]:
    """Yield `count` >= 2 blocks of `length` bytes spread evenly over a file of `size` bytes, from its start to its end.

    For fingerprints of weights: reading all of 17 GB would take minutes, and a fine-tune changes layers everywhere.
    """
    for number in range(count):
        file.seek(max(0, size - length) * number // (count - 1))
        yield file.read(length)


def check_free(folder: Path) -> None:
    """Check that a folder of this name can be made.

    Raises:
        UsageError: a file or a folder with entries has the name.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        found = (
            f"a folder with {counted(len(list(folder.iterdir())), 'entry', 'entries')}" if folder.is_dir() else "a file"
        )
        raise UsageError(f"{folder} is {found}; name a new or an empty folder")


@contextmanager
def atomic_folder(folder: Path, *, replace: bool = False) -> Iterator[Path]:
    """Yield a hidden folder that is renamed when the block succeeds, and deleted when it fails.

    Args:
        folder: final name; its parents are made.
        replace: delete what has the name; without it the name must be free, or that of an empty folder.

    Raises:
        UsageError: the name is taken. DataError: writing fails.
    """
    if not replace:
        check_free(folder)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        draft = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
        try:
            yield draft
            draft.chmod(0o755)  # mkdtemp makes folders for their owner alone
            if replace:
                shutil.rmtree(folder, ignore_errors=True)
            os.replace(draft, folder)
        finally:
            shutil.rmtree(draft, ignore_errors=True)
    except OSError as error:
        raise DataError(
            f"{folder} cannot be written ({error.strerror or error}); free space, or name another"
        ) from error
