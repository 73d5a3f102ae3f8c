"""Pages of a PDF as pictures, through pypdfium2 of the extra `pdf`.

In this process for one's own files (`Pdf`); in another one, bounded in seconds and memory, for those of strangers
(`page_apart`): a renderer of 500,000 lines of C++ reads them.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ixc.errors import ImageError, IxcError, UsageError

if TYPE_CHECKING:
    from PIL.Image import Image

DPI = 200
"""Pixels an inch by default: A4 has 1,654 x 2,339 px, 5 x 7 tiles."""

POINTS = 72
"""Points an inch: the unit of a page's size."""

MAX_PIXELS = 50_000_000
"""Most pixels of a page; larger ones are drawn coarser."""

APART_SECONDS = 20
"""Longest time for a stranger's page."""

APART_BYTES = 2 << 30
"""Most memory for a stranger's page."""

BEGINNING = b"%PDF-"
"""Stands in the first kilobyte of every PDF."""


class Pdf:
    """An open document; one thread at a time in the whole process."""

    def __init__(self, file: bytes, *, name: str = "the PDF") -> None:
        """
        Args:
            file: the whole document.
            name: for errors.

        Raises:
            UsageError: the extra is missing. ImageError: broken, locked or without pages.
        """
        pdfium = _pdfium()
        self.name, self._error = name, pdfium.PdfiumError
        try:
            self._document: Any = pdfium.PdfDocument(file)
            self.pages = len(self._document)
        except pdfium.PdfiumError as error:
            locked = "password" in str(error).lower()
            remedy = "save it without a password" if locked else "save or download it again"
            raise ImageError(f"{name} cannot be read ({error}); {remedy}") from error
        if not self.pages:
            raise ImageError(f"{name} has 0 pages, at least 1 needed")

    def page(self, number: int, *, dpi: int = DPI) -> Image:
        """One page on white, RGB, drawn coarser where it would have more than `MAX_PIXELS`.

        Args:
            number: 1 .. pages.
            dpi: pixels an inch, >= 1.

        Raises:
            UsageError: no such page. ImageError: the page is broken.
        """
        if not 1 <= number <= self.pages:
            raise UsageError(f"{self.name} has no page {number}; use 1 to {self.pages}")
        try:
            page = self._document[number - 1]
            width, height = page.get_size()
            scale = min(dpi / POINTS, (MAX_PIXELS / max(width * height, 1)) ** 0.5)
            return page.render(scale=scale).to_pil().convert("RGB")
        except (self._error, ValueError, MemoryError) as error:
            raise ImageError(f"page {number} of {self.name} cannot be drawn ({error}); save the PDF again") from error


def is_pdf(path: Path) -> bool:
    """By its beginning, not by its name."""
    try:
        with path.open("rb") as file:
            return BEGINNING in file.read(1024)
    except OSError:
        return False


def page_apart(file: bytes, number: int, *, run: Callable[..., Any] = subprocess.run) -> tuple[int, bytes]:
    """A page of a stranger's document, drawn in a process of its own.

    Args:
        file: the whole document.
        number: of the page, from 1.

    Returns:
        Pages of the document, the page as PNG.

    Raises:
        UsageError: the extra is missing, or no such page. ImageError: broken, or too much work.
    """
    _pdfium()
    if BEGINNING not in file[:1024]:
        raise ImageError("the file is no PDF; send one that begins with %PDF-")
    command = [sys.executable, "-c", "from ixc.processing.pdf import draw_apart; draw_apart()", str(number)]
    try:
        found = run(command, input=file, capture_output=True, timeout=APART_SECONDS, check=False)
    except subprocess.TimeoutExpired:
        raise ImageError(f"page {number} took longer than {APART_SECONDS} s to draw; use a simpler PDF") from None
    if found.returncode == UsageError.exit_code:
        raise UsageError(found.stderr.decode("utf-8", "replace")[:300])
    if found.returncode == IxcError.exit_code and found.stderr.startswith(b"error: "):
        raise ImageError(found.stderr.decode("utf-8", "replace").removeprefix("error: ")[:300])
    if found.returncode != 0:
        raise ImageError(f"page {number} could not be drawn within {APART_BYTES >> 30} GB of memory; use a simpler PDF")
    pages, _, picture = found.stdout.partition(b"\n")
    return int(pages), picture


def draw_apart() -> None:
    """The other process: a PDF comes in on standard input, the count and the picture go out."""
    _bound()
    try:
        document = Pdf(sys.stdin.buffer.read())
        picture = BytesIO()
        document.page(int(sys.argv[1])).save(picture, "PNG", compress_level=1)
    except IxcError as error:
        sys.stderr.write(str(error) if isinstance(error, UsageError) else f"error: {error}")
        sys.stderr.flush()
        os._exit(error.exit_code)
    sys.stdout.buffer.write(b"%d\n" % document.pages + picture.getvalue())


def _bound() -> None:
    """Seconds and memory of this process, where the system can bound them."""
    try:
        import resource
    except ImportError:
        return
    resource.setrlimit(resource.RLIMIT_CPU, (APART_SECONDS, APART_SECONDS))
    resource.setrlimit(resource.RLIMIT_AS, (APART_BYTES, APART_BYTES))


def _pdfium() -> Any:
    try:
        import pypdfium2
    except ImportError as error:
        raise UsageError(f"{error.name} is missing, which reads PDFs; pip install 'ixc-4khd[pdf]'") from error
    return pypdfium2
