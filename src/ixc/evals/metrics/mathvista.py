"""MathVista (paper Table 3): a judge extracts the answer from the response, and the answer is compared exactly.

    prediction --prefetch()--> found, no judge needed
               \\--else judge, up to 5 times--> Extracted --correct()--> right or wrong

rule "vlmevalkit"  `correct`: integers by int(), decimals by float() without rounding, options by the choice rules. Free
                   answers of type list or text compare "None" with the gold answer and so are never right; a found
                   option letter is final even where it is wrong; a found 0 still asks the judge
rule "lmms"        `lmms_correct`: decimals rounded, "5.0" counts as 5, options by the nearest text, lists as texts
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from ixc.errors import DataError
from ixc.evals.metrics.anls import edits
from ixc.evals.metrics.cells import listed
from ixc.evals.metrics.choice import infer
from ixc.evals.metrics.rule import API_FAILURE, Judge

TRIES = 5
"""Requests to a judge about one response."""

PREFETCHED = "Prefetch succeed"
SUCCEEDED = "Succeed"

OPTIONS, INTEGER, FLOAT = "multi_choice", "integer", "float"


@dataclass(frozen=True, kw_only=True)
class MathVistaProblem:
    """One question with its ground truth and a model's response."""

    question_type: str
    """"multi_choice" or "free_form"."""
    answer_type: str
    """"text", "integer", "float" or "list"."""
    answer: Any
    """Ground-truth cell."""
    option: str | None
    """Letter of the right option; None without options."""
    choices: Sequence[Any]
    """Options in order; empty without."""
    prediction: str
    """Response of the model."""
    question: str = ""
    """Question text, for the judge."""

    def lettered(self) -> dict[str, Any]:
        """Return letter -> option."""
        return {chr(ord("A") + i): text for i, text in enumerate(self.choices)}


@dataclass(frozen=True, kw_only=True)
class Extracted:
    """Answer extracted from a response."""

    result: Any
    """Letter, number or the judge's reply; "" if no request gave any."""
    log: str
    """"Prefetch succeed", or the log of the requests, in VLMEvalKit's wording."""

    @property
    def prefetched(self) -> bool:
        """Whether it was found without a judge."""
        return self.log == PREFETCHED


def _read(problem: MathVistaProblem, response: Any, *, result: Any = None) -> tuple[Any, Any]:
    """Return (found answer, expected answer); an unparsable number leaves the expected one unparsed, as upstream."""
    wanted = problem.answer
    kind = {INTEGER: int, FLOAT: float}.get(problem.answer_type)
    if problem.question_type == OPTIONS:
        return infer(response, problem.lettered()), problem.option
    if kind is None:
        return str(result), str(wanted)
    try:
        result = kind(response)
        wanted = kind(wanted)
    except ValueError:
        pass
    return result, wanted


def prefetch(problem: MathVistaProblem) -> Any:
    """Extract by rule alone: any option letter, or a number that is right; None if a judge is needed."""
    found, wanted = _read(problem, problem.prediction)
    if problem.question_type == OPTIONS:
        return found
    return found if found == wanted else None


def correct(problem: MathVistaProblem, result: Any) -> bool:
    """Decide whether an extracted answer is right."""
    found, wanted = _read(problem, result)
    return bool(found == wanted)


def judge_prompt(problem: MathVistaProblem) -> str:
    """Write the judge's prompt for a response."""
    return (
        "Read the examples. Then take the final answer out of the last response and reply with it alone.\n\n"
        "Hint: the answer is a whole number, such as 1, 2, 3.\nQuestion: How many boats lie in the harbour?\n"
        "Response: Four at the pier and three at anchor make seven.\nAnswer: 7\n\n"
        "Hint: the answer is a number with one decimal, such as 1.2, 1.3.\n"
        "Question: How high is the taller tree, in metres?\n"
        "Response: By the scale beside it, it reaches 4.2 m.\nAnswer: 4.2\n\n"
        "Hint: the answer is a number with two decimals, such as 1.23, 1.34.\n"
        "Question: What does one kilogram of pears cost?\n"
        "Response: Two kilograms cost 5.10, so one costs half of that, 2.55.\nAnswer: 2.55\n\n"
        "Hint: the answer is a list, such as [1, 2, 3].\nQuestion: Between which floors is the lift stuck?\n"
        "Response: Its lamp is between those of the third and the fourth floor.\nAnswer: [3, 4]\n\n"
        "Hint: the answer is the letter of an option, such as A, B, C, D.\n"
        "Question: Which angle is the widest? Choices: (A) the left one (B) the right one (C) the top one\n"
        "Response: The top one has 85 degrees, more than either of the others.\nAnswer: C\n\n"
        f"{problem.question}\nResponse: {problem.prediction}\nAnswer: "
    )


def extract(problem: MathVistaProblem, *, judge: Judge | None = None) -> Extracted:
    """Extract the answer of a response: by rule, else by a judge; without a judge the response itself is the answer."""
    found = prefetch(problem)
    if found:
        return Extracted(result=found, log=PREFETCHED)
    if judge is None:
        return Extracted(result=problem.prediction, log="No judge")
    prompt, log = judge_prompt(problem), ""
    for number in range(TRIES):
        reply = judge(prompt)
        if API_FAILURE not in reply:
            return Extracted(result=reply, log=log + SUCCEEDED)
        log += f"Try {number}: output is {problem.prediction}, failed to parse.\n"
    return Extracted(result="", log=f"{log}All {TRIES} retries failed.\n")


def _nearest(text: str, options: Sequence[str]) -> str:
    return min(options, key=lambda option: edits(text, option))


def lmms_normal(problem: MathVistaProblem, result: Any, *, precision: int) -> str | None:
    """Normalise an extracted answer as lmms-eval does: the option's text, a number's text, or the text itself."""
    text = str(result)
    if problem.question_type == OPTIONS:
        options = [str(option) for option in problem.choices]
        bracketed = re.search(r"\(([a-zA-Z])\)", text)
        name = bracketed[1].upper() if bracketed else text.strip()
        return dict(zip(problem.lettered(), options, strict=True)).get(name) or _nearest(name, options)
    if problem.answer_type not in (INTEGER, FLOAT):
        return text
    try:
        value = float(result)
        return str(int(value)) if problem.answer_type == INTEGER else str(round(value, precision))
    except (ValueError, OverflowError):
        return None


def lmms_correct(problem: MathVistaProblem, result: Any, *, precision: int) -> bool:
    """Decide whether an extracted answer is right by lmms-eval's rule.

    Args:
        precision: decimals of the data's column "precision".
    """
    return str(lmms_normal(problem, result, precision=precision)).strip() == str(problem.answer).strip()


def skills(cell: object) -> list[str]:
    """Return the skills of a cell; a cell that is no list is one skill."""
    found = listed(cell)
    return [str(cell)] if found is None else [str(item) for item in found]


@dataclass(frozen=True, kw_only=True)
class MathVistaRow:
    """One line of MathVista's table."""

    total: int
    """Questions."""
    prefetched: int
    """Answers found without a judge."""
    hits: int
    """Right answers."""

    @property
    def prefetch_rate(self) -> float:
        """Share of answers found without a judge, per cent."""
        return self.prefetched / self.total * 100

    @property
    def accuracy(self) -> float:
        """Share of right answers, per cent."""
        return self.hits / self.total * 100


def mathvista(rows: Iterable[tuple[str, object, bool, bool]]) -> dict[str, MathVistaRow]:
    """Compute the table: "Overall", then skills and tasks in order of appearance.

    Args:
        rows: (task, cell of skills, found without a judge, right).

    Raises:
        DataError: no rows.
    """
    counts: dict[str, list[int]] = {}
    for task, cell, prefetched, right in rows:
        for name in ("Overall", *skills(cell), task):
            line = counts.setdefault(name, [0, 0, 0])
            line[0] += 1
            line[1] += bool(prefetched)
            line[2] += bool(right)
    if not counts:
        raise DataError("MathVista: 0 rows to score, at least 1 needed")
    return {name: MathVistaRow(total=n, prefetched=p, hits=h) for name, (n, p, h) in counts.items()}
