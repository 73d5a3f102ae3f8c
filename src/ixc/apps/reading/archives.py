"""Archives of documents: zip, tar and WebDataset's tar shards, plain or compressed, listed by their headers alone.

    ARCHIVE --members--> Member(name, offset, size)    a plain tar is passed over by seeking, a zip by its directory
    Member  --ArchiveReader.read--> bytes              the archive stays open for its next member

A compressed tar can only be read from its start: members are fast in their order, and a worker that begins in the
middle decompresses what lies before.
"""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO, Any

from ixc.apps.reading import remote
from ixc.apps.reading.records import FileRef
from ixc.errors import ImageError

KINDS = {
    ".zip": "zip",
    ".tar": "tar",
    ".tar.gz": "tar",
    ".tgz": "tar",
    ".tar.bz2": "tar",
    ".tbz2": "tar",
    ".tar.xz": "tar",
    ".txz": "tar",
}
"""Suffix -> kind of archive."""

MAX_MEMBER_BYTES = 1 << 30
"""Largest document read from an archive or an address: it is held in memory whole."""

BROKEN = (
    OSError,
    EOFError,
    ValueError,
    RuntimeError,
    NotImplementedError,
    zipfile.BadZipFile,
    tarfile.TarError,
    zlib.error,
    lzma.LZMAError,
)
"""What Python's modules raise on archives that are damaged, locked or compressed in a way they do not know."""


@dataclass(frozen=True, kw_only=True)
class Member:
    """One entry of an archive."""

    name: str
    """Name within the archive, without a leading "./"."""
    size: int
    """Bytes."""
    offset: int = -1
    """First byte in the uncompressed tar; -1 in a zip."""
    mode: int = stat.S_IFREG
    """Kind of the entry, as of `stat`."""


def kind_of(name: str) -> str | None:
    """Return the kind of archive a name's suffix tells, None for another file."""
    lower = name.lower()
    return next((kind for suffix, kind in KINDS.items() if lower.endswith(suffix)), None)


def members(container: str) -> Iterator[Member]:
    """Yield the entries of an archive: a zip's sorted by name, a tar's in their order; of equal names the first.

    Args:
        container: path or address.

    Raises:
        Any of `BROKEN`: it is damaged, or cut short behind the members yielded so far.
    """
    if kind_of(container) == "zip":
        with _opened(container) as file, zipfile.ZipFile(file) as archive:
            infos = sorted(archive.infolist(), key=lambda info: info.filename)
            for info in infos:
                mode = stat.S_IFDIR if info.is_dir() else stat.S_IFREG
                yield Member(name=info.filename, size=info.file_size, mode=mode)
        return
    with _opened(container) as file:
        yield from _tar_members(file)


def _tar_members(file: IO[bytes]) -> Iterator[Member]:
    archive: Any = tarfile.open(fileobj=file, mode="r:")  # noqa: SIM115 - the caller closes the file
    while (info := archive.next()) is not None:
        archive.members = []  # it would keep one for every entry
        mode = stat.S_IFREG if info.isreg() and not info.issparse() else stat.S_IFDIR
        yield Member(name=info.name.removeprefix("./"), size=info.size, offset=info.offset_data, mode=mode)
    _check_end(file)


def _check_end(file: IO[bytes]) -> None:
    """Refuse a tar without its end: one cut between two members looks whole to `tarfile` (as of Python 3.14)."""
    end = file.tell()
    file.seek(max(0, end - tarfile.BLOCKSIZE))
    if file.read(tarfile.BLOCKSIZE).strip(b"\0") or end < tarfile.BLOCKSIZE:
        raise tarfile.ReadError("its end is missing")


def _opened(container: str) -> IO[bytes]:
    """Open an archive as a seekable stream, decompressed where it is a compressed tar."""
    raw: Any = remote.open_binary(container)
    lower = container.lower()
    if lower.endswith((".gz", ".tgz")):
        return _Decompressed(gzip.GzipFile(fileobj=raw), raw)
    if lower.endswith((".bz2", ".tbz2")):
        return _Decompressed(bz2.BZ2File(raw), raw)
    if lower.endswith((".xz", ".txz")):
        return _Decompressed(lzma.LZMAFile(raw), raw)
    return raw


class _Decompressed(io.BufferedReader):
    """A decompressed stream that closes the file beneath it, which the streams of Python's library leave open.

    Args:
        stream: decompresses `file`.
        file: the compressed file.
    """

    def __init__(self, stream: Any, file: IO[bytes]) -> None:
        super().__init__(stream)
        self._file = file

    def close(self) -> None:
        """Close both."""
        try:
            super().close()
        finally:
            self._file.close()


def broken_line(container: str, error: object) -> str:
    """Return the line about an archive that cannot be listed to its end."""
    reason = " ".join(str(error).split()) or type(error).__name__
    return (
        f"{container} is damaged or cut short ({reason}); the files listed so far are read, fetch it again for the rest"
    )


class ArchiveReader:
    """Reads members; the last archive stays open. One thread at a time."""

    def __init__(self) -> None:
        self._open: tuple[str, IO[bytes], zipfile.ZipFile | None] | None = None

    def read(self, file: FileRef) -> bytes:
        """Return the bytes of a member.

        Raises:
            ImageError: it is larger than `MAX_MEMBER_BYTES`, damaged, locked, or the archive changed meanwhile.
        """
        if file.size > MAX_MEMBER_BYTES:
            raise ImageError(
                f"{file.name} has {file.size:,} bytes, at most {MAX_MEMBER_BYTES:,} are read; unpack it first"
            )
        try:
            stream, archive = self._archive(file)
            if archive is not None:
                data = archive.read(file.member)
            else:
                stream.seek(file.offset)
                data = stream.read(file.size)
        except (*BROKEN, KeyError) as error:
            self.close()
            reason = " ".join(str(error).split()) or type(error).__name__
            raise ImageError(f"{file.name} cannot be read ({reason}); check the archive") from error
        if len(data) != file.size:
            raise ImageError(f"{file.name} has {len(data):,} of {file.size:,} bytes; the archive is cut short")
        return data

    def _archive(self, file: FileRef) -> tuple[IO[bytes], zipfile.ZipFile | None]:
        if self._open is None or self._open[0] != file.container:
            self.close()
            stream = _opened(file.container)
            self._open = file.container, stream, zipfile.ZipFile(stream) if file.kind == "zip" else None
        return self._open[1], self._open[2]

    def close(self) -> None:
        """Close the archive that is open."""
        if self._open is not None:
            self._open[1].close()
            self._open = None
