"""`ixc data typeset`: a folder of pages as `ixc data pages` writes it, drawn from (seed, number) alone, resumable.

compose_document --Typst--> PDF --PDFium--> TypesetPage, Known --> OUT/documents/00012.zip, a line of OUT/index.jsonl
compose_chart --matplotlib--> PDF
"""

from __future__ import annotations

import importlib.util
import json
import os
import zipfile
from collections import Counter
from collections.abc import Generator, Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, cast

import numpy as np

import ixc.synth
from ixc.errors import DataError, MissingPackageError
from ixc.nano.data.page_files import add_page
from ixc.nano.data.page_folder import CONFIG, DOCUMENTS, INDEX, Outcome, read_index
from ixc.nano.data.page_text import page_places, read_page_text
from ixc.nano.data.pdf_pages import LeftOut, PageConfig, TypesetPage, read_page
from ixc.nano.data.typeset.charts import ChartDocument, compose_chart
from ixc.nano.data.typeset.documents import TypstDocument, compose_document
from ixc.nano.data.typeset.text import TextSource

FONT_FILES = (".ttf", ".otf")
"""Ends of the names of fonts for charts."""
PACKAGE = "typeset"
"""What these pages name as their package."""
FONTS = Path(ixc.synth.__file__).parent / "fonts"
"""Fonts of the package."""


@dataclass(frozen=True, kw_only=True)
class TypesetConfig:
    """How a folder of typeset pages is made."""

    seed: int = 0
    documents: int = 16
    """Of a file."""
    pages: int = 2
    """Most pages of a document."""
    charts: float = 0.12
    """Share of documents that are charts."""
    page: PageConfig = field(default_factory=lambda: PageConfig(min_characters=8))


class Typesetter:
    """Typst with a set of fonts."""

    def __init__(self, folders: Iterable[Path] = ()) -> None:
        """
        Args:
            folders: of fonts, searched to any depth, beside those of the package.

        Raises:
            MissingPackageError: typst, matplotlib or pypdfium2 is missing.
        """
        for module in ("typst", "matplotlib", "pypdfium2"):
            if importlib.util.find_spec(module) is None:
                raise MissingPackageError(f"{module} is missing, which sets pages; pip install 'ixc-4khd[typeset]'")
        import typst

        paths = [str(FONTS), *(str(folder) for folder in folders)]
        fonts: Any = typst.Fonts(include_system_fonts=False, include_embedded_fonts=True, font_paths=paths)
        self.families = sorted({one for one in fonts.families() if one})
        self.compiler = typst.Compiler(font_paths=fonts)
        self.font_files = sorted(file for path in paths for end in FONT_FILES for file in Path(path).rglob(f"*{end}"))
        """For charts."""

    def set(self, document: TypstDocument) -> bytes:
        """The PDF of a document."""
        return cast(bytes, self.compiler.compile(document.source.encode()))  # a PDF is one file


def write_typeset(
    out: Path, count: int, config: TypesetConfig, *, typesetter: Typesetter, text: TextSource
) -> Generator[Outcome]:
    """Files 0 to count - 1 of typeset pages, those that are there left as they are; yields each new one's outcome.

    Raises:
        DataError: the folder was made with another configuration, or cannot be written.
    """
    done = _open_folder(out, config)
    for number in range(count):
        name = f"{number:05d}.zip"
        if name in done:
            continue
        outcome = _write_file(out / DOCUMENTS / name, number, config, typesetter, text)
        try:
            with (out / INDEX).open("a", encoding="utf-8") as index:
                index.write(json.dumps(asdict(outcome)) + "\n")
                index.flush()
                os.fsync(index.fileno())
        except OSError as error:
            raise DataError(f"{out / INDEX} cannot be written ({error}); free space, then run again") from error
        yield outcome


def _open_folder(out: Path, config: TypesetConfig) -> set[str]:
    (out / DOCUMENTS).mkdir(parents=True, exist_ok=True)
    path, settings = out / CONFIG, json.dumps(asdict(config), indent=1)
    if path.is_file() and json.loads(path.read_text()) != json.loads(settings):
        raise DataError(f"{out} was made with the other settings of {path}; use those, or a new folder")
    path.write_text(settings + "\n")
    return {outcome.file for outcome in read_index(out)}


def _write_file(path: Path, number: int, config: TypesetConfig, typesetter: Typesetter, text: TextSource) -> Outcome:
    beside, left_out, pages = path.with_suffix(".partial"), Counter[str](), 0
    with zipfile.ZipFile(beside, "w", zipfile.ZIP_STORED) as file:
        for i in range(config.documents):
            rng = np.random.default_rng([config.seed, number, i])
            document, pdf = _draw_document(rng, config, typesetter, text)
            for page in _pages(pdf, rng, config, left_out):
                add_page(file, pages, page, _notes(document, number, i))
                pages += 1
    os.replace(beside, path)
    return Outcome(
        package=PACKAGE, document=path.stem, status="pages", pages=pages, file=path.name, left_out=dict(left_out)
    )


def _draw_document(
    rng: np.random.Generator, config: TypesetConfig, typesetter: Typesetter, text: TextSource
) -> tuple[TypstDocument | ChartDocument, bytes]:
    """Return a document or a chart with its PDF."""
    if rng.random() < config.charts:
        chart = compose_chart(rng, text, typesetter.font_files)
        return chart, chart.pdf
    document = compose_document(rng, text, typesetter.families)
    return document, typesetter.set(document)


def _pages(
    pdf: bytes, rng: np.random.Generator, config: TypesetConfig, left_out: Counter[str]
) -> Generator[TypesetPage]:
    import pypdfium2

    opened = pypdfium2.PdfDocument(pdf)
    try:
        for number in range(min(len(opened), config.pages)):
            page = opened[number]
            try:
                yield read_page(page, rng, config.page)
            except LeftOut as reason:
                left_out[str(reason)] += 1
            finally:
                page.close()
    finally:
        opened.close()


def _notes(document: TypstDocument | ChartDocument, number: int, i: int) -> dict[str, Any]:
    known = [[fact.question, fact.answer, *fact.needs] for fact in document.known]
    return {"package": PACKAGE, "document": f"{document.kind}-{number}-{i}", "known": known}


def text_of_pages(folder: Path, *, pages: int = 400) -> TextSource:
    """Lines of running text of a folder of pages, of as many pages drawn evenly.

    Raises:
        DataError: no pages there.
    """
    places = page_places(folder)
    chosen = places[:: max(1, len(places) // pages)]
    lines = (line.text for path, number in chosen for line in read_page_text(path, number).lines)
    return TextSource(line for line in lines if 2 < len(line) < 120)


__all__ = ["TypesetConfig", "Typesetter", "text_of_pages", "write_typeset"]
