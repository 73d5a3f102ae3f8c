"""How figures are printed, alike in Markdown and on the page."""

from __future__ import annotations

from ixc.evals.report.result import Result

NONE = "–"
"""For a figure that does not exist."""


def score(figure: float | None) -> str:
    """One digit behind the point, as the paper prints it."""
    return NONE if figure is None else f"{figure:.1f}"


def interval(result: Result) -> str:
    """`71.2 [68.0, 74.1]`."""
    if result.interval is None:
        return score(result.headline)
    return f"{score(result.headline)} [{score(result.interval.low)}, {score(result.interval.high)}]"


def area(pixels: float) -> str:
    """Megapixels in three digits, pixels below 10,000."""
    return f"{pixels:,.0f} px" if pixels < 10_000 else f"{pixels / 1e6:.3g} MP"


def size(pixels: tuple[int, int]) -> str:
    """`3,840 x 2,160`."""
    return f"{pixels[0]:,} × {pixels[1]:,}"


def chance(p: float | None) -> str:
    """A p value; never a bare zero."""
    return NONE if p is None else "< 0.001" if p < 0.001 else f"{p:.3f}"


def signed(figure: float) -> str:
    """With its sign, a true minus."""
    return f"{figure:+.1f}".replace("-", "−")
