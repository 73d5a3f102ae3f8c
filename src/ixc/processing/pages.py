"""Documents of pages: PDFs, multi-page TIFFs and, with one page each, all other pictures.

"report.pdf#3" --reference_of--> PageReference --open_document--> Document.page(3) --> PageImage
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from ixc.errors import ImageError, UsageError
from ixc.processing import image_formats
from ixc.processing.image_io import open_image, page_count, read_size
from ixc.processing.pdf import DPI, PageImage, is_pdf
from ixc.processing.pdf_process import PdfProcess

STANDARD_INPUT = "standard input"
"""Name of a file that comes as bytes."""

Source = Path | bytes
"""A file by its path, or its bytes."""


@dataclass(frozen=True, kw_only=True)
class PageReference:
    """A file, and a page of it where one is named."""

    source: Source
    """The file."""
    page: int | None = None
    """From 1; None where none is named."""

    @property
    def name(self) -> str:
        """For messages."""
        return str(self.source) if isinstance(self.source, Path) else STANDARD_INPUT


@dataclass(frozen=True, kw_only=True)
class Rendering:
    """How pages become pixels; pictures have theirs."""

    dpi: int = DPI
    """Pixels an inch of a PDF's pages, >= 1."""
    scan_pixels: bool = False
    """A PDF's page that is one scanned picture is taken in that picture's own pixels, whatever `dpi` says."""


class Document(Protocol):
    """An open file of pages."""

    @property
    def pages(self) -> int:
        """How many, >= 1."""
        ...

    def page(self, number: int, rendering: Rendering) -> PageImage:
        """Page 1 .. pages. Raises: UsageError: no such page. ImageError: it is broken."""
        ...

    def size(self, number: int, rendering: Rendering) -> tuple[int, int]:
        """(width, height) in pixels of what `page` returns, without its pixels. Errors as `page`."""
        ...

    def close(self) -> None:
        """Lets go of the file."""
        ...


class _PdfDocument:
    def __init__(self, file: bytes, name: str) -> None:
        self._pdf = PdfProcess(file, name=name)
        self.pages = self._pdf.pages

    def page(self, number: int, rendering: Rendering) -> PageImage:
        return self._pdf.page(number, dpi=rendering.dpi, scan_pixels=rendering.scan_pixels)

    def size(self, number: int, rendering: Rendering) -> tuple[int, int]:
        return self._pdf.size(number, dpi=rendering.dpi, scan_pixels=rendering.scan_pixels)

    def close(self) -> None:
        self._pdf.close()


class _PictureDocument:
    def __init__(self, source: Source) -> None:
        self._source = source
        self.pages = page_count(source)

    def page(self, number: int, rendering: Rendering) -> PageImage:
        del rendering
        return PageImage(image=open_image(self._source, page=number))

    def size(self, number: int, rendering: Rendering) -> tuple[int, int]:
        del rendering
        return read_size(self._source, page=number)

    def close(self) -> None:
        pass


def open_document(source: Source) -> Document:
    """The pages of a file.

    Raises:
        ImageError: no such file, neither a PDF nor a picture, broken, locked. MissingPackageError: a missing extra.
    """
    if isinstance(source, bytes):
        paged = image_formats.is_pdf(source[: image_formats.HEAD_BYTES])
        return _PdfDocument(source, STANDARD_INPUT) if paged else _PictureDocument(source)
    return _PdfDocument(_bytes(source), str(source)) if is_pdf(source) else _PictureDocument(source)


def reference_of(text: str, page: int | None = None) -> PageReference:
    """What a user names: a file, or a file and a page, "report.pdf#3".

    Args:
        text: a file whose own name ends in #3 is that file.
        page: named beside it.

    Raises:
        UsageError: a page is named twice.
    """
    name, mark, number = text.rpartition("#")
    if not (mark and name and number.isdecimal() and int(number) > 0) or Path(text).exists():
        return PageReference(source=Path(text), page=page)
    if page is not None and page != int(number):
        raise UsageError(f"{text} names page {number} and --page {page}; leave one of them out")
    return PageReference(source=Path(name), page=int(number))


def chosen_page(reference: PageReference, pages: int) -> tuple[int, str | None]:
    """The page to take, and what to tell where there was a choice that the user did not make.

    Raises:
        UsageError: no such page.
    """
    if reference.page is None:
        note = f"{reference.name}: page 1 of {pages} is taken; name another with --page 2, or read all with ixc read"
        return 1, note if pages > 1 else None
    if reference.page > pages:
        raise UsageError(f"{reference.name} has no page {reference.page}; use 1 to {pages}")
    return reference.page, None


def open_page(reference: PageReference, rendering: Rendering | None = None) -> PageImage:
    """The page a user names; notes about it are among its warnings. Errors as `open_document` and `Document.page`."""
    document = open_document(reference.source)
    try:
        number, note = chosen_page(reference, document.pages)
        found = document.page(number, rendering or Rendering())
        return PageImage(image=found.image, warnings=(*([note] if note else []), *found.warnings))
    finally:
        document.close()


def page_size(reference: PageReference, rendering: Rendering | None = None) -> tuple[tuple[int, int], str | None]:
    """(width, height) in pixels of the page a user names, and a note. Errors as `open_page`."""
    document = open_document(reference.source)
    try:
        number, note = chosen_page(reference, document.pages)
        return document.size(number, rendering or Rendering()), note
    finally:
        document.close()


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ImageError(f"{path} cannot be read ({error.strerror}); check the path") from error
