"""The tables of a report as values: comparison with the paper, resolutions, pairs of runs. Markdown, JSON and the page
print the same ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from ixc.core.tiling import TILE
from ixc.evals.intervals import Paired, compare
from ixc.evals.paper_scores import AXES, TABLE_3, Axis, axis_of
from ixc.evals.report.result import ReportRun, TaskReport

COMPARED = tuple(TABLE_3.rows)
"""Rows of Table 3, our columns follow them."""


@dataclass(frozen=True, kw_only=True)
class Line:
    """One benchmark of the comparison."""

    axis: Axis
    published: tuple[float | None, ...]
    """One figure for each of `COMPARED`."""
    ours: tuple[TaskReport | None, ...]
    """One for each run."""

    @property
    def marks(self) -> str:
        """What makes our figures differ in kind: the keys of `MARKS`."""
        found = [r for r in self.ours if r]
        other = any(r.dataset != self.axis.datasets[0] for r in found)
        part = any(r.answered < r.total for r in found)
        mixed = any(r.dataset == found[0].dataset and not r.same_data(found[0]) for r in found)
        return "*" * other + "°" * any(r.stand_in for r in found) + "†" * part + "‡" * mixed


MARKS = {
    "*": "measured on another split than the paper's (the paper's one is scored by a server)",
    "°": "scored by a rule where the paper asked a judge: not comparable",
    "†": "only a part of the questions is answered",
    "‡": "the runs were asked on different data files: not comparable with each other",
}


def comparison(runs: Sequence[ReportRun]) -> list[Line]:
    """The sixteen lines of Table 3, in its order."""
    return [
        Line(
            axis=axis,
            published=tuple(row[place] for row in TABLE_3.rows.values()),
            ours=tuple(_on(run, axis) for run in runs),
        )
        for place, axis in enumerate(AXES)
    ]


def _on(run: ReportRun, axis: Axis) -> TaskReport | None:
    """The run's result on an axis, the paper's own split first; a split without a figure only if there is no other."""
    found = sorted((r for r in run.results if r.dataset in axis.datasets), key=lambda r: axis.datasets.index(r.dataset))
    return next((r for r in found if r.headline is not None), None)


def beyond(run: ReportRun) -> list[TaskReport]:
    """Results that the comparison does not print: further benchmarks, and second splits."""
    printed = {id(line.ours[0]) for line in comparison([run])}
    return [r for r in run.results if id(r) not in printed]


@dataclass(frozen=True, kw_only=True)
class ResolutionRow:
    """Sizes of a benchmark's pictures (Fig. 1b); areas in pixels."""

    title: str
    dataset: str
    pictures: int
    least: tuple[int, int]
    """(width, height) of the picture with the smallest area."""
    middle: float
    """Median area."""
    most: tuple[int, int]
    above_4k: float
    """Share of pictures with more pixels than HD-55 holds, 0..1."""


HD_25, HD_55 = 25 * TILE**2, 55 * TILE**2
"""Pixels of the two settings the model was trained with."""


def resolutions(runs: Sequence[ReportRun]) -> list[ResolutionRow]:
    """One line a data set, smallest median first; the first run that has the data speaks."""
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
    """Two runs on one benchmark, or why they cannot be compared."""

    title: str
    dataset: str
    first: str
    second: str
    paired: Paired | None
    why: str = ""


def pairs(runs: Sequence[ReportRun]) -> list[Pair]:
    """The first run against each other one, on every benchmark both answered."""
    return [
        _pair(runs[0], other, mine, theirs)
        for other in runs[1:]
        for mine in runs[0].results
        if (theirs := other.result(mine.task)) is not None
    ]


def _pair(one: ReportRun, two: ReportRun, mine: TaskReport, theirs: TaskReport) -> Pair:
    names = {"title": mine.title, "dataset": mine.dataset, "first": one.name, "second": two.name}
    if not mine.same_data(theirs):
        return Pair(**names, paired=None, why=f"asked on different data, MD5 {mine.data} and {theirs.data}")
    if mine.metric != theirs.metric:
        return Pair(**names, paired=None, why=f"scored by {mine.metric} and by {theirs.metric}")
    shared = [n for n, (_, rows) in mine.units.items() if n in theirs.units and theirs.units[n][1] == rows]
    if not shared:
        return Pair(**names, paired=None, why="no picture with the same questions answered by both")
    asked = [(mine.per_row[i], theirs.per_row[i]) for n in shared for i in mine.units[n][1]]
    paired = compare(
        [mine.units[n][0] for n in shared], [theirs.units[n][0] for n in shared], asked, scale=mine.scale
    )  # fmt: skip
    return Pair(**names, paired=paired)


def order(result: TaskReport) -> tuple[int, str]:
    """The paper's order of benchmarks, further ones behind by name."""
    axis = axis_of(result.dataset)
    return (AXES.index(axis) if axis else len(AXES)), result.dataset
