"""Documents of folders: which PDFs there are, of which package each is, and which are kept out.

A folder is a package as `dpkg-deb -x` unpacks it, or any folder of PDFs; its name is the package's name. Training and
test data are kept apart by package, never by page.
"""

from __future__ import annotations

import gzip
import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from ixc.errors import DataError, UsageError

WHOLE = "whole package"
"""What a line of a keep-out list says of a package of which nothing may be used."""
MAX_BYTES = 200 << 20
"""Largest file that is opened."""


@dataclass(frozen=True, kw_only=True)
class Document:
    """A PDF of a package."""

    package: str
    name: str
    """Path inside the package."""
    path: Path

    def read(self) -> bytes:
        """The PDF; one that is packed with gzip is unpacked.

        Raises:
            DataError: unreadable, or larger than `MAX_BYTES`.
        """
        try:
            data = gzip.decompress(self.path.read_bytes()) if self.path.suffix == ".gz" else self.path.read_bytes()
        except (OSError, EOFError, gzip.BadGzipFile) as error:
            raise DataError(f"{self.path} cannot be read ({error}); unpack its package again") from error
        if len(data) > MAX_BYTES:
            raise DataError(f"{self.path} has {len(data)} bytes, at most {MAX_BYTES} are read; leave it out")
        return data


@dataclass(frozen=True, kw_only=True)
class KeepOut:
    """Documents that are used neither for training nor for testing."""

    rules: tuple[tuple[str, str], ...] = ()
    """Package and folder inside it; an empty folder is the whole package."""

    def holds(self, document: Document) -> bool:
        """The document is kept out."""
        return any(
            document.package == package and (not folder or document.name.startswith(folder))
            for package, folder in self.rules
        )


def read_keep_out(path: Path) -> KeepOut:
    """A list of lines `PACKAGE: FOLDER` or `PACKAGE: whole package`; lines that begin with # are notes.

    Raises:
        DataError: a line of another form.
    """
    rules = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        package, colon, folder = line.partition(":")
        if not colon or not folder.strip():
            raise DataError(f"{path} line {number} is {line!r}; write PACKAGE: FOLDER or PACKAGE: {WHOLE}")
        rules.append((package.strip(), "" if folder.strip() == WHOLE else folder.strip()))
    return KeepOut(rules=tuple(rules))


def find_documents(sources: Sequence[Path], keep_out: KeepOut | None = None) -> list[Document]:
    """Every PDF of the sources that is not kept out, in an order that mixes packages and folders evenly.

    Raises:
        UsageError: a source is missing, or no PDF is in any.
    """
    found: dict[str, Document] = {}
    for source in sources:
        for document in _of_source(source):
            if keep_out is None or not keep_out.holds(document):
                found[f"{document.package}/{document.name}"] = document
    if not found:
        raise UsageError(f"0 PDFs in {', '.join(map(str, sources))}; name folders that hold *.pdf or *.pdf.gz")
    return [found[key] for key in sorted(found, key=lambda key: hashlib.sha256(key.encode()).digest())]


def _of_source(source: Path) -> Iterator[Document]:
    if source.is_file():
        yield Document(package=source.resolve().parent.name, name=source.name, path=source)
        return
    if not source.is_dir():
        raise UsageError(f"no file or folder {source}; name PDFs or folders of PDFs")
    for pattern in ("*.pdf", "*.PDF", "*.pdf.gz"):
        for path in source.rglob(pattern):
            if path.is_file():
                yield Document(package=source.resolve().name, name=path.relative_to(source).as_posix(), path=path)
