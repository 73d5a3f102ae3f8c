"""Score a benchmark: apply the rules of `metrics` to rows with predictions, as the official evaluation does.

Every scorer takes (rows, task, judge) and returns a Score. Its table has the official names and scale (multiple-choice
accuracies are 0 to 1, everything else is per cent or points); its headline is on the paper's scale. Where other
official code scores differently, `rule` names that code; `Task.rules` lists the rules of each task.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from ixc.errors import DataError
from ixc.evals.metrics import accuracy, cells, choice_lmms, yes_no
from ixc.evals.metrics import anls as anls_rule
from ixc.evals.metrics import choice as choice_rule
from ixc.evals.metrics import circular as circular_rule
from ixc.evals.metrics import hallusion as hallusion_rule
from ixc.evals.metrics import mathvista as mathvista_rule
from ixc.evals.metrics import mme as mme_rule
from ixc.evals.metrics import mmmu as mmmu_rule
from ixc.evals.metrics import mmvet as mmvet_rule
from ixc.evals.metrics import ocrbench as ocrbench_rule
from ixc.evals.metrics import relaxed as relaxed_rule
from ixc.evals.metrics import vqa as vqa_rule
from ixc.evals.metrics.choice import ChoiceItem
from ixc.evals.metrics.rule import LMMS, LMMS_EARLIER, NOTEBOOK, OFFICIAL, VLMEVALKIT
from ixc.evals.prompts import options
from ixc.evals.table import Row
from ixc.evals.task import Judge, Score, Scorer, Task, by_index

Rule = Callable[[str, Sequence[str]], float]
"""(prediction, accepted answers) -> 0..1."""


def mean(values: Sequence[float]) -> float:
    """Compute the arithmetic mean. Raises: DataError: no values."""
    if not values:
        raise DataError("0 questions to score; give predictions for at least 1")
    return sum(values) / len(values)


# -- free text --------------------------------------------------------------------------------------------------------


def _free_text(rows: Sequence[Row], rule: Rule, name: str) -> Score:
    """Average the rule over all rows and by split (else by category), per cent."""
    values = [rule(row["prediction"], cells.answers(row["answer"])) for row in rows]
    line: dict[str, Any] = {}
    column = next((c for c in ("split", "category") if c in rows[0]), "")
    for group in sorted({row[column] for row in rows} - {None}) if column else []:
        line[group] = 100 * mean([v for v, row in zip(values, rows, strict=True) if row[column] == group])
    line["Overall"] = 100 * mean(values)
    return Score(name=name, headline=line["Overall"], table=[line], per_row=by_index(rows, iter(values)))


def anls(rows: Sequence[Row], task: Task, judge: Judge | None) -> Score:
    """Score DocVQA and InfoVQA by ANLS."""
    return _free_text(rows, anls_rule.anls, "ANLS")


def relaxed(rows: Sequence[Row], task: Task, judge: Judge | None, *, rule: str = VLMEVALKIT) -> Score:
    """Score ChartQA by relaxed accuracy; lmms-eval uses only the first accepted answer."""

    def right(prediction: str, accepted: Sequence[str]) -> float:
        return relaxed_rule.relaxed(prediction, accepted[:1] if rule == LMMS else accepted, rule=rule)

    return _free_text(rows, right, "relaxed accuracy")


def vqa(rows: Sequence[Row], task: Task, judge: Judge | None, *, rule: str = VLMEVALKIT) -> Score:
    """Score TextVQA by VQA accuracy."""
    return _free_text(rows, partial(vqa_rule.vqa, rule=rule), "VQA accuracy")


def ocrbench(rows: Sequence[Row], task: Task, judge: Judge | None, *, rule: str = VLMEVALKIT) -> Score:
    """Score OCRBench: the headline is the sum divided by 10, whatever the number of rows (parity with VLMEvalKit)."""
    hits = [ocrbench_rule.hit(r["prediction"], cells.answers(r["answer"]), r["category"], rule=rule) for r in rows]
    line = ocrbench_rule.ocrbench(zip((r["category"] for r in rows), hits, strict=True))
    return Score(
        name="answers found", headline=line["Final Score Norm"], table=[dict(line)], per_row=by_index(rows, iter(hits))
    )


# -- yes or no --------------------------------------------------------------------------------------------------------


def _right(rows: Sequence[Row], judge: Judge | None, *, rule: str) -> list[bool]:
    if rule == VLMEVALKIT:
        return [yes_no.decide(r["question"], r["prediction"], judge=judge) == r["answer"] for r in rows]
    return [yes_no.yes_no(r["prediction"], rule=rule) == r["answer"] for r in rows]


def mme(rows: Sequence[Row], task: Task, judge: Judge | None, *, rule: str = VLMEVALKIT) -> Score:
    """Score MME: the sum of perception and cognition."""
    right = _right(rows, judge, rule=rule)
    line = mme_rule.mme([(r["category"], r["image_path"], hit) for r, hit in zip(rows, right, strict=True)])
    total = line["perception"] + line["reasoning"]
    return Score(name="perception + cognition", headline=total, table=[line], per_row=by_index(rows, iter(right)))


def hallusion(rows: Sequence[Row], task: Task, judge: Judge | None, *, rule: str = VLMEVALKIT) -> Score:
    """Score HallusionBench: mean of aAcc, fAcc and qAcc; lmms-eval parses answers as the authors' notebook does."""
    right = _right(rows, judge, rule=NOTEBOOK if rule == LMMS else rule)
    judged = [
        hallusion_rule.HallusionRow(
            index=str(r["index"]), category=r["category"], subcategory=r["l2-category"], right=hit
        )
        for r, hit in zip(rows, right, strict=True)
    ]
    found = hallusion_rule.hallusion(judged, rule=rule)
    table = [{"split": k, "aAcc": a, "fAcc": f, "qAcc": q} for k, (a, f, q) in found.items()]
    return Score(
        name="mean of aAcc, fAcc, qAcc",
        headline=mean(list(found[hallusion_rule.OVERALL])),
        table=table,
        per_row=by_index(rows, iter(right)),
    )


# -- choices ----------------------------------------------------------------------------------------------------------


def _item(row: Row) -> ChoiceItem:
    return ChoiceItem(
        index=row["index"],
        choices=options(row),
        answer=str(row["answer"]),
        prediction=row["prediction"],
        question=str(row["question"]),
    )


def _shares(rows: Sequence[Row], hits: Sequence[int], task: Task, name: str) -> Score:
    """Tabulate accuracies (0 to 1) by split; the headline is that of the task's split, else of all rows."""
    found = accuracy.accuracy(
        [(r.get("split"), r.get("category"), r.get("l2-category"), hit) for r, hit in zip(rows, hits, strict=True)]
    )
    mine = [hit for row, hit in zip(rows, hits, strict=True) if row.get("split") == task.split]
    return Score(
        name=name,
        headline=100 * mean(mine or hits),
        table=[{"split": split, **shares} for split, shares in found.items()],
        per_row=by_index(rows, iter(hits)),
    )


def choice(rows: Sequence[Row], task: Task, judge: Judge | None, *, rule: str = VLMEVALKIT) -> Score:
    """Score MMStar, AI2D, SEED-Bench, Q-Bench, V* and MME-RealWorld; lmms-eval averages MMStar over its abilities."""
    hits = [choice_rule.hit(_item(row), judge=judge, rule=rule) for row in rows]
    found = _shares(rows, hits, task, "accuracy")
    if rule != choice_lmms.MMSTAR:
        return found
    macro = accuracy.macro(
        [(None, None, r.get("l2-category", r.get("l2_category")), h) for r, h in zip(rows, hits, strict=True)]
    )
    return replace(found, name="accuracy, mean over abilities", headline=100 * macro)


def mmmu(rows: Sequence[Row], task: Task, judge: Judge | None, *, rule: str = VLMEVALKIT) -> Score:
    """Score MMMU on its validation split; MMMU's own code prints another table: count and accuracy by name."""
    hits = [mmmu_rule.hit(_item(row), judge=judge, rule=rule) for row in rows]
    found = _shares(rows, hits, task, "accuracy")
    if rule != OFFICIAL:
        return found
    mine = [(row, hit) for row, hit in zip(rows, hits, strict=True) if row.get("split") == task.split]
    lines = mmmu_rule.official_table(
        [(str(row["l2-category"]), str(row["category"]), hit) for row, hit in mine or zip(rows, hits, strict=True)]
    )
    return replace(found, table=[{"name": name, "num": n, "acc": share} for name, (n, share) in lines.items()])


def circular(rows: Sequence[Row], task: Task, judge: Judge | None, *, rule: str = VLMEVALKIT) -> Score:
    """Score MMBench by CircularEval: a base question counts if it is right in every order of its options."""
    hits = circular_rule.circular([_item(row) for row in rows], judge=judge, rule=rule)
    if not hits:
        raise DataError(f"{task.dataset}: 0 of {len(rows)} predictions are of base questions (index below 1000000)")
    base = [row for row in rows if row["index"] in hits]
    return _shares(base, [hits[row["index"]] for row in base], task, "circular accuracy")


def hrbench(rows: Sequence[Row], task: Task, judge: Judge | None) -> Score:
    """Score HR-Bench: accuracy by order of the options and by category, then the mean over the orders."""
    hits = [choice_rule.hit(_item(row), judge=judge) for row in rows]
    cells_of: dict[str, dict[str, list[int]]] = {}
    for row, hit in zip(rows, hits, strict=True):
        for kind in ("all", str(row["category"])):
            cells_of.setdefault(str(row["cycle_category"]), {}).setdefault(kind, []).append(hit)
    table = [
        {"cycle": cycle, "type": kind, "accuracy": mean(found)}
        for cycle, kinds in sorted(cells_of.items())
        for kind, found in sorted(kinds.items())
    ]
    for kind in sorted({line["type"] for line in table}):
        shares = [line["accuracy"] for line in table if line["type"] == kind]
        table.append({"cycle": "Average", "type": kind, "accuracy": sum(shares) / len(cells_of)})
    average = next(line for line in table if line["cycle"] == "Average" and line["type"] == "all")
    return Score(
        name="accuracy over the orders of options",
        headline=100 * average["accuracy"],
        table=table,
        per_row=by_index(rows, iter(hits)),
    )


# -- scored by a judge ------------------------------------------------------------------------------------------------


def _problem(row: Row) -> mathvista_rule.MathVistaProblem:
    return mathvista_rule.MathVistaProblem(
        question_type=row["question_type"],
        answer_type=row["answer_type"],
        answer=row["answer"],
        option=row["answer_option"],
        choices=cells.listed(row["choices"]) or (),
        prediction=row["prediction"],
        question=str(row["question"]),
    )


def _solved(row: Row, problem: mathvista_rule.MathVistaProblem, result: Any, *, rule: str) -> bool:
    if rule == VLMEVALKIT:
        return mathvista_rule.correct(problem, result)
    return mathvista_rule.lmms_correct(problem, result, precision=int(float(row.get("precision") or 0)))


def mathvista(rows: Sequence[Row], task: Task, judge: Judge | None, *, rule: str = VLMEVALKIT) -> Score:
    """Score MathVista; without a judge answers are extracted by rule, and the metric's name says so."""
    problems = [_problem(row) for row in rows]
    found = [mathvista_rule.extract(problem, judge=judge) for problem in problems]
    right = [_solved(row, p, f.result, rule=rule) for row, p, f in zip(rows, problems, found, strict=True)]
    lines = mathvista_rule.mathvista(
        (row["task"], row["skills"], f.prefetched, hit) for row, f, hit in zip(rows, found, right, strict=True)
    )
    table = [
        {
            "Task&Skill": name,
            "tot": line.total,
            "prefetch": line.prefetched,
            "hit": line.hits,
            "prefetch_rate": line.prefetch_rate,
            "acc": line.accuracy,
        }
        for name, line in lines.items()
    ]
    return Score(
        name="accuracy, answers read by a judge" if judge else "accuracy, answers read by rule (no judge)",
        headline=lines["Overall"].accuracy,
        table=table,
        per_row=by_index(rows, iter(right)),
    )


def mmvet(rows: Sequence[Row], task: Task, judge: Judge | None, *, rule: str = VLMEVALKIT) -> Score:
    """Score MM-Vet; without a judge by the share of expected words found, and the metric's name says so."""
    if judge is None:
        scores = [mmvet_rule.contained(str(row["answer"]), row["prediction"]) for row in rows]
    else:
        scores = [_grade(row, judge) for row in rows]
    graded = [(str(row["category"]), score) for row, score in zip(rows, scores, strict=True)]
    found = mmvet_rule.mmvet(graded, rule=rule)
    return Score(
        name="grades of a judge" if judge else "expected words found (no judge)",
        headline=100 * mean(scores),
        table=[{"Category": name, "tot": n, "acc": share} for name, (n, share) in found.capability.items()],
        per_row=by_index(rows, iter(scores)),
    )


def _grade(row: Row, judge: Judge) -> float:
    return mmvet_rule.grade(str(row["question"]), str(row["answer"]), row["prediction"], judge=judge).score


# -- scorers by rule --------------------------------------------------------------------------------------------------


def rules(scorer: Callable[..., Score], **named: str) -> dict[str, Scorer]:
    """Build rule name on the command line -> scorer, e.g. `rules(choice, lmms="lmms-ai2d")`."""
    return {name: partial(scorer, rule=rule) for name, rule in named.items()}


RELAXED = rules(relaxed, lmms=LMMS, notebook=NOTEBOOK)
VQA = rules(vqa, lmms=LMMS)
OCRBENCH = rules(ocrbench, lmms=LMMS)
MME = rules(mme, lmms=LMMS)
HALLUSION = rules(hallusion, lmms=LMMS, notebook=NOTEBOOK)
MMSTAR = rules(choice, lmms=choice_lmms.MMSTAR)
AI2D = rules(choice, lmms=choice_lmms.AI2D)
SEED = rules(choice, lmms=choice_lmms.SEED)
QBENCH = rules(choice, lmms=choice_lmms.MMMU)
MMMU = rules(mmmu, official=OFFICIAL, lmms=LMMS) | rules(mmmu, **{LMMS_EARLIER: LMMS_EARLIER})
MMBENCH = rules(circular, lmms=LMMS)
MATHVISTA = rules(mathvista, lmms=LMMS)
MMVET = rules(mmvet, official=OFFICIAL)
