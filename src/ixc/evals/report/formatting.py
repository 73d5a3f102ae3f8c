"""Format numbers, in the same way for Markdown and the page."""

from __future__ import annotations

from collections.abc import Sequence

from ixc.evals.intervals import Paired
from ixc.evals.report.run_report import ReportRun, TaskReport
from ixc.evals.report.tables import ResolutionRow, beyond

NONE = "–"
"""Text for a missing number."""


def score(figure: float | None) -> str:
    """Format a score with one decimal, as the paper does."""
    return NONE if figure is None else f"{figure:.1f}"


def interval(result: TaskReport) -> str:
    """Format the headline with its interval: `71.2 [68.0, 74.1]`."""
    if result.interval is None:
        return score(result.headline)
    return f"{score(result.headline)} [{score(result.interval.low)}, {score(result.interval.high)}]"


def area(pixels: float) -> str:
    """Format an area: megapixels with three digits, pixels below 10,000."""
    return f"{pixels:,.0f} px" if pixels < 10_000 else f"{pixels / 1e6:.3g} MP"


def size(pixels: tuple[int, int]) -> str:
    """Format width and height: `3,840 x 2,160`."""
    return f"{pixels[0]:,} × {pixels[1]:,}"


def chance(p: float | None) -> str:
    """Format a p-value; very small ones as < 0.001."""
    return NONE if p is None else "< 0.001" if p < 0.001 else f"{p:.3f}"


def signed(figure: float) -> str:
    """Format a difference with its sign, using the minus sign U+2212."""
    return f"{figure:+.1f}".replace("-", "−")


FURTHER = ("Benchmark", "Run", "Metric", "Figure", "Answered")
"""Column names of `further`."""


def further(runs: Sequence[ReportRun]) -> list[list[str]]:
    """Rows of the results outside the comparison."""
    return [
        [f"{r.title} ({r.dataset})", run.name, r.metric, interval(r), f"{r.answered:,} of {r.total:,}"]
        for run in runs
        for r in beyond(run)
    ]


SIZES = ("Data set", "Pictures", "Smallest, px", "Median area", "Largest, px", "Above HD-55")
"""Column names of `sizes`."""


def sizes(lines: Sequence[ResolutionRow]) -> list[list[str]]:
    """Rows of the image sizes."""
    return [
        [f"{r.title} ({r.dataset})", f"{r.pictures:,}", size(r.least), area(r.middle), size(r.most),
         f"{100 * r.above_4k:.1f} %"]
        for r in lines
    ]  # fmt: skip


PAIRS = ("Benchmark", "Difference [95 %]", "p, bootstrap", "only first right", "only second right", "p, McNemar")
"""Column names of the table of pairs."""


def pair(paired: Paired) -> list[str]:
    """Cells of a paired comparison, after the benchmark's name."""
    d = paired.difference
    change = f"{signed(d.value)} [{signed(d.low)}, {signed(d.high)}]"
    counts = [str(paired.only_first), str(paired.only_second)]
    return [change, chance(paired.p_bootstrap), *counts, chance(paired.p_mcnemar)]
