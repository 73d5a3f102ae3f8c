"""How figures are printed, alike in Markdown and on the page."""

from __future__ import annotations

from collections.abc import Sequence

from ixc.evals.intervals import Paired
from ixc.evals.report.result import ReportRun, TaskReport
from ixc.evals.report.tables import ResolutionRow, beyond

NONE = "–"
"""For a figure that does not exist."""


def score(figure: float | None) -> str:
    """One digit behind the point, as the paper prints it."""
    return NONE if figure is None else f"{figure:.1f}"


def interval(result: TaskReport) -> str:
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


FURTHER = ("Benchmark", "Run", "Metric", "Figure", "Answered")
"""Head of the table of `further`."""


def further(runs: Sequence[ReportRun]) -> list[list[str]]:
    """Rows of what the comparison does not print."""
    return [
        [f"{r.title} ({r.dataset})", run.name, r.metric, interval(r), f"{r.answered:,} of {r.total:,}"]
        for run in runs
        for r in beyond(run)
    ]


SIZES = ("Data set", "Pictures", "Smallest, px", "Median area", "Largest, px", "Above HD-55")
"""Head of the table of `sizes`."""


def sizes(lines: Sequence[ResolutionRow]) -> list[list[str]]:
    """Rows of the sizes of pictures."""
    return [
        [f"{r.title} ({r.dataset})", f"{r.pictures:,}", size(r.least), area(r.middle), size(r.most),
         f"{100 * r.above_4k:.1f} %"]
        for r in lines
    ]  # fmt: skip


PAIRS = ("Benchmark", "Difference [95 %]", "p, bootstrap", "only first right", "only second right", "p, McNemar")
"""Head of the table of pairs."""


def pair(paired: Paired) -> list[str]:
    """The cells of a comparison, behind the benchmark's."""
    d = paired.difference
    change = f"{signed(d.value)} [{signed(d.low)}, {signed(d.high)}]"
    counts = [str(paired.only_first), str(paired.only_second)]
    return [change, chance(paired.p_bootstrap), *counts, chance(paired.p_mcnemar)]
