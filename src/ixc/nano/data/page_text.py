"""The characters of a page without its pixels: what the language model learns to read before it sees pictures.

    file of pages (page_files.py) | DrawnPage --> PageText --cut_region--> PageText of a region (slot_tokens.py)

Characters stand in reading order, each with the pixel of its centre (`windows.CENTRE` above the baseline).
"""

from __future__ import annotations

import json
import math
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image

from ixc.core.tiling import TILE
from ixc.errors import DataError
from ixc.nano.data.alphabet import class_of, classes_of, text_of
from ixc.nano.data.page_files import EIGHTHS, page_numbers
from ixc.nano.data.windows import CENTRE
from ixc.synth.page import FIRST, SPACE, DrawnPage, characters


@dataclass(frozen=True, kw_only=True)
class Line:
    """A line of a page, or what a region shows of it."""

    text: str
    """Words with one space between them; U+FFFD for characters outside of the alphabet."""
    left: float
    """Pixels."""
    right: float
    """Pixels."""
    y: float
    """Centre of its characters, pixels."""
    size: float
    """Median em in pixels."""
    block: int


@dataclass(frozen=True, kw_only=True)
class Known:
    """A question whose answer is known because the page was made with it."""

    question: str
    answer: str
    needs: tuple[str, ...]
    """Strings that a region must show in full for the question to be asked there."""


@dataclass(frozen=True, kw_only=True)
class PageText:
    """Characters of a page or a region in reading order."""

    classes: np.ndarray
    """(n,) int64 of `alphabet`."""
    x: np.ndarray
    """(n,) float32 pixels."""
    y: np.ndarray
    """(n,) float32 pixels."""
    size: np.ndarray
    """(n,) float32: em in pixels."""
    word: np.ndarray
    """(n,) int64, rising."""
    line: np.ndarray
    """(n,) int64, rising."""
    block: np.ndarray
    """(n,) int64."""
    width: int
    """Pixels of the page or region."""
    height: int
    source: str
    """Package, or `drawn`."""
    known: tuple[Known, ...] = ()

    def __len__(self) -> int:
        return len(self.classes)

    @cached_property
    def lines(self) -> tuple[Line, ...]:
        """Lines in reading order."""
        starts = np.flatnonzero(np.r_[True, self.line[1:] != self.line[:-1]]) if len(self) else []
        return tuple(self._line(run) for run in np.split(np.arange(len(self)), starts[1:]) if len(run))

    def _line(self, run: np.ndarray) -> Line:
        breaks = np.flatnonzero(np.diff(self.word[run])) + 1
        x, size = self.x[run], float(np.median(self.size[run]))
        return Line(
            text=" ".join(text_of(part) for part in np.split(self.classes[run], breaks)),
            left=float(x.min()) - 0.3 * size,
            right=float(x.max()) + 0.3 * size,
            y=float(np.median(self.y[run])),
            size=size,
            block=int(self.block[run[0]]),
        )

    def take(self, kept: np.ndarray) -> PageText:
        """The characters of a mask, on the same page."""
        names = ("classes", "x", "y", "size", "word", "line", "block")
        return replace(self, **{name: getattr(self, name)[kept] for name in names})


def read_page_text(path: Path | BytesIO, number: int) -> PageText:
    """A page of a file of pages, without opening its picture."""
    with zipfile.ZipFile(path) as file:
        facts = json.loads(file.read(f"{number:04d}.json"))
        with np.load(BytesIO(file.read(f"{number:04d}.npz"))) as arrays:
            order = arrays["order"].astype(np.int64)
            tight = arrays["tight"][order].astype(np.float32) / EIGHTHS
            size = arrays["size"][order].astype(np.float32)
            return PageText(
                classes=classes_of(arrays["code"][order].astype(np.int64)),
                x=(tight[:, 0] + tight[:, 2]) / 2,
                y=arrays["origin"][order, 1].astype(np.float32) / EIGHTHS - CENTRE * size,
                size=size,
                **{k: arrays[k][order].astype(np.int64) for k in ("word", "line", "block")},
                width=facts["width"],
                height=facts["height"],
                source=facts["package"],
                known=tuple(Known(question=q, answer=a, needs=tuple(n)) for q, a, *n in facts.get("known", ())),
            )


Place = tuple[Path, int]
"""File of pages, and a page of it."""


def page_places(folder: Path) -> list[Place]:
    """Every page of a folder of `ixc data pages`.

    Raises:
        DataError: there are none.
    """
    found = [(path, n) for path in sorted(folder.glob("documents/*.zip")) for n in page_numbers(path)]
    if not found:
        raise DataError(f"0 pages in {folder}; build them first (ixc data pages, or recipes/nano_pages.py pages)")
    return found


def folder_places(folders: Sequence[Path]) -> list[list[Place]]:
    """The pages of several folders.

    Raises:
        DataError: no folder, or one without pages.
    """
    if not folders:
        raise DataError("0 folders of pages; build some first (ixc data pages, or recipes/nano_pages.py pages)")
    return [page_places(folder) for folder in folders]


def draw_place(folders: Sequence[Sequence[Place]], rng: np.random.Generator) -> Place:
    """A page of a folder, every folder with the same probability."""
    places = folders[int(rng.integers(len(folders)))]
    return places[int(rng.integers(len(places)))]


def drawn_page_text(page: DrawnPage) -> PageText:
    """Characters of a page that this package draws; each of its texts is a line and a block."""
    codes, x, y = characters(page)
    length = [len(text.string) for text in page.texts]
    line = np.repeat(np.arange(len(length)), length)
    blank = codes == SPACE
    word = np.cumsum(blank | np.r_[True, line[1:] != line[:-1]]) if len(line) else line
    letters = ~blank
    return PageText(
        classes=np.array([class_of(chr(FIRST + c)) for c in codes[letters].tolist()], np.int64),
        x=x[letters].astype(np.float32),
        y=y[letters].astype(np.float32),
        size=np.repeat([float(text.size) for text in page.texts], length)[letters].astype(np.float32),
        word=word[letters],
        line=line[letters],
        block=line[letters],
        width=page.width,
        height=page.height,
        source="drawn",
    )


def scaled(page: PageText, factor: float) -> PageText:
    """The page drawn larger or smaller."""
    sides = {"width": max(1, round(page.width * factor)), "height": max(1, round(page.height * factor))}
    return replace(page, x=page.x * factor, y=page.y * factor, size=page.size * factor, **sides)


@dataclass(frozen=True, kw_only=True)
class RegionBox:
    """Where a region lies on a page, and at which size."""

    factor: float
    """The page is drawn this much larger."""
    left: float
    """Pixels of the page drawn larger; negative where the page is narrower than the region."""
    top: float
    width: int
    """Pixels of the region."""
    height: int


def cut_region(page: PageText, rng: np.random.Generator, *, grid: tuple[int, int], em: tuple[float, float]) -> PageText:
    """The characters of `draw_region_box`."""
    return cut(page, draw_region_box(page, rng, grid=grid, em=em))


def draw_region_box(
    page: PageText,
    rng: np.random.Generator,
    *,
    grid: tuple[int, int],
    em: tuple[float, float],
    largest: float = math.inf,
) -> RegionBox:
    """A region around a character drawn at random, at a size at which its em lies within bounds.

    Args:
        grid: rows and columns of tiles that the region fills, the last of each in part.
        em: least and most em of that character in pixels, drawn uniformly in the logarithm.
        largest: most that the page is drawn larger.
    """
    chosen = int(rng.integers(len(page)))
    wanted = float(np.exp(rng.uniform(*np.log(em))))
    factor = min(wanted / float(page.size[chosen]), largest)
    height, width = (round(TILE * (n - float(rng.uniform(0, 0.8)))) for n in grid)
    left = _start(rng, float(page.x[chosen]) * factor, side=width, whole=max(1, round(page.width * factor)))
    top = _start(rng, float(page.y[chosen]) * factor, side=height, whole=max(1, round(page.height * factor)))
    return RegionBox(factor=factor, left=left, top=top, width=width, height=height)


def cut(page: PageText, box: RegionBox) -> PageText:
    """The characters of a region."""
    page = scaled(page, box.factor)
    x, y = page.x - box.left, page.y - box.top
    inside = (x >= 0) & (y >= 0) & (x < box.width) & (y < box.height)
    return replace(page, x=x, y=y, width=box.width, height=box.height).take(inside)


def cut_picture(picture: np.ndarray, box: RegionBox) -> np.ndarray:
    """The pixels of a region; what lies beyond the page is white.

    Args:
        picture: (H, W) or (H, W, 3) uint8, the page.

    Returns:
        (box.height, box.width) or (box.height, box.width, 3) uint8.
    """
    left, top = box.left / box.factor, box.top / box.factor
    right, bottom = left + box.width / box.factor, top + box.height / box.factor
    height, width = picture.shape[:2]
    edges = [max(0, math.ceil(v)) for v in (-top, bottom - height, -left, right - width)]
    if any(edges):
        sides = ((edges[0], edges[1]), (edges[2], edges[3]), (0, 0))
        picture = np.pad(picture, sides[: picture.ndim], constant_values=255)
    source = (left + edges[2], top + edges[0], right + edges[2], bottom + edges[0])
    image = Image.fromarray(picture).resize((box.width, box.height), Image.Resampling.BICUBIC, box=source)
    return np.asarray(image)


def _start(rng: np.random.Generator, at: float, *, side: int, whole: int) -> float:
    start = at - float(rng.uniform(0.1, 0.9)) * side
    return float(np.clip(start, min(0, whole - side), max(0, whole - side)))


def with_random_letters(page: PageText, rng: np.random.Generator) -> PageText:
    """Every letter and figure replaced by another of its kind: text that cannot be guessed."""
    table = _kinds()
    classes = page.classes.copy()
    for kind in table:
        here = np.flatnonzero(np.isin(classes, kind))
        classes[here] = rng.choice(kind, size=len(here))
    return replace(page, classes=classes)


def _kinds() -> tuple[np.ndarray, ...]:
    spans = (("a", "z"), ("A", "Z"), ("0", "9"))
    return tuple(np.array([class_of(chr(c)) for c in range(ord(a), ord(b) + 1)]) for a, b in spans)


__all__ = [
    "Known",
    "Line",
    "PageText",
    "Place",
    "RegionBox",
    "cut",
    "cut_picture",
    "cut_region",
    "draw_place",
    "draw_region_box",
    "drawn_page_text",
    "folder_places",
    "page_places",
    "read_page_text",
    "scaled",
    "with_random_letters",
]
