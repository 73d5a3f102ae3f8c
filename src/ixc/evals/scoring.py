"""Rows with predictions -> the score of a benchmark: the rules of `metrics` applied as the official evaluation does.

Every scorer takes (rows, task, judge) and returns a Score whose table has the official names and scale (shares of
choices are 0 to 1 there, everything else per cent or points) and whose headline is on the paper's scale.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from ixc.errors import DataError
from ixc.evals.metrics import anls as anls_rule
from ixc.evals.metrics import cells, yes_no
from ixc.evals.metrics import hallusion as hallusion_rule
from ixc.evals.metrics import mme as mme_rule
from ixc.evals.metrics import ocrbench as ocrbench_rule
from ixc.evals.metrics import relaxed as relaxed_rule
from ixc.evals.metrics import vqa as vqa_rule
from ixc.evals.table import Row
from ixc.evals.task import Judge, Score, Task, by_index

Rule = Callable[[str, Sequence[str]], float]
"""(prediction, accepted answers) -> 0..1."""


def mean(values: Sequence[float]) -> float:
    """Arithmetic mean; DataError for none."""
    if not values:
        raise DataError("0 questions to score; give predictions for at least 1")
    return sum(values) / len(values)


# -- answers in words -------------------------------------------------------------------------------------------------


def _words(rows: Sequence[Row], rule: Rule, name: str) -> Score:
    """Mean in per cent: by split where there are splits, else by category where there are categories."""
    values = [rule(row["prediction"], cells.answers(row["answer"])) for row in rows]
    line: dict[str, Any] = {}
    column = next((c for c in ("split", "category") if c in rows[0]), None)
    for group in sorted({row[column] for row in rows} - {None}) if column else []:
        line[group] = 100 * mean([v for v, row in zip(values, rows, strict=True) if row[column] == group])
    line["Overall"] = 100 * mean(values)
    return Score(name=name, headline=line["Overall"], table=[line], per_row=by_index(rows, iter(values)))


def anls(rows: Sequence[Row], task: Task, judge: Judge | None) -> Score:
    """DocVQA, InfoVQA."""
    return _words(rows, anls_rule.anls, "ANLS")


def relaxed(rows: Sequence[Row], task: Task, judge: Judge | None) -> Score:
    """ChartQA."""
    return _words(rows, relaxed_rule.relaxed, "relaxed accuracy")


def vqa(rows: Sequence[Row], task: Task, judge: Judge | None) -> Score:
    """TextVQA."""
    return _words(rows, vqa_rule.vqa, "VQA accuracy")


def ocrbench(rows: Sequence[Row], task: Task, judge: Judge | None) -> Score:
    """OCRBench: the headline is the sum divided by 10, whatever the number of rows, as upstream."""
    hits = [ocrbench_rule.hit(r["prediction"], cells.answers(r["answer"]), r["category"]) for r in rows]
    line = ocrbench_rule.ocrbench(zip((r["category"] for r in rows), hits, strict=True))
    return Score(
        name="answers found", headline=line["Final Score Norm"], table=[dict(line)], per_row=by_index(rows, iter(hits))
    )


# -- yes or no --------------------------------------------------------------------------------------------------------


def _right(rows: Sequence[Row], judge: Judge | None) -> list[bool]:
    return [yes_no.decide(r["question"], r["prediction"], judge=judge) == r["answer"] for r in rows]


def mme(rows: Sequence[Row], task: Task, judge: Judge | None) -> Score:
    """MME: perception and cognition together."""
    right = _right(rows, judge)
    line = mme_rule.mme([(r["category"], r["image_path"], hit) for r, hit in zip(rows, right, strict=True)])
    total = line["perception"] + line["reasoning"]
    return Score(name="perception + cognition", headline=total, table=[line], per_row=by_index(rows, iter(right)))


def hallusion(rows: Sequence[Row], task: Task, judge: Judge | None) -> Score:
    """HallusionBench: mean of aAcc, fAcc and qAcc."""
    right = _right(rows, judge)
    judged = [
        hallusion_rule.Row(index=str(r["index"]), category=r["category"], subcategory=r["l2-category"], right=hit)
        for r, hit in zip(rows, right, strict=True)
    ]
    found = hallusion_rule.hallusion(judged)
    table = [{"split": k, "aAcc": a, "fAcc": f, "qAcc": q} for k, (a, f, q) in found.items()]
    return Score(
        name="mean of aAcc, fAcc, qAcc",
        headline=mean(list(found[hallusion_rule.OVERALL])),
        table=table,
        per_row=by_index(rows, iter(right)),
    )


# -- choices ----------------------------------------------------------------------------------------------------------


def choice(rows: Sequence[Row], task: Task, judge: Judge | None) -> Score:
    """MMStar, AI2D, SEED-Bench, Q-Bench, V*, MME-RealWorld."""
    raise NotImplementedError


circular = mmmu = hrbench = mathvista = mmvet = choice
