"""A family of pages: what a model learns to read from nothing, and is examined with."""

from __future__ import annotations

from dataclasses import dataclass

from ixc.synth.fonts import FIRST_FONTS
from ixc.synth.values import LONGEST, VALUES


@dataclass(frozen=True, kw_only=True)
class PageFamily:
    """Which pages are drawn; the values given here are those of the embedded model's first version."""

    shares: tuple[tuple[str, float], ...] = (("form", 0.3), ("receipt", 0.3), ("table", 0.25), ("notice", 0.15))
    """Kinds of `KINDS` and how often each is drawn; sum 1."""
    settings: tuple[int, ...] = (1, 4, 9)
    """HDs that the pages are drawn for, all as often; ascending."""
    fonts: tuple[str, ...] = FIRST_FONTS
    """Names of `fonts`."""
    letters: tuple[float, float, float] = (22, 27, 34)
    """Smallest, median and largest body font size, pixels as the model sees them."""
    spread: float = 0.12
    """Deviation of the size's logarithm."""
    titled: float = 0.85
    """Share of the pages with room for a title that have one."""
    coloured: float = 0.5
    """Share of the pages in other colours than black on white."""
    worn: float = 0.0
    """Share of the pictures that training looks at worn: `wear.some_wear`."""
    values: tuple[str, ...] = tuple(VALUES)
    """Which of `values.VALUES` stand behind the keys of forms and in the cells of tables."""
    longest: int = LONGEST
    """Characters of the longest value of a form or a table."""


FAMILY = PageFamily()
"""Forms, receipts, tables and notices on one to nine tiles."""
