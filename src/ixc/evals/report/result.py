"""What a report is made of: the words that its tables, charts and pages share. Plain values, no pictures decoded.

Run (a folder of answers)  ->  Result (a benchmark)  ->  Case (a question, for the browser)  ->  Picture
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ixc.evals.intervals import Interval, Unit
from ixc.evals.question import Index

RIGHT, PARTLY, WRONG, UNSCORED = "right", "partly", "wrong", "unscored"


@dataclass(frozen=True, kw_only=True)
class Picture:
    """A picture as the page shows it: reduced, in WebP. The tile grid follows the size of the source."""

    width: int
    """Of the source, pixels."""
    height: int
    data: bytes
    """WebP, its long side at most `pictures.LONG_SIDE`."""


@dataclass(frozen=True, kw_only=True)
class ReportCase:
    """One question of the browser."""

    index: Index
    question: str
    """As the data set words it, options below."""
    answer: str
    """Gold answer, empty where the split hides it."""
    prediction: str
    score: float | None
    """0..1; None where the metric gives none for this row."""
    hd: int
    rule: str = "original"
    """Partition rule of the run, a key of `geometry.RULES`."""
    pictures: tuple[Picture | None, ...]
    """None: a picture that cannot be read."""
    seen: int | None = None
    """The model was shown the first so many pictures only (published prompts: one); None is all."""

    @property
    def verdict(self) -> str:
        """right (1), wrong (0), partly (between), unscored."""
        if self.score is None:
            return UNSCORED
        return RIGHT if self.score >= 1 else WRONG if self.score <= 0 else PARTLY


@dataclass(frozen=True, kw_only=True)
class TaskReport:
    """One benchmark of one run."""

    task: str
    """Name on the command line, `docvqa_val`."""
    dataset: str
    """Official name, `DocVQA_VAL`."""
    title: str
    metric: str
    headline: float | None
    """On the scale of the paper's table; None for a split that only a server can score."""
    interval: Interval | None
    """95 %; None where the rows cannot be drawn again in a way that gives the headline."""
    published: float | None
    """The paper's figure for this task, None beyond the paper."""
    stand_in: bool = False
    """A rule scored what the paper had judged: not comparable."""
    answered: int
    total: int
    """Questions of the data."""
    table: tuple[Mapping[str, Any], ...] = ()
    """As the official evaluation prints it."""
    per_row: Mapping[Index, float] = field(default_factory=dict)
    units: Mapping[str, tuple[Unit, tuple[Index, ...]]] = field(default_factory=dict)
    """Name of a unit -> its sums and the questions in it: what a paired comparison draws."""
    scale: float = 100.0
    """What a ratio of 1 in `units` is worth."""
    sizes: tuple[tuple[int, int], ...] = ()
    """(width, height) of every distinct readable picture, pixels."""
    cases: tuple[ReportCase, ...] = ()
    """A sample of the questions, wrong, partly right and right ones in equal parts where there are enough."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    data: str = ""
    """MD5 of the data file, "" where unknown."""

    def same_data(self, other: TaskReport) -> bool:
        """Whether both were asked on one data file, as far as it is known."""
        return self.data == other.data or not (self.data and other.data)


@dataclass(frozen=True, kw_only=True)
class ReportRun:
    """Everything one model answered."""

    name: str
    """Short, for columns and legends."""
    results: tuple[TaskReport, ...]
    notes: tuple[str, ...] = ()
    """What could not be reported, one line each."""

    def result(self, task: str) -> TaskReport | None:
        """By name of the task."""
        return next((r for r in self.results if r.task == task), None)
