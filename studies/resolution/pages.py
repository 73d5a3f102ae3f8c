"""Pages of the studies: items of a key and two letters, in rows or grids, over two pale digits of half a page.

    K R T            what is the value of K?      value    =K      RT      needs letters large enough to read
    A M K   B Z E    last value in the row of A?  row      >A      ZE      needs to know where a row of tokens ends
    C A A   D O R    value below A?               below    vA      AA      needs both directions
                     the pale number?             large    ##      19      needs more than a tile at once

A page is a pure function of its number; `number % FORMS` says which shape and size it has, so that pages with the
same grid of tiles at every setting are known before they are drawn. Half of the pages are large, drawn for HD-55, half
have a quarter of the pixels. All keys and all values of a page are different.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import exp, log, sqrt

import numpy as np
from numpy.random import Generator
from PIL import Image, ImageDraw

from ixc.nano.data.question_packing import choose
from ixc.synth import fonts
from ixc.synth.page import DrawnPage, PageQuestion, PlacedText, text_width

ASPECTS = (0.4, 0.5, 0.625, 0.75, 0.9, 1.1, 1.33, 1.6, 2.0, 2.5)
"""Width divided by height."""

FORMS = 2 * len(ASPECTS)
"""Number of shapes and sizes of pages: `number % FORMS` is odd for the small ones."""


@dataclass(frozen=True, kw_only=True)
class Sort:
    """A sort of pages: area and font sizes."""

    area: int
    """Area in pixels."""
    letters: tuple[int, int]
    """Smallest and largest font size, pixels; one size per page, log-uniform."""


SORTS = {
    "full": Sort(area=640_000, letters=(9, 30)),
    "small": Sort(area=160_000, letters=(9, 18)),
    "8k": Sort(area=4 * 640_000, letters=(9, 30)),
}
"""`full`: HD-55 keeps letters at 0.85 to 1.0 of their size. `small`: a quarter of the tiles. `8k`: twice the sides of
`full`, in no training."""

SIZES = ((9, 13), (13, 18), (18, 24), (24, 31))
"""Classes of font sizes in the scores, upper bounds excluded."""

ITEMS = (6, 20)
"""Fewest and most items of a page in rows; grids have 2 x 2 to 24."""

KINDS = ("value", "row", "below", "large")
"""Kinds of question."""

FONT = "DejaVuSans"
SPREAD = 2.2  # distance of the left edges of an item's characters in font sizes: few share a token
CELL, PITCH = 6.4, 2.9  # smallest distance of two items' left edges, and of two baselines, in font sizes
PALE, BLACK = (218, 218, 218), (0, 0, 0)
GRID_MOST = 24


def sort_of(number: int) -> str:
    """`full` or `small`."""
    return ("full", "small")[number % 2]


def shape(number: int, sort: str | None = None) -> tuple[int, int]:
    """Width and height of a page, pixels."""
    area, aspect = SORTS[sort or sort_of(number)].area, ASPECTS[number % FORMS // 2]
    return round(sqrt(area * aspect)), round(sqrt(area / aspect))


def draw(number: int, sort: str | None = None) -> DrawnPage:
    """Draw the page of a number; `sort`: key of `SORTS` instead of the number's own."""
    width, height = shape(number, sort)
    area, letters = SORTS[sort or sort_of(number)].area, SORTS[sort or sort_of(number)].letters
    rng = np.random.default_rng([number, area, 23])
    size = round(exp(rng.uniform(log(letters[0]), log(letters[1]))))
    page = DrawnPage(kind="study", width=width, height=height, font=FONT, ink=PALE, number=number)
    _large(page, rng)
    lines = _grid(page, rng, size) if rng.random() < 0.5 else _rows(page, rng, size)
    count = sum(len(line) for line in lines)
    names = iter(items(rng, count))
    written = [[(x, y, *next(names)) for x, y in line] for line in lines]
    for x, y, key, value in (item for line in written for item in line):
        put(page, key + value, x=x, y=y, size=size)
    ask(page, [[(key, value) for _, _, key, value in line] for line in written], page.kind == "grid")
    return page


def items(rng: Generator, count: int) -> list[tuple[str, str]]:
    """Draw keys of one letter and values of two, from one alphabet, so that learning one helps the other."""
    keys = [chr(65 + k) for k in rng.permutation(26)[:count]]
    pairs = rng.choice(26 * 26, count, replace=False)
    return [(key, chr(65 + pair // 26) + chr(65 + pair % 26)) for key, pair in zip(keys, pairs, strict=True)]


def put(page: DrawnPage, item: str, *, x: int, y: int, size: int) -> None:
    """Add an item with its characters apart."""
    for i, character in enumerate(item):
        left = x + round(i * SPREAD * size)
        page.texts.append(PlacedText(string=character, x=left, y=y, size=size, bold=True, ink=BLACK))


def paint(page: DrawnPage) -> Image.Image:
    """Render a page as RGB: as `ixc.synth.render.paint`, but without colours and five times as fast."""
    image = Image.new("L", (page.width, page.height), 255)
    pen = ImageDraw.Draw(image)
    for text in page.texts:
        face, ink = fonts.load(page.font, text.size), (text.ink or page.ink)[0]
        pen.text((text.x, text.y), text.string, fill=ink, font=face, anchor="ls", stroke_width=int(text.bold) * 0.4)
    return image.convert("RGB")


def letter_size(page: DrawnPage) -> int:
    """Font size of the items, pixels."""
    return page.texts[-1].size


def size_class(page: DrawnPage) -> str:
    """Class of the font size, `9-12`, `13-17` ...; larger sizes belong to the last of `SIZES`."""
    low, high = next((pair for pair in SIZES if letter_size(page) < pair[1]), SIZES[-1])
    return f"{low}-{high - 1}"


def asked(rng: Generator, page: DrawnPage, count: int, *, large: bool = True) -> list[PageQuestion]:
    """Sample `count` questions: one about the large number, the others of every other kind equally likely."""
    whole = [q for q in page.questions if q.kind == "large"][: int(large)]
    return whole + choose(rng, [q for q in page.questions if q.kind != "large"], count - len(whole))


def _large(page: DrawnPage, rng: Generator) -> None:
    """Add two pale digits across the middle, larger than a tile from HD-9 on."""
    size = round(min(0.9 * page.width / 1.3, 0.9 * page.height / 0.8) * rng.uniform(0.65, 0.95))
    number = str(rng.integers(10, 100))
    x = (page.width - text_width(number, FONT, size)) / 2 + rng.uniform(-0.04, 0.04) * page.width
    page.texts.append(
        PlacedText(string=number, x=round(x), y=round(page.height / 2 + 0.36 * size), size=size, bold=True)
    )
    page.questions.append(PageQuestion(kind="large", question="##", answer=number))


def _capacity(page: DrawnPage, size: int) -> tuple[int, int]:
    """Most items in a line, and most lines."""
    return int((page.width - size) / (CELL * size)), int((page.height - size) / (PITCH * size))


def _grid(page: DrawnPage, rng: Generator, size: int) -> list[list[tuple[int, int]]]:
    """Draw the positions of items on an even grid of 2 x 2 and more."""
    page.kind = "grid"
    wide, high = _capacity(page, size)
    columns = int(rng.integers(2, min(wide, 6) + 1))
    rows = int(rng.integers(2, min(high, GRID_MOST // columns) + 1))
    right = rng.uniform(CELL * size, min((page.width - size) / columns, 2.5 * CELL * size))
    down = rng.uniform(PITCH * size, min((page.height - size) / rows, 2.5 * PITCH * size))
    x = rng.uniform(0.3 * size, page.width - 0.5 * size - right * columns)
    y = size + rng.uniform(0, page.height - size - down * rows)
    return [[(round(x + c * right), round(y + r * down)) for c in range(columns)] for r in range(rows)]


def _rows(page: DrawnPage, rng: Generator, size: int) -> list[list[tuple[int, int]]]:
    """Draw the positions of items in ragged rows of one item and more, anywhere on the page."""
    page.kind = "rows"
    wide, high = _capacity(page, size)
    count = int(rng.integers(ITEMS[0], min(ITEMS[1], wide * high) + 1))
    rows = int(np.clip(round(count / rng.uniform(1.5, 4.5)), -(-count // wide), min(high, count)))
    lengths = np.ones(rows, int)
    while lengths.sum() < count:
        row = int(rng.integers(rows))
        lengths[row] += lengths[row] < wide
    pitch = (page.height - size) / high
    slots = np.sort(rng.choice(high, rows, replace=False))
    found = []
    for slot, length in zip(slots, lengths, strict=True):
        free = np.sort(rng.uniform(0, page.width - size - length * CELL * size, length))
        y = round(size + slot * pitch)
        found.append([(round(0.5 * size + free[i] + i * CELL * size), y) for i in range(length)])
    return found


def ask(page: DrawnPage, lines: list[list[tuple[str, str]]], grid: bool) -> None:
    """Add every question about the items, (key, value) by line; `grid`: items of two lines are below each other."""
    for row, line in enumerate(lines):
        for column, (key, value) in enumerate(line):
            _question(page, "value", f"={key}", value)
            if column + 1 < len(line):
                _question(page, "row", f">{key}", line[-1][1])
            if grid and row + 1 < len(lines) and column < len(lines[row + 1]):
                _question(page, "below", f"v{key}", lines[row + 1][column][1])


def _question(page: DrawnPage, kind: str, question: str, answer: str) -> None:
    page.questions.append(PageQuestion(kind=kind, question=question, answer=answer))
