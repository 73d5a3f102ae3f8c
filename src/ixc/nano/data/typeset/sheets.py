"""Typeset pages and charts with their questions as `ixc synth --open` writes them.

(seed, number) -> compose_document | compose_chart -> PDF -> picture, text -> questions that the page answers
"""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache, partial
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.random import Generator
from PIL import Image

from ixc.core.tiling import AUTO, resolve_hd
from ixc.errors import DataError, UsageError
from ixc.nano.data.page_files import add_page
from ixc.nano.data.page_questions import ask_page
from ixc.nano.data.page_text import PageText, read_page_text
from ixc.nano.data.pdf_pages import LeftOut, PageConfig, read_page
from ixc.nano.data.typeset.charts import CHARTS, ChartDocument, compose_chart
from ixc.nano.data.typeset.documents import KINDS, TypstDocument, compose_document
from ixc.nano.data.typeset.folder import Typesetter
from ixc.nano.data.typeset.text import TextSource
from ixc.synth.dataset_folder import PageFile, Sheet
from ixc.synth.degradation import Degradation
from ixc.synth.page import PageQuestion

CHART = "chart-"
"""What the kinds of charts begin with."""
OPEN_KINDS = (*KINDS, *(CHART + kind for kind in CHARTS))
"""Kinds of open pages."""
ASKED = 12
"""Questions of a page that are drawn from its lines, beside those it was made with."""
TRIES = 20
"""Documents drawn for a sheet: some have no page that can be shown, such as one whose text is not visible."""
PAGE = PageConfig(em=(10.0, 40.0), min_characters=8)


@dataclass(frozen=True, kw_only=True)
class OpenDrawing:
    """How open pages are drawn; a function of page numbers that pickles. The same fonts give the same pages."""

    kind: str | None = None
    """One of `OPEN_KINDS`; None = all, mixed."""
    fonts: tuple[Path, ...] = ()
    """Folders of fonts beside those of the package."""
    text_format: str = "questions"
    """One of `dataset_folder.FORMATS`."""
    degradation: Degradation = field(default_factory=Degradation)
    """Applied to each image before it is written."""

    def check(self) -> None:
        """Check the kind, and that everything is installed. Raises: UsageError, MissingPackageError."""
        if self.kind is not None and self.kind not in OPEN_KINDS:
            raise UsageError(f"no kind {self.kind!r} of open pages; use one of {', '.join(OPEN_KINDS)}")
        _typesetter(self.fonts)

    def draw(self, number: int) -> PageFile:
        """Draw a page by its number."""
        sheet = open_sheet(_typesetter(self.fonts), TextSource(), number, self.kind)
        return sheet.as_file(self.text_format, self.degradation)


@lru_cache(maxsize=1)
def _typesetter(fonts: tuple[Path, ...]) -> Typesetter:
    """Return Typst with these fonts, once a process."""
    return Typesetter(fonts)


def open_sheet(typesetter: Typesetter, text: TextSource, number: int, kind: str | None = None) -> Sheet:
    """Draw a sheet; the same number gives the same one with the same fonts and words.

    Args:
        typesetter: with the fonts.
        text: words and sentences.
        number: of the sheet, >= 0.
        kind: of `OPEN_KINDS`; None = any.

    Raises:
        DataError: no document of this kind shows text, which fonts without letters can cause.
    """
    rng = np.random.default_rng([number, 0])
    for _ in range(TRIES):
        document, pdf = _document(rng, typesetter, text, kind or OPEN_KINDS[int(rng.integers(len(OPEN_KINDS)))])
        found = _read(pdf, document, rng)
        if found is not None and (questions := _questions(found[1], rng)):
            picture, page = found
            hd = resolve_hd(AUTO, [(page.width, page.height)], rule="native")
            shown = partial(Image.Image.copy, picture)
            return Sheet(number=number, kind=document.kind, hd=hd, questions=questions, picture=shown)
    raise DataError(f"sheet {number}: {TRIES} documents of kind {kind} show no text that can be asked about")


def _document(
    rng: Generator, typesetter: Typesetter, text: TextSource, kind: str
) -> tuple[TypstDocument | ChartDocument, bytes]:
    if kind.startswith(CHART):
        chart = compose_chart(rng, text, typesetter.font_files, kind=kind.removeprefix(CHART))
        return chart, chart.pdf
    document = compose_document(rng, text, typesetter.families, kind=kind)
    return document, typesetter.set(document)


def _read(pdf: bytes, document: TypstDocument | ChartDocument, rng: Generator) -> tuple[Image.Image, PageText] | None:
    """Return the first page that training could use as a picture with its text; None where there is none."""
    import pypdfium2

    known: Sequence[Any] = [[fact.question, fact.answer, *fact.needs] for fact in document.known]
    opened = pypdfium2.PdfDocument(pdf)
    try:
        page = opened[0]
        try:
            found, file = read_page(page, rng, PAGE), BytesIO()
        except LeftOut:
            return None
        finally:
            page.close()
    finally:
        opened.close()
    with zipfile.ZipFile(file, "w") as archive:
        add_page(archive, 0, found, {"package": "synth", "document": document.kind, "known": known})
    return Image.fromarray(found.picture), read_page_text(file, 0)


def _questions(page: PageText, rng: Generator) -> tuple[PageQuestion, ...]:
    """Return what the page was made with, where it shows it, and questions from its lines; each string once."""
    made = ask_page(page, rng, 4 * ASKED, kinds=("known",))
    lines = ask_page(page, rng, ASKED, kinds=("line", "value", "title", "first_line", "last_line", "yes_no"))
    found = {one.question: one for one in (*made, *lines)}
    return tuple(found.values())


__all__ = ["OPEN_KINDS", "OpenDrawing", "open_sheet"]
