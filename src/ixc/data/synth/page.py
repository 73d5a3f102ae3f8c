"""A page before it has pixels: texts with places, rules (drawn lines), and questions with exact answers.

The whole chain, once:

    number -> compose (kinds.py) -> Page -> paint (paint.py)      -> PIL image
                                       \\-> characters(page)       -> which character has its centre where

A `Page` is a pure function of its number, so any sample can be drawn again. Pixels are native pixels of the page,
x to the right, y down, both from the top left corner.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np

from ixc.data.synth import fonts

CENTRE = 0.35  # height of a character's centre above its baseline, as a share of the font size (half an x-height)
FIRST, LAST = 32, 126  # the printable ASCII characters a page may hold
SPACE = LAST - FIRST + 1
"""Code of a blank between two characters of a text: a place that can be seen, unlike code 0, nothing."""


@dataclass(frozen=True, kw_only=True)
class Text:
    """One run of characters on one baseline."""

    string: str
    x: int
    """Left edge in pixels."""
    y: int
    """Baseline in pixels."""
    size: int
    """Font size in pixels per em."""
    bold: bool = False
    """Drawn with a one-pixel stroke."""


@dataclass(frozen=True, kw_only=True)
class Question:
    """A question about a page and its only right answer."""

    kind: str
    question: str
    answer: str


@dataclass(kw_only=True)
class Page:
    """A composed page; `paint` turns it into pixels."""

    kind: str
    width: int
    height: int
    font: str
    texts: list[Text] = field(default_factory=list)
    rules: list[tuple[int, int, int, int]] = field(default_factory=list)
    """Lines (x0, y0, x1, y1) in pixels."""
    questions: list[Question] = field(default_factory=list)
    ink: tuple[int, int, int] = (0, 0, 0)
    paper: tuple[int, int, int] = (255, 255, 255)
    number: int = -1
    hd: int = 1
    """Largest number of tiles the page was drawn for: its text is legible at this setting."""


@lru_cache(maxsize=4096)
def advances(font: str, size: int) -> np.ndarray:
    """Widths in pixels of the printable ASCII characters, (95,) float64, index = code - 32."""
    face = fonts.load(font, size)
    return np.array([face.getlength(chr(c)) for c in range(FIRST, LAST + 1)])


def codes(string: str) -> np.ndarray:
    """Character codes of an ASCII string, minus 32: (n,) int64."""
    return np.frombuffer(string.encode("ascii"), dtype=np.uint8).astype(np.int64) - FIRST


def text_width(string: str, font: str, size: int) -> float:
    """Width in pixels of a string without kerning."""
    return float(advances(font, size)[codes(string)].sum())


def characters(page: Page) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Every character of a page in reading order within its text, blanks inside a text included.

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
    return tuple(np.concatenate(column) for column in zip(*parts, strict=True))  # type: ignore[return-value]
