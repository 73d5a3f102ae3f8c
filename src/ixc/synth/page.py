"""Page model before rendering: texts with positions, drawn lines, shapes, and questions with exact answers.

    number -> compose (page_sampling.py) -> DrawnPage -> paint (render.py)   -> PIL image
                                                  \\-> characters(page)      -> position of every character

A `DrawnPage` is a pure function of its number, so any sample can be drawn again. Coordinates are native pixels of the
page, x to the right and y down from the top left corner.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np

from ixc.synth import fonts

CENTRE = 0.35  # height of a character's centre above the baseline, as a share of the font size (half an x-height)
FIRST, LAST = 32, 126  # the printable ASCII characters a page may hold
SPACE = LAST - FIRST + 1
"""Code of a blank inside a text. It occupies a position, unlike code 0, which means no character."""


Colour = tuple[int, int, int]
"""Red, green, blue, 0 to 255."""


@dataclass(frozen=True, kw_only=True)
class PlacedText:
    """A run of characters on one baseline."""

    string: str
    x: int
    """Left edge in pixels."""
    y: int
    """Baseline in pixels."""
    size: int
    """Font size in pixels per em."""
    bold: bool = False
    """Drawn with a one-pixel stroke."""
    ink: Colour | None = None
    """Colour of this text; None = the page's ink."""


@dataclass(frozen=True, kw_only=True)
class Shape:
    """A filled or outlined shape drawn below the text."""

    form: str
    """`box`, `disc`, `wedge` (a slice of a disc) or `line` (through the points of `box`, two numbers a point)."""
    box: tuple[int, ...]
    """x0, y0, x1, y1 in pixels; for a line x, y of each point."""
    fill: Colour
    width: int = 0
    """Width of a line or an outline in pixels; 0 = filled."""
    start: float = 0.0
    """Start angle of a wedge, degrees clockwise from three o'clock."""
    end: float = 360.0
    """End angle of a wedge, degrees clockwise from three o'clock."""


@dataclass(frozen=True, kw_only=True)
class PageQuestion:
    """A question about a page and its only right answer."""

    kind: str
    """What it asks for: `value`, `cell`, `where` ..."""
    question: str
    answer: str


@dataclass(kw_only=True)
class DrawnPage:
    """A composed page; `paint` turns it into pixels."""

    kind: str
    width: int
    height: int
    font: str
    texts: list[PlacedText] = field(default_factory=list)
    rules: list[tuple[int, int, int, int]] = field(default_factory=list)
    """Lines (x0, y0, x1, y1) in pixels."""
    shapes: list[Shape] = field(default_factory=list)
    questions: list[PageQuestion] = field(default_factory=list)
    extra_questions: list[PageQuestion] = field(default_factory=list)
    """Further exact questions of the same kinds, asked in training only."""
    counted: list[str] = field(default_factory=list)
    """Texts that `How many ... are there?` counts, in reading order."""
    ink: Colour = (0, 0, 0)
    paper: Colour = (255, 255, 255)
    ground: str = "plain"
    """Background: one of `render.GROUNDS`."""
    rotation: float = 0.0
    """Rotation of the whole page around its centre, degrees counter-clockwise."""
    number: int = -1
    hd: int = 1
    """HD-n setting the page is drawn for, at which its text is legible."""


@lru_cache(maxsize=4096)
def advances(font: str, size: int) -> np.ndarray:
    """Advance widths of the printable ASCII characters in pixels: (95,) float64, index = code - 32."""
    face = fonts.load(font, size)
    return np.array([face.getlength(chr(c)) for c in range(FIRST, LAST + 1)])


def codes(string: str) -> np.ndarray:
    """Character codes of an ASCII string, minus 32: (n,) int64."""
    return np.frombuffer(string.encode("ascii"), dtype=np.uint8).astype(np.int64) - FIRST


def text_width(string: str, font: str, size: int) -> float:
    """Width in pixels of a string without kerning."""
    return float(advances(font, size)[codes(string)].sum())


def characters(page: DrawnPage) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Locate every character of a page, text by text, blanks inside a text included.

    Returns:
        codes (n,) int64: ASCII code - 32, or SPACE; x (n,) and y (n,) float64 centres in native pixels.
    """
    parts: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
    for text in page.texts:
        c = codes(text.string)
        width = advances(page.font, text.size)[c]
        x = text.x + np.cumsum(width) - width / 2
        parts.append((np.where(c == 0, SPACE, c), x, np.full(len(c), text.y - CENTRE * text.size)))
    if not parts:
        return np.zeros(0, np.int64), np.zeros(0), np.zeros(0)
    found, x, y = (np.concatenate(column) for column in zip(*parts, strict=True))
    return found, *rotated(x, y, page)


def rotated(x: np.ndarray, y: np.ndarray, page: DrawnPage) -> tuple[np.ndarray, np.ndarray]:
    """Map pixels (x, y) of the upright page through its rotation; without one the same arrays are returned."""
    if not page.rotation:
        return x, y
    cos, sin = np.cos(np.deg2rad(page.rotation)), np.sin(np.deg2rad(page.rotation))
    right, down = x - page.width / 2, y - page.height / 2
    return page.width / 2 + right * cos + down * sin, page.height / 2 - right * sin + down * cos
