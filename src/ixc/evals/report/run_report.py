"""Data classes of a report, shared by its tables, charts and page.

ReportRun (a folder of answers) -> TaskReport (a benchmark) -> ReportCase (a question, for the browser) -> Picture
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
    """Thumbnail of an image, in WebP, with the size of the source, which determines the tile grid."""

    width: int
    """Width of the source, pixels."""
    height: int
    """Height of the source, pixels."""
    data: bytes
    """WebP file; long side at most `thumbnails.LONG_SIDE`."""


@dataclass(frozen=True, kw_only=True)
class ReportCase:
    """One question of the case browser."""

    index: Index
    """Row of the data set."""
    question: str
    """Question of the data set, with its options."""
    answer: str
    """Ground truth; empty where it is hidden."""
    prediction: str
    """Scored answer of the model."""
    score: float | None
    """0..1; None where the metric has no score for this row."""
    hd: int
    """HD the question was asked at."""
    partition: str = "original"
    """Partition of the run, a key of `core.tiling.RULES`."""
    pictures: tuple[Picture | None, ...]
    """Thumbnails; None: an unreadable image."""
    shown: int | None = None
    """Images passed to the model, the first so many (published prompts: one); None = all."""

    @property
    def verdict(self) -> str:
        """Classify the score: right (1), wrong (0), partly (between), unscored."""
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
    """Name in the paper."""
    metric: str
    """Name of the metric."""
    headline: float | None
    """Score on the scale of the paper's table; None for a split that only a server can score."""
    interval: Interval | None
    """95 % interval; None where the bootstrap units do not reproduce the headline."""
    published: float | None
    """The paper's score on this split, None outside the paper."""
    stand_in: bool = False
    """Whether a rule scored what a judge scored in the paper: not comparable."""
    answered: int
    """Answered questions."""
    total: int
    """Questions of the data set."""
    table: tuple[Mapping[str, Any], ...] = ()
    """Table of the official evaluation."""
    per_row: Mapping[Index, float] = field(default_factory=dict)
    """Score of each question, 0..1."""
    units: Mapping[str, tuple[Unit, tuple[Index, ...]]] = field(default_factory=dict)
    """Name of a unit -> its sums and its questions, for paired comparisons."""
    scale: float = 100.0
    """Value of a ratio of 1 in `units`."""
    sizes: tuple[tuple[int, int], ...] = ()
    """(width, height) of every distinct readable image, pixels."""
    cases: tuple[ReportCase, ...] = ()
    """Sample of the questions, with wrong, partly right and right ones in equal parts where possible."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Settings of the run."""
    data: str = ""
    """MD5 of the data file, "" where unknown."""

    def same_data(self, other: TaskReport) -> bool:
        """Whether both used the same data file, as far as is known."""
        return self.data == other.data or not (self.data and other.data)


@dataclass(frozen=True, kw_only=True)
class ReportRun:
    """All results of one model."""

    name: str
    """Short name, for columns and legends."""
    results: tuple[TaskReport, ...]
    """Results by benchmark."""
    notes: tuple[str, ...] = ()
    """Missing parts of the report, one line each."""

    def result(self, task: str) -> TaskReport | None:
        """Look up the result of a task by name."""
        return next((r for r in self.results if r.task == task), None)
