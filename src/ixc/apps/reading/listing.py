"""Files to pages: what is in a document is looked at when its turn comes.

FoundFile --pages_of--> Page, ...        a PDF or TIFF is opened for its number of pages, another picture is one page
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from ixc.apps.reading import remote
from ixc.apps.reading.opening import PageOpener, error_line
from ixc.apps.reading.records import Block, FileRef, Page
from ixc.apps.reading.sources import FoundFile
from ixc.errors import ImageError, UsageError
from ixc.processing.image_formats import HEAD_BYTES, format_of
from ixc.processing.pages import Rendering

COUNTED = (".pdf", ".tif", ".tiff")
"""Suffixes of files that may have several pages."""


def numbers_of(text: str) -> tuple[int, ...]:
    """Parse page numbers: "1-3,7" -> (1, 2, 3, 7), in order, each once.

    Raises:
        UsageError: the text is not of this form.
    """
    found: set[int] = set()
    for part in text.split(","):
        first, dash, last = part.strip().partition("-")
        last = last if dash else first
        if not (first.isdecimal() and last.isdecimal() and 1 <= int(first) <= int(last) <= 100_000):
            raise UsageError(f"--pages {text!r}: {part.strip()!r} is no page; write 1-5 or 1,3,7-9")
        found |= set(range(int(first), int(last) + 1))
    return tuple(sorted(found))


@dataclass(frozen=True, kw_only=True)
class _Shape:
    """What a document holds."""

    pages: int
    paged: bool


def pages_of(files: Iterable[FoundFile], *, numbers: tuple[int, ...] | None = None) -> Iterator[Page]:
    """Yield the pages of the files, in order; a file that cannot be opened is one page with an error.

    Args:
        files: as `sources.list_files` yields them.
        numbers: of the pages of PDFs and TIFFs; None = all. A file with fewer pages gives those it has.

    Raises:
        MissingPackageError: a missing extra.
    """
    with PageOpener(Rendering()) as opener:
        for found in files:
            file = found.file
            if found.error is not None:
                yield Page(file=file, number=1, error=found.error)
                continue
            try:
                shape = _shape(found, opener)
            except ImageError as error:
                yield Page(file=file, number=1, paged=_is_pdf_name(file), error=error_line(file, error))
                continue
            for number in range(1, shape.pages + 1):
                if not shape.paged or numbers is None or number in numbers:
                    yield Page(file=file, number=number, paged=shape.paged)


def _is_pdf_name(file: FileRef) -> bool:
    return file.name.lower().endswith(".pdf")


def _shape(found: FoundFile, opener: PageOpener) -> _Shape:
    """Return the number of pages; files that have one whatever they hold are not opened. Raises: ImageError."""
    file, name = found.file, found.file.name.lower()
    if not name.endswith(COUNTED) and _is_picture(found):
        return _Shape(pages=1, paged=False)
    document = opener.document(file)
    pages = document.pages
    opener.close_document()
    return _Shape(pages=pages, paged=pages > 1 or name.endswith(".pdf") or _is_pdf(file))


def _is_picture(found: FoundFile) -> bool:
    """Whether a file is a picture of one page, by its first bytes where it is a local file, else by its suffix."""
    file = found.file
    if file.kind != "file" or remote.is_address(file.container):
        return not found.named
    with suppress(OSError), open(file.container, "rb") as stream:
        known = format_of(stream.read(HEAD_BYTES))
        return known is not None and known.name != "TIFF"
    return False


def _is_pdf(file: FileRef) -> bool:
    from ixc.processing.pdf import is_pdf

    local = file.kind == "file" and not remote.is_address(file.container)
    return local and is_pdf(Path(file.container))


def blocks_of(pages: Iterable[Page], *, size: int, first: int = 0) -> Iterator[Block]:
    """Yield blocks of `size` pages, the last one shorter.

    Args:
        pages: in order.
        size: pages of a block, >= 1.
        first: number of the first block.
    """
    held: list[Page] = []
    for page in pages:
        held.append(page)
        if len(held) == size:
            yield Block(number=first, pages=tuple(held))
            first, held = first + 1, []
    if held:
        yield Block(number=first, pages=tuple(held))
