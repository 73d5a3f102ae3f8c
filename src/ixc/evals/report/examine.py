"""One benchmark's rows, answers and score -> a `TaskReport`. Picture bytes are looked at here and let go.

rows --sizes, digests--> units --bootstrap--> interval
     --sample----------> cases with small pictures, until the page's share of bytes is used up
"""

from __future__ import annotations

from ast import literal_eval
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ixc.evals.intervals import bootstrap
from ixc.evals.paper_scores import OURS_THEN, axis_of, value
from ixc.evals.report import pictures
from ixc.evals.report.result import PARTLY, RIGHT, UNSCORED, WRONG, Index, Picture, ReportCase, TaskReport
from ixc.evals.report.units import Scored, units_of

Rows = Sequence[Mapping[str, Any]]

CASES = 24
"""Most cases of one benchmark on the page."""

CASE_BYTES = 300_000
"""Most bytes of pictures of one benchmark on the page: 16 benchmarks are 6.4 MB of base64 at most."""

OPTIONS = "ABCDEFGH"
"""Columns of answer options."""

LONGEST = 2000
"""Longest text of a case, characters; a model that runs on must not fill the page."""


@dataclass(frozen=True, kw_only=True)
class Scores:
    """What the report takes from a score."""

    metric: str
    headline: float | None
    table: tuple[Mapping[str, Any], ...]
    per_row: Mapping[Index, float]
    stand_in: bool = False
    """A rule scored what the paper had judged."""


def examine(
    *, task: str, dataset: str, title: str, hd: int, scores: Scores, predictions: Mapping[Index, str], rows: Rows = (),
    split: str = "", total: int | None = None, settings: Mapping[str, Any] | None = None, cases: int = CASES,
    seen: int | None = None, rule: str = "original", data: str = "",
) -> TaskReport:  # fmt: skip
    """The result of one benchmark.

    Args:
        rows: of the data set, `image` a tuple of encoded files; without them there are neither cases nor resolutions,
            and every question is a unit of its own.
        hd: budget of tiles that the questions were asked with.
        split: the one that makes the headline, where the rows have several.
        total: questions of the data set, default: of `rows`, else of `predictions`.
        cases: most of them kept for the browser.
        seen: the model was shown the first so many pictures of a question, default: all.
        rule: partition rule that the pictures were cut by.
        data: MD5 of the data file, "" where unknown.
    """
    per_row = _named(scores.per_row, [row["index"] for row in rows] or list(predictions))
    sizes, names = _look(rows)
    scored = _scored(per_row, predictions, rows, names)
    units, scale = units_of(dataset, scored, scores.headline, split=split)
    axis = axis_of(dataset)
    return TaskReport(
        task=task,
        dataset=dataset,
        title=title,
        metric=scores.metric,
        headline=scores.headline,
        interval=bootstrap([u for u, _ in units.values()], scale=scale) if units else None,
        published=value(OURS_THEN, axis.key) if axis and dataset == axis.datasets[0] else None,
        stand_in=scores.stand_in,
        answered=len(predictions),
        total=total or len(rows) or len(predictions),
        table=scores.table,
        per_row=per_row,
        units=units,
        scale=scale,
        sizes=sizes,
        cases=_cases(rows, predictions, per_row, hd=hd, rule=rule, seen=seen, most=cases),
        settings=settings or {},
        data=data,
    )


def _scored(
    per_row: Mapping[Index, float], predictions: Mapping[Index, str], rows: Rows, names: Mapping[Index, str]
) -> list[Scored]:
    """The scores of answered questions, each with its row and the name of its pictures."""
    known = {row["index"]: row for row in rows}
    asked = [i for i in per_row if i in predictions or not predictions]
    return [Scored(index=i, score=per_row[i], picture=names.get(i, ""), row=known.get(i, {})) for i in asked]


def _named(per_row: Mapping[Index, float], indices: Sequence[Index]) -> dict[Index, float]:
    """Indices as the data set has them: JSON turned whole numbers into text."""
    own = {str(i): i for i in indices}
    return {own.get(str(i), i): float(score) for i, score in per_row.items()}


def _look(rows: Rows) -> tuple[tuple[tuple[int, int], ...], dict[Index, str]]:
    """Sizes of all distinct pictures, and the name of every row's pictures."""
    sizes: dict[str, tuple[int, int] | None] = {}
    seen: dict[int, str] = {}  # rows share the bytes of a picture: each is hashed once
    names: dict[Index, str] = {}
    for row in rows:
        mine = []
        for data in row.get("image") or ():
            name = seen.setdefault(id(data), "") or pictures.digest(data)
            seen[id(data)] = name
            if name not in sizes:
                sizes[name] = pictures.size_of(data)
            mine.append(name)
        names[row["index"]] = "+".join(mine)
    return tuple(size for size in sizes.values() if size), names


def sample(verdicts: Sequence[str], most: int) -> list[int]:
    """Places of at most `most` cases: wrong, partly right, right and unscored in equal parts, each spread evenly."""
    groups = {kind: [i for i, v in enumerate(verdicts) if v == kind] for kind in (WRONG, PARTLY, RIGHT, UNSCORED)}
    share = dict.fromkeys(groups, 0)
    while sum(share.values()) < min(most, len(verdicts)):
        open_ = [kind for kind in groups if share[kind] < len(groups[kind])]
        share[min(open_, key=lambda kind: share[kind])] += 1
    places = [group[k * len(group) // share[kind]] for kind, group in groups.items() for k in range(share[kind])]
    return sorted(places)


def _cases(
    rows: Rows,
    predictions: Mapping[Index, str],
    per_row: Mapping[Index, float],
    *,
    hd: int,
    rule: str,
    seen: int | None,
    most: int,
) -> tuple[ReportCase, ...]:
    # A row without a score among scored ones is a rotation of another (MMBench): the same question once more.
    answered = [row for row in rows if row["index"] in predictions and (not per_row or row["index"] in per_row)]
    drawn: list[ReportCase] = []
    made: dict[str, Picture | None] = {}
    whole = [_case(row, predictions[row["index"]], per_row.get(row["index"]), hd=hd) for row in answered]
    for place in sample([case.verdict for case in whole], most):
        shown = []
        for data in answered[place].get("image") or ():
            name = pictures.digest(data)
            if name not in made:
                made[name] = pictures.small(data)
            shown.append(made[name])
        if drawn and sum(len(p.data) for p in made.values() if p) > CASE_BYTES:
            break
        drawn.append(replace(whole[place], pictures=tuple(shown), seen=seen, rule=rule))
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
    """A cell with several accepted answers, one a line."""
    if cell.startswith("[") and cell.endswith("]"):
        try:
            return "\n".join(dict.fromkeys(str(answer) for answer in literal_eval(cell)))
        except (ValueError, SyntaxError):
            pass  # a text in brackets, as it stands
    return cell


def _short(text: str) -> str:
    return text if len(text) <= LONGEST else f"{text[:LONGEST]} … ({len(text):,} characters)"
