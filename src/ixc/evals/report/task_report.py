"""Build the `TaskReport` of one benchmark from its rows, answers and score; image bytes are not kept.

rows --sizes, digests--> units --bootstrap--> interval
     --sample----------> cases with thumbnails, up to the benchmark's share of the page's bytes
"""

from __future__ import annotations

from ast import literal_eval
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from ixc.evals.intervals import bootstrap
from ixc.evals.paper_scores import PUBLISHED, axis_of, value
from ixc.evals.report import thumbnails
from ixc.evals.report.bootstrap_units import Scored, units_of
from ixc.evals.report.run_report import PARTLY, RIGHT, UNSCORED, WRONG, Index, Picture, ReportCase, TaskReport

Rows = Sequence[Mapping[str, Any]]

CASES = 24
"""Most cases of one benchmark on the page."""

CASE_BYTES = 300_000
"""Most bytes of thumbnails of one benchmark on the page: 16 benchmarks then add at most 6.4 MB of base64."""

OPTIONS = "ABCDEFGH"
"""Columns that may hold answer options."""

LONGEST = 2000
"""Longest text of a case, characters; a repetitive answer must not fill the page."""


@dataclass(frozen=True, kw_only=True)
class Scores:
    """Part of a score that the report needs."""

    metric: str
    """Name of the metric."""
    headline: float | None
    """Score on the scale of the paper's table; None if a server keeps the answers."""
    table: tuple[Mapping[str, Any], ...]
    """Table of the official evaluation."""
    per_row: Mapping[Index, float]
    """Score of each question, 0..1."""
    stand_in: bool = False
    """Whether a rule scored what a judge scored in the paper."""


@dataclass(frozen=True, kw_only=True)
class TaskRun:
    """Everything known about one benchmark of a run."""

    task: str
    """Name on the command line."""
    dataset: str
    """Official name of the data set."""
    title: str
    """Name in the paper."""
    hd: int
    """HD the questions were asked at."""
    scores: Scores
    """Its score."""
    predictions: Mapping[Index, str]
    """Prediction of each answered question."""
    rows: Rows = ()
    """Rows of the data set, `image` a tuple of encoded files. Without them there are neither cases nor image sizes, and
    every question is a unit of its own."""
    split: str = ""
    """Split of the headline, where the rows have several."""
    total: int | None = None
    """Questions of the data set; None: count `rows`, else `predictions`."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Settings of the run."""
    cases: int = CASES
    """Most cases in the browser."""
    shown: int | None = None
    """Images of a question passed to the model, the first so many; None = all."""
    partition: str = "original"
    """Partition of the run, a key of `core.tiling.RULES`."""
    data: str = ""
    """MD5 of the data file, "" where unknown."""


def task_report(run: TaskRun) -> TaskReport:
    """Build the report of one benchmark."""
    rows, predictions = run.rows, run.predictions
    per_row = _with_own_indices(run.scores.per_row, [row["index"] for row in rows] or list(predictions))
    sizes, digests = _sizes_and_digests(rows)
    scored = _scored(per_row, predictions, rows, digests)
    units, scale = units_of(run.dataset, scored, run.scores.headline, split=run.split)
    axis = axis_of(run.dataset)
    return TaskReport(
        task=run.task,
        dataset=run.dataset,
        title=run.title,
        metric=run.scores.metric,
        headline=run.scores.headline,
        interval=bootstrap([u for u, _ in units.values()], scale=scale) if units else None,
        published=value(PUBLISHED, axis.key) if axis and run.dataset == axis.datasets[0] else None,
        stand_in=run.scores.stand_in,
        answered=len(predictions),
        total=run.total or len(rows) or len(predictions),
        table=run.scores.table,
        per_row=per_row,
        units=units,
        scale=scale,
        sizes=sizes,
        cases=_cases(run, per_row),
        settings=run.settings,
        data=run.data,
    )


def _scored(
    per_row: Mapping[Index, float], predictions: Mapping[Index, str], rows: Rows, names: Mapping[Index, str]
) -> list[Scored]:
    """Return the scores of answered questions, each with its row and the digest of its images."""
    known = {row["index"]: row for row in rows}
    asked = [i for i in per_row if i in predictions or not predictions]
    return [Scored(index=i, score=per_row[i], picture=names.get(i, ""), row=known.get(i, {})) for i in asked]


def _with_own_indices(per_row: Mapping[Index, float], indices: Sequence[Index]) -> dict[Index, float]:
    """Restore the indices of the data set: JSON keys are strings."""
    own = {str(i): i for i in indices}
    return {own.get(str(i), i): float(score) for i, score in per_row.items()}


def _sizes_and_digests(rows: Rows) -> tuple[tuple[tuple[int, int], ...], dict[Index, str]]:
    """Return the sizes of all distinct images, and the joined digests of every row's images."""
    sizes: dict[str, tuple[int, int] | None] = {}
    seen: dict[int, str] = {}  # rows share the bytes of a picture: each is hashed once
    names: dict[Index, str] = {}
    for row in rows:
        mine = []
        for data in row.get("image") or ():
            name = seen.setdefault(id(data), "") or thumbnails.digest(data)
            seen[id(data)] = name
            if name not in sizes:
                sizes[name] = thumbnails.size_of(data)
            mine.append(name)
        names[row["index"]] = "+".join(mine)
    return tuple(size for size in sizes.values() if size), names


def sample(verdicts: Sequence[str], most: int) -> list[int]:
    """Choose at most `most` positions: wrong, partly right, right and unscored in equal parts, each evenly spaced."""
    groups = {kind: [i for i, v in enumerate(verdicts) if v == kind] for kind in (WRONG, PARTLY, RIGHT, UNSCORED)}
    share = dict.fromkeys(groups, 0)
    while sum(share.values()) < min(most, len(verdicts)):
        open_ = [kind for kind in groups if share[kind] < len(groups[kind])]
        share[min(open_, key=lambda kind: share[kind])] += 1
    places = [group[k * len(group) // share[kind]] for kind, group in groups.items() for k in range(share[kind])]
    return sorted(places)


def _cases(run: TaskRun, per_row: Mapping[Index, float]) -> tuple[ReportCase, ...]:
    predictions = run.predictions
    # A row without a score among scored ones is a rotation of another (MMBench): the same question once more.
    answered = [row for row in run.rows if row["index"] in predictions and (not per_row or row["index"] in per_row)]
    drawn: list[ReportCase] = []
    made: dict[str, Picture | None] = {}
    every = [_case(row, predictions[row["index"]], per_row.get(row["index"]), hd=run.hd) for row in answered]
    for place in sample([case.verdict for case in every], run.cases):
        pictures = []
        for data in answered[place].get("image") or ():
            name = thumbnails.digest(data)
            if name not in made:
                made[name] = thumbnails.thumbnail(data)
            pictures.append(made[name])
        if drawn and sum(len(p.data) for p in made.values() if p) > CASE_BYTES:
            break
        drawn.append(replace(every[place], pictures=tuple(pictures), shown=run.shown, partition=run.partition))
    return tuple(drawn)


def _case(row: Mapping[str, Any], prediction: str, score: float | None, *, hd: int) -> ReportCase:
    options = [f"{letter}. {row[letter]}" for letter in OPTIONS if row.get(letter) is not None]
    hint = [str(row["hint"])] if row.get("hint") is not None else []
    answer = row.get("answer")
    return ReportCase(
        index=row["index"],
        question=_short("\n".join([*hint, str(row.get("question", "")), *options])),
        answer="" if answer is None else _short(_accepted(str(answer))),
        prediction=_short(prediction),
        score=score,
        hd=hd,
        pictures=(),
    )


def _accepted(cell: str) -> str:
    """Write the accepted answers of a cell, one per line."""
    if cell.startswith("[") and cell.endswith("]"):
        try:
            return "\n".join(dict.fromkeys(str(answer) for answer in literal_eval(cell)))
        except (ValueError, SyntaxError):
            pass  # a plain text in brackets stays as it is
    return cell


def _short(text: str) -> str:
    return text if len(text) <= LONGEST else f"{text[:LONGEST]} … ({len(text):,} characters)"
