"""Pages of a PDF as pictures, through pypdfium2 of the extra `pdf`.

PDFium is 500,000 lines of C++ that read a stranger's file: `pdf_process.PdfProcess` runs this in a process of its own,
bounded in seconds and memory, for every command and the server; `Pdf` is what that process uses.

    PDFium as of pypdfium2 5.15                                       here
    draws form fields only if the form was there before the page      init_forms() right after opening
    ignores /UserUnit                                                 read from the file, see `pdf_units`
    refuses a document that begins behind the first kilobyte          cut off what stands before %PDF-, up to 4 kB
    draws nothing for a font neither embedded nor installed           a warning that names the font
    sizes are rounded up in float32: 2,480 px become 2,481            0.01 px of tolerance
    resamples a scan even at its own resolution                       page(scan_pixels=True) takes the scan's pixels
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ixc.errors import ImageError, MissingPackageError, UsageError
from ixc.processing import image_formats, pdf_units

if TYPE_CHECKING:
    from PIL.Image import Image

DPI = 200
"""Pixels an inch by default: A4 has 1,654 x 2,339 px, 5 x 7 tiles."""

POINTS = 72
"""Points an inch: the unit of a page's size."""

MAX_PIXELS = 50_000_000
"""Most pixels of a page; larger ones are drawn coarser."""

ROUNDING = 0.01
"""Pixels by which a size may exceed a whole number without being rounded up: PDFium's sizes are float32."""

WATCHED_OBJECTS = 5_000
"""Most objects of a page that are looked at for fonts and scans."""

LATIN = 0x024F
"""Last code point that a substitute font is sure to have."""

COVERS = 0.01
"""Share of a page's sides by which a scan may miss them."""

ALIKE = 12
"""Mean difference on 0 .. 255 up to which a scan's own pixels count as what the page shows, both reduced to 64 px."""


_BROKEN = "damaged, or has no pages; save or download it again"


@dataclass(frozen=True, kw_only=True)
class PageImage:
    """A page, drawn."""

    image: Image
    """RGB, on white."""
    warnings: tuple[str, ...] = ()
    """What a viewer may show and the picture lacks."""


class Pdf:
    """An open document; one thread at a time in the whole process."""

    def __init__(self, file: bytes, *, name: str = "the PDF") -> None:
        """
        Args:
            file: the whole document.
            name: for errors.

        Raises:
            MissingPackageError: the extra is missing. ImageError: broken, locked or without pages.
        """
        pdfium = _pdfium()
        self.name, self._error = name, pdfium.PdfiumError
        file = file[max(file[: image_formats.HEAD_BYTES].find(b"%PDF-"), 0) :]
        try:
            self._document: Any = pdfium.PdfDocument(file)
            # Before a page or their number is asked for: fields of pages taken earlier are never drawn.
            self._document.init_forms()
            self.pages = len(self._document)
        except pdfium.PdfiumError as error:
            # Not PDFium's text: after a document without pages it is that of the one before, or "Success".
            locked = "password" in str(error).lower()
            reason = "locked with a password; save it without one" if locked else _BROKEN
            raise ImageError(f"{name} cannot be read: it is {reason}") from error
        if not self.pages:
            raise ImageError(f"{name} has 0 pages, at least 1 needed")
        self._units = pdf_units.user_units(file)

    def page(self, number: int, *, dpi: int = DPI, scan_pixels: bool = False) -> PageImage:
        """One page, drawn coarser where it would have more than `MAX_PIXELS`.

        Args:
            number: 1 .. pages.
            dpi: pixels an inch, >= 1.
            scan_pixels: where the page is one picture, take that picture's own pixels instead of drawing it.

        Raises:
            UsageError: no such page. ImageError: the page is broken.
        """
        try:
            page = self._page(number)
            scan = _scan(page) if scan_pixels else None
            if scan is not None:
                return PageImage(image=scan)
            image = self._draw(page, self._size(page, number, dpi))
            return PageImage(image=image, warnings=(*self._form_warnings(), *_font_warnings(page)))
        except (self._error, ValueError, MemoryError, RuntimeError) as error:
            raise ImageError(f"page {number} of {self.name} cannot be drawn ({error}); save the PDF again") from error

    def size(self, number: int, *, dpi: int = DPI, scan_pixels: bool = False) -> tuple[int, int]:
        """(width, height) in pixels of what `page` returns. Arguments and errors as there."""
        try:
            page = self._page(number)
            scan = _scan(page) if scan_pixels else None
            return self._size(page, number, dpi) if scan is None else scan.size
        except (self._error, ValueError, MemoryError, RuntimeError) as error:
            raise ImageError(f"page {number} of {self.name} cannot be read ({error}); save the PDF again") from error

    def _page(self, number: int) -> Any:
        if not 1 <= number <= self.pages:
            raise UsageError(f"{self.name} has no page {number}; use 1 to {self.pages}")
        return self._document[number - 1]

    def _size(self, page: Any, number: int, dpi: int) -> tuple[int, int]:
        unit = self._units.get(number - 1, 1.0)
        width, height = (side * unit for side in page.get_size())
        scale = min(dpi / POINTS, (MAX_PIXELS / max(width * height, 1)) ** 0.5)
        return tuple(max(1, math.ceil(side * scale - ROUNDING)) for side in (width, height))  # pyright: ignore

    def _draw(self, page: Any, size: tuple[int, int]) -> Image:
        pdfium = _pdfium()
        bitmap = pdfium.PdfBitmap.new_native(*size, pdfium.raw.FPDFBitmap_BGR)
        bitmap.fill_rect((255, 255, 255, 255), 0, 0, *size)
        arguments = (bitmap, page, 0, 0, *size, 0, pdfium.raw.FPDF_ANNOT)
        pdfium.raw.FPDF_RenderPageBitmap(*arguments)
        if self._document.formenv:
            pdfium.raw.FPDF_FFLDraw(self._document.formenv, *arguments)
        return bitmap.to_pil().convert("RGB")

    def _form_warnings(self) -> tuple[str, ...]:
        raw = _pdfium().raw
        if self._document.get_formtype() in (raw.FORMTYPE_XFA_FULL, raw.FORMTYPE_XFA_FOREGROUND):
            return ("its form is of the XFA kind, whose values may not be drawn; print it to PDF from Acrobat",)
        return ()


def is_pdf(path: Path) -> bool:
    """By its beginning, not by its name."""
    try:
        with path.open("rb") as file:
            return image_formats.is_pdf(file.read(image_formats.HEAD_BYTES))
    except OSError:
        return False


# -- fonts ------------------------------------------------------------------------------------------------------------


def _font_warnings(page: Any) -> tuple[str, ...]:
    """Fonts for whose letters nothing is drawn: not in the document, and no substitute on this machine has them."""
    text, missing = page.get_textpage(), {}
    for each in _objects(page, text):
        if each.type != _pdfium().raw.FPDF_PAGEOBJ_TEXT or not _is_empty(each):
            continue
        font = each.get_font()
        letters = each.extract()
        if not font.is_embedded and any(ord(letter) > LATIN and not letter.isspace() for letter in letters):
            missing.setdefault(font.get_base_name() or "a font", []).append(letters)
    return tuple(
        f"{sum(map(len, letters)):,} letters in {name} are not drawn ({''.join(letters)[:12]!r}): the font is neither "
        "in the PDF nor installed; install one for this script (fonts-noto-cjk), or embed it"
        for name, letters in missing.items()
    )


def _is_empty(each: Any) -> bool:
    """Whether PDFium finds no outline for any letter of a text: the box has a width and no height."""
    left, bottom, right, top = each.get_bounds()
    return right > left and top <= bottom


def _objects(page: Any, text: Any) -> Iterator[Any]:
    for count, each in enumerate(page.get_objects(textpage=text)):
        if count >= WATCHED_OBJECTS:
            return
        yield each


# -- scans ------------------------------------------------------------------------------------------------------------


def _scan(page: Any) -> Image | None:
    """The pixels of the one picture that a page consists of, upright; None where there is more, or less, on it.

    Letters that a text recogniser has laid over it invisibly do not count.
    """
    raw = _pdfium().raw
    found = [each for each in _objects(page, page.get_textpage()) if not _is_invisible(each, raw)]
    if len(found) != 1 or found[0].type != raw.FPDF_PAGEOBJ_IMAGE or raw.FPDFPage_GetAnnotCount(page) > 0:
        return None
    if not _covers(found[0], page):
        return None
    width, height = found[0].get_px_size()
    if width * height > MAX_PIXELS:
        return None
    own = found[0].get_bitmap(render=False).to_pil().convert("RGB")
    own = own.rotate(-page.get_rotation(), expand=True)
    # Masks, decode arrays and mirrored pictures would make it differ from what is seen.
    return own if _alike(own, page.render(scale=64 / max(page.get_size())).to_pil().convert("RGB")) else None


def _is_invisible(each: Any, raw: Any) -> bool:
    return each.type == raw.FPDF_PAGEOBJ_TEXT and (
        raw.FPDFTextObj_GetTextRenderMode(each) == raw.FPDF_TEXTRENDERMODE_INVISIBLE
    )


def _covers(picture: Any, page: Any) -> bool:
    a, b, c, d, _, _ = picture.get_matrix().get()
    box = page.get_bbox()
    edges = zip(picture.get_bounds(), box, strict=True)
    room = COVERS * max(box[2] - box[0], box[3] - box[1])
    return b == c == 0 and a > 0 and d > 0 and all(abs(edge - side) <= room for edge, side in edges)


def _alike(one: Image, other: Image) -> bool:
    from PIL import ImageChops, ImageStat

    small = one.resize(other.size, reducing_gap=2)
    return max(ImageStat.Stat(ImageChops.difference(small, other)).mean) <= ALIKE


def check_installed() -> None:
    """Without importing it. Raises: MissingPackageError: the extra is missing."""
    if find_spec("pypdfium2") is None:
        raise MissingPackageError("pypdfium2 is missing, which reads PDFs; pip install 'ixc-4khd[pdf]'")


def _pdfium() -> Any:
    check_installed()
    import pypdfium2

    return pypdfium2
