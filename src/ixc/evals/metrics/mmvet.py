"""MM-Vet (paper Table 3): a judge gives each open answer 0.0 to 1.0; means by capability, in per cent.

rule "vlmevalkit"  capabilities and their combinations share one table upstream, so a question with one capability alone
                   counts twice there ("rec": 187 questions for 150); combinations are keyed by the literal text
rule "official"    MM-Vet's own notebook: every question once, combinations whatever their order, eight decimals

The overall figure, which the paper compares, is the same by both and by lmms-eval.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from ixc.errors import DataError
from ixc.evals.metrics.rule import OFFICIAL, VLMEVALKIT, Judge, check

RULES = (VLMEVALKIT, OFFICIAL)

CAPABILITIES = ("rec", "ocr", "know", "gen", "spat", "math")
"""Recognition, OCR, knowledge, generation, spatial awareness, mathematics."""

TRIES = 5
"""Requests to a judge about one answer; the grade is 0.0 if no reply is a number from 0 to 1."""

AND, OR = "<AND>", "<OR>"
"""Operators that join the elements of a ground-truth answer."""

Means = dict[str, tuple[int, float]]
"""Name -> (questions, mean in per cent)."""


@dataclass(frozen=True, kw_only=True)
class Grade:
    """Grade that a judge gave one answer."""

    score: float
    """0 to 1. A judge that replies "nan" gives not-a-number, as upstream."""
    log: str
    """Log of the requests, in VLMEvalKit's wording."""
    tries: int
    """Requests made."""


@dataclass(frozen=True, kw_only=True)
class MmvetTable:
    """Mean grades by capability and by combination of capabilities."""

    capability: Means
    """By capability, "Overall" ("total" by the official rule) last."""
    integration: Means
    """By combination of capabilities, the same name last."""


def judge_prompt(question: str, answer: str, prediction: str) -> str:
    """Write the judge's prompt for one answer."""
    gold = answer.replace(AND, f" {AND} ").replace(OR, f" {OR} ")
    return (
        "Compare a model's prediction with the ground truth and grade how right it is: 0.0 (wrong), 0.1, 0.2 ... 0.9 "
        f"or 1.0 (right).\nGround truths joined by {AND} must all be there for 1.0; of those joined by {OR} one is "
        "enough.\nReply with the number alone, for the last line.\n\n"
        "Question | Ground truth | Prediction | Grade\n--- | --- | --- | ---\n"
        f"Which fruits lie on the plate? | pear {AND} plum | apples | 0.0\n"
        f"Which fruits lie on the plate? | pear {AND} plum | a pear beside a bunch of grapes | 0.5\n"
        f"Which fruits lie on the plate? | pear {AND} plum | one pear, two plums | 1.0\n"
        f"What colour is the van? | grey {OR} silver | silver, perhaps white | 0.7\n"
        f"What colour is the van? | grey {OR} silver | It is silver. | 1.0\n"
        "What is odd about the notice? | Who cannot read should ring the bell, and only readers will know. | "
        "It says when to ring a bell. | 0.3\n"
        "What is odd about the notice? | Who cannot read should ring the bell, and only readers will know. | "
        "It speaks to people who cannot read, so the ones it is meant for never learn of the bell. | 1.0\n"
        f"{question} | {gold} | {prediction} | "
    )


def grade(question: str, answer: str, prediction: str, *, judge: Judge) -> Grade:
    """Ask the judge for a grade; repeat the request while the reply is no number from 0 to 1."""
    prompt, log = judge_prompt(question, answer, prediction), ""
    for number in range(TRIES):
        reply = judge(prompt)
        try:
            score = float(reply)
        except ValueError:
            log += f"Try {number}: output is {reply}, failed to parse.\n"
            continue
        if score < 0 or score > 1:
            log += f"Try {number}: output is {reply}, invalid score: {score}.\n"
            continue
        return Grade(score=score, log=f"{log}Succeed", tries=number + 1)
    return Grade(score=0.0, log=f"{log}All {TRIES} retries failed.\n", tries=TRIES)


def contained(answer: str, prediction: str) -> float:
    """A stand-in without a judge, 0 to 1: the share of a gold answer's elements that occur, best alternative."""
    text = " ".join(prediction.lower().split())

    def share(alternative: str) -> float:
        elements = [" ".join(element.lower().split()) for element in alternative.split(AND)]
        return sum(element in text for element in elements) / len(elements)

    return max(share(alternative) for alternative in answer.split(OR))


def _means(groups: dict[str, list[float]], *, decimals: int | None) -> Means:
    means = {name: (len(scores), sum(scores) / len(scores) * 100) for name, scores in groups.items()}
    return means if decimals is None else {name: (n, round(mean, decimals)) for name, (n, mean) in means.items()}


def _vlmevalkit(rows: list[tuple[str, float]]) -> MmvetTable:
    shared: dict[str, list[float]] = {name: [] for name in CAPABILITIES}
    for category, score in rows:
        names = [name for name in CAPABILITIES if name in category]
        for name in (*names, category.replace(",", "_")):
            shared.setdefault(name, []).append(score)
    overall = {"Overall": [score for _, score in rows]}
    literal = dict.fromkeys(category.replace(",", "_") for category, _ in rows)
    return MmvetTable(
        capability=_means({n: shared[n] for n in CAPABILITIES if shared[n]} | overall, decimals=None),
        integration=_means({n: shared[n] for n in literal} | overall, decimals=None),
    )


def _official(rows: list[tuple[str, float]]) -> MmvetTable:
    single: dict[str, list[float]] = {}
    joint: dict[str, list[float]] = {}
    for category, score in rows:
        names = sorted(set(category.split(",")))
        for name in names:
            single.setdefault(name, []).append(score)
        joint.setdefault("_".join(names), []).append(score)
    total = {"total": [score for _, score in rows]}
    return MmvetTable(capability=_means(single | total, decimals=8), integration=_means(joint | total, decimals=8))


def mmvet(rows: Iterable[tuple[str, float]], *, rule: str = VLMEVALKIT) -> MmvetTable:
    """Compute the mean grades by capability and by combination.

    Args:
        rows: (capabilities joined by commas, grade 0 to 1).

    Raises:
        DataError: no rows. UsageError: unknown rule.
    """
    check(rule, RULES, metric="MM-Vet")
    graded = [(category, float(score)) for category, score in rows]
    if not graded:
        raise DataError("MM-Vet: 0 rows to score, at least 1 needed")
    return _vlmevalkit(graded) if rule == VLMEVALKIT else _official(graded)
