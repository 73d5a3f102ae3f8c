"""Configuration of a family of pages, for training from nothing and for evaluation."""

from __future__ import annotations

from dataclasses import dataclass

from ixc.synth.fonts import FIRST_FONTS
from ixc.synth.values import LONGEST, VALUES


@dataclass(frozen=True, kw_only=True)
class PageFamily:
    """Distribution of drawn pages; the defaults are those of the embedded model's first version."""

    shares: tuple[tuple[str, float], ...] = (("form", 0.3), ("receipt", 0.3), ("table", 0.25), ("notice", 0.15))
    """Kinds of page and their probabilities; sum 1."""
    settings: tuple[int, ...] = (1, 4, 9)
    """HD-n settings that pages are drawn for, equally often; ascending."""
    fonts: tuple[str, ...] = FIRST_FONTS
    """Font names of `fonts.py`, drawn equally often."""
    letters: tuple[float, float, float] = (22, 27, 34)
    """Smallest, median and largest body font size, in pixels after resizing to the canvas."""
    spread: float = 0.12
    """Standard deviation of the logarithm of the font size."""
    titled: float = 0.85
    """Share of the pages with space for a title that have one."""
    coloured: float = 0.5
    """Share of the pages in other colours than black on white."""
    degraded: float = 0.0
    """Share of the training images that are degraded (`degradation.random_degradation`)."""
    values: tuple[str, ...] = tuple(VALUES)
    """Kinds of `values.VALUES` for the values of forms and the cells of tables."""
    longest: int = LONGEST
    """Most characters of a value of a form or a table."""


FAMILY = PageFamily()
"""Forms, receipts, tables and notices on one to nine tiles."""
