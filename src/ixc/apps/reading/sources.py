"""What a user names to files, in an order that a later run meets again: folders sorted, archives in their own order.

    scans/  "in/**/*.pdf"  shard-000.tar  s3://bucket/scans  --list_files--> FoundFile, ...

Nothing is read but names, the headers of archives and, of local files, no byte; one folder's names are held at a time.
A file is listed once however often it is named. Imports neither torch nor Pillow.
"""

from __future__ import annotations

import glob
import os
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from hashlib import blake2b
from pathlib import Path

from ixc.apps.reading import archives, remote
from ixc.apps.reading.records import FileRef
from ixc.errors import UsageError
from ixc.processing.image_formats import FORMATS

SUFFIXES = frozenset({".pdf", *(suffix for each in FORMATS for suffix in each.suffixes)})
"""Suffixes of the files that are taken from folders, archives and addresses of folders; a file that is named by itself
is taken whatever its name."""

_MAGIC = "*?["
"""Characters that make a name a pattern, where no file has the name itself."""


@dataclass(frozen=True, kw_only=True)
class FoundFile:
    """A document, or an archive or folder that cannot be listed to its end."""

    file: FileRef
    """The document."""
    error: str | None = None
    """Why the files behind it cannot be listed, one line."""
    named: bool = False
    """Whether the user named the file itself, so that its suffix says nothing."""


def is_listed(name: str) -> bool:
    """Whether a file in a folder or an archive is taken, by its suffix; hidden files are not."""
    base = name.rpartition("/")[2]
    return not base.startswith(".") and os.path.splitext(base)[1].lower() in SUFFIXES


def list_files(names: Iterable[str]) -> Iterator[FoundFile]:
    """Yield the files that the names stand for.

    Args:
        names: files, folders, patterns, archives and fsspec addresses, in order.

    Raises:
        UsageError: a local name that does not exist, or a pattern that matches nothing.
        MissingPackageError: the package of an address's file system.
    """
    seen: set[bytes] = set()  # 8 bytes a file: names themselves would hold the memory of the run
    for name in names:
        for found in _expanded(name):
            key = blake2b(found.file.name.encode(), digest_size=8).digest()
            if key not in seen:
                seen.add(key)
                yield found


def read_list(path: Path) -> Iterator[str]:
    """Yield the names in a list file: one a line; empty lines and lines that begin with # are passed over.

    Raises:
        UsageError: it cannot be read, or is no UTF-8.
    """
    try:
        with path.open(encoding="utf-8") as file:
            for line in file:
                if (name := line.rstrip("\r\n")).strip() and not name.startswith("#"):
                    yield name
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"--files-from {path} cannot be read ({error}); give a text file, a name a line") from error


def check_names(names: Iterable[str]) -> None:
    """Check that every local name exists, before a model is loaded; of a list's names nothing is checked.

    Raises:
        UsageError: as `list_files`.
    """
    for name in names:
        if not remote.is_address(name) and not os.path.exists(name):
            _matches(name)


def _expanded(name: str) -> Iterator[FoundFile]:
    if remote.is_address(name):
        yield from _remote(name)
    elif os.path.isdir(name):
        yield from _folder(name)
    elif os.path.exists(name):
        yield from _file(name, named=True)
    else:
        for match in _matches(name):
            yield from _folder(match) if os.path.isdir(match) else _file(match, named=True)


def _matches(name: str) -> list[str]:
    """Return the files of a pattern, sorted. Raises: UsageError: there is none."""
    if not any(each in name for each in _MAGIC):
        raise UsageError(f"no file {name}; check the path")
    found = sorted(glob.glob(name, recursive=True))
    if not found:
        raise UsageError(f"no file matches {name}; check the pattern")
    return found


def _folder(folder: str) -> Iterator[FoundFile]:
    """Yield the files below a folder, the names of each folder sorted; links to folders are not followed."""
    try:
        with os.scandir(folder) as entries:
            found = sorted((entry.name, entry.is_dir(follow_symlinks=False)) for entry in entries)
    except OSError as error:
        yield _broken(folder, f"{folder} cannot be listed ({error.strerror}); check its permissions")
        return
    for name, is_folder in found:
        path = os.path.join(folder, name)
        if is_folder:
            if not name.startswith("."):
                yield from _folder(path)
        elif is_listed(name) or archives.kind_of(name):
            yield from _file(path, named=False)


def _file(path: str, *, named: bool) -> Iterator[FoundFile]:
    if archives.kind_of(path) is None:
        yield FoundFile(file=FileRef(name=_printable(path), container=_absolute(path)), named=named)
        return
    yield from _archive(path)


def _archive(container: str) -> Iterator[FoundFile]:
    """Yield the members of an archive; one that is cut short ends with an error."""
    try:
        for member in archives.members(container):
            if is_listed(member.name) and stat.S_ISREG(member.mode):
                name = _printable(f"{container}/{member.name}")
                kind = archives.kind_of(container) or ""
                file = FileRef(name=name, container=_absolute(container), kind=kind, member=member.name)
                yield FoundFile(file=replace(file, offset=member.offset, size=member.size))
    except archives.BROKEN as error:
        yield _broken(container, archives.broken_line(container, error))


def _absolute(container: str) -> str:
    """Return where workers with another working folder find a file."""
    return container if remote.is_address(container) else os.path.abspath(container)


def _printable(name: str) -> str:
    """Return a name as text: bytes of a file name that are no UTF-8 are written as \\xNN."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def _remote(address: str) -> Iterator[FoundFile]:
    for name, is_named in remote.files_below(address):
        if archives.kind_of(name):
            yield from _archive(name)
        elif is_named or is_listed(name):
            yield FoundFile(file=FileRef(name=name, container=name), named=is_named)


def _broken(name: str, line: str) -> FoundFile:
    return FoundFile(file=FileRef(name=_printable(name), container=_absolute(name)), error=line)
