"""Tables of a report as values: comparison with the paper, image sizes, pairs of runs.

Markdown, JSON and the page print the same tables.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from ixc.core.tiling import TILE
from ixc.evals.intervals import Paired, compare
from ixc.evals.paper_scores import AXES, TABLE_3, Axis, axis_of
from ixc.evals.report.run_report import ReportRun, TaskReport

COMPARED = tuple(TABLE_3.rows)
"""Rows of Table 3 that are shown as columns beside our runs."""


@dataclass(frozen=True, kw_only=True)
class Line:
    """One benchmark of the comparison."""

    axis: Axis
    """The benchmark."""
    published: tuple[float | None, ...]
    """One score for each of `COMPARED`."""
    ours: tuple[TaskReport | None, ...]
    """One result for each run."""

    @property
    def footnotes(self) -> str:
        """Reasons why our scores are not directly comparable: keys of `FOOTNOTES`."""
        found = [r for r in self.ours if r]
        other = any(r.dataset != self.axis.datasets[0] for r in found)
        part = any(r.answered < r.total for r in found)
        mixed = any(r.dataset == found[0].dataset and not r.same_data(found[0]) for r in found)
        return "*" * other + "°" * any(r.stand_in for r in found) + "†" * part + "‡" * mixed


FOOTNOTES = {
    "*": "measured on another split than the paper's (the paper's one is scored by a server)",
    "°": "scored by a rule where the paper asked a judge: not comparable",
    "†": "only some of the questions are answered",
    "‡": "the runs were asked on different data files: not comparable with each other",
}


def comparison(runs: Sequence[ReportRun]) -> list[Line]:
    """Return the sixteen lines of Table 3, in its order."""
    return [
        Line(
            axis=axis,
            published=tuple(row[place] for row in TABLE_3.rows.values()),
            ours=tuple(_on(run, axis) for run in runs),
        )
        for place, axis in enumerate(AXES)
    ]


def _on(run: ReportRun, axis: Axis) -> TaskReport | None:
    """Return the run's result on an axis, preferring the paper's split; results without a score are skipped."""
    found = sorted((r for r in run.results if r.dataset in axis.datasets), key=lambda r: axis.datasets.index(r.dataset))
    return next((r for r in found if r.headline is not None), None)


def beyond(run: ReportRun) -> list[TaskReport]:
    """Return the results outside the comparison: further benchmarks, and second splits."""
    printed = {id(line.ours[0]) for line in comparison([run])}
    return [r for r in run.results if id(r) not in printed]


@dataclass(frozen=True, kw_only=True)
class ResolutionRow:
    """Image sizes of a benchmark (Fig. 1b)."""

    title: str
    """Name of the benchmark."""
    dataset: str
    """Official name of the data set."""
    pictures: int
    """Distinct images."""
    least: tuple[int, int]
    """(width, height) of the image with the smallest area, pixels."""
    middle: float
    """Median area, pixels."""
    most: tuple[int, int]
    """(width, height) of the image with the largest area, pixels."""
    above_4k: float
    """Share of images with more pixels than HD-55 has, 0..1."""


HD_25, HD_55 = 25 * TILE**2, 55 * TILE**2
"""Pixels of the two HD settings the model was trained with."""


def resolutions(runs: Sequence[ReportRun]) -> list[ResolutionRow]:
    """Return one line per data set, smallest median first, from the first run that has the data."""
    found: dict[str, ResolutionRow] = {}
    for result in (r for run in runs for r in run.results if r.sizes):
        ordered = sorted(result.sizes, key=lambda size: size[0] * size[1])
        areas = [w * h for w, h in ordered]
        line = ResolutionRow(
            title=result.title,
            dataset=result.dataset,
            pictures=len(areas),
            least=ordered[0],
            middle=median(areas),
            most=ordered[-1],
            above_4k=sum(a > HD_55 for a in areas) / len(areas),
        )
        found.setdefault(result.dataset, line)
    return sorted(found.values(), key=lambda line: line.middle)


@dataclass(frozen=True, kw_only=True)
class Pair:
    """Two runs on one benchmark, or the reason why they cannot be compared."""

    title: str
    """Name of the benchmark."""
    dataset: str
    """Official name of the data set."""
    first: str
    """First run."""
    second: str
    """Second run."""
    paired: Paired | None
    """Paired comparison; None if impossible."""
    why: str = ""
    """Reason why there is no comparison."""


def pairs(runs: Sequence[ReportRun]) -> list[Pair]:
    """Compare the first run with each other run, on every benchmark both answered."""
    return [
        _pair(runs[0], other, first, second)
        for other in runs[1:]
        for first in runs[0].results
        if (second := other.result(first.task)) is not None
    ]


def _pair(one: ReportRun, two: ReportRun, first: TaskReport, second: TaskReport) -> Pair:
    names = {"title": first.title, "dataset": first.dataset, "first": one.name, "second": two.name}
    if not first.same_data(second):
        return Pair(**names, paired=None, why=f"asked on different data, MD5 {first.data} and {second.data}")
    if first.metric != second.metric:
        return Pair(**names, paired=None, why=f"scored by {first.metric} and by {second.metric}")
    shared = [n for n, (_, rows) in first.units.items() if n in second.units and second.units[n][1] == rows]
    if not shared:
        return Pair(**names, paired=None, why="no image with the same questions answered by both")
    asked = [(first.per_row[i], second.per_row[i]) for n in shared for i in first.units[n][1]]
    paired = compare(
        [first.units[n][0] for n in shared], [second.units[n][0] for n in shared], asked, scale=first.scale
    )  # fmt: skip
    return Pair(**names, paired=paired)


def order(result: TaskReport) -> tuple[int, str]:
    """Sort key: the paper's order of benchmarks, then further ones by name."""
    axis = axis_of(result.dataset)
    return (AXES.index(axis) if axis else len(AXES)), result.dataset
