"""MMMU (paper Table 3): options where there are any, and open questions, which are read in two ways.

rule "vlmevalkit"  an open question becomes a choice of A = the answer's text, B = "Other Answers" (`as_choice`), and
                   the choice rules apply: "112" is right for 12, "The answer is about 5" names A and is right
rule "official"    MMMU's own code (`official`): what follows "is", "so", "answer" ... and all numbers, compared as
                   texts or rounded to two decimals
rule "lmms"        0 for every open question: at this commit a text is handed over where a list is expected
"""

from __future__ import annotations

import re
import string
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from ixc.evals.metrics import choice, choice_lmms
from ixc.evals.metrics.cells import answers
from ixc.evals.metrics.rule import LMMS, OFFICIAL, VLMEVALKIT, Judge, check

RULES = (VLMEVALKIT, OFFICIAL, LMMS)

OTHER = "Other Answers"

DECIMALS = 2
"""Numbers are compared after rounding to these."""

_INDICATORS = ("could be ", "so ", "is ", "thus ", "therefore ", "final ", "answer ", "result ")
"""What comes before an answer; in the last sentence "=" does too."""

_TRIVIAL = (":", ",", ".", "!", "?", ";", "'")

_NUMBERS = tuple(
    re.compile(pattern)
    for pattern in (
        r"-?\b\d{1,3}(?:,\d{3})+\b",
        r"-?\d+(?:\.\d+)?[eE][+-]?\d+",
        r"-?(?:\d+\.\d+|\.\d+|\d+\b)(?![eE][+-]?\d+)(?![,\d])",
    )
)
"""With thousands' commas; scientific; plain."""


def as_choice(item: choice.ChoiceItem) -> choice.ChoiceItem:
    """An open question (no option A) as a choice of two; others as they are."""
    if "A" in item.choices:
        return item
    right = item.answer if item.answer in tuple(string.ascii_uppercase) else "A"
    return replace(item, choices={**item.choices, "A": item.answer, "B": OTHER}, answer=right)


def _normal(text: str) -> list[str | float]:
    """Forms in which a text is compared: a rounded number, or itself in lower case; one letter only with a blank."""
    text = text.strip()
    try:
        return [round(float(text.replace(",", "")), DECIMALS)]
    except ValueError:
        lower = text.lower()
        return [f" {lower}", f"{lower} "] if len(lower) == 1 else [lower]


def _key_phrases(response: str) -> list[str]:
    """What follows an indicator, the shortest of every line; the whole response where nothing does."""
    whole = response.strip().strip(".").lower()
    lines = whole.split("\n")
    phrases = []
    for number, line in enumerate(lines, start=1):
        indicators = (*_INDICATORS, "=") if number == len(lines) else _INDICATORS
        tails = [tail for mark in indicators if mark in line and (tail := line.split(mark)[-1].strip())]
        if tails and (shortest := min(tails, key=len)) not in _TRIVIAL:
            phrases.append(shortest)
    return phrases or [whole]


def _candidates(response: str) -> list[str | float]:
    phrases = _key_phrases(response)
    numbers = [found for phrase in phrases for pattern in _NUMBERS for found in pattern.findall(phrase)]
    return [form for text in phrases + numbers for form in _normal(text)]


def official_open(prediction: str, accepted: Sequence[str]) -> int:
    """1 where MMMU's own code accepts an answer to an open question, else 0."""
    wanted = [form for answer in accepted for form in _normal(str(answer))]
    for said in _candidates(prediction):
        if isinstance(said, str):
            if any(isinstance(form, str) and form in said for form in wanted):
                return 1
        elif said in wanted:
            return 1
    return 0


def official(prediction: str, answer: str | Sequence[str], choices: Mapping[str, Any]) -> int:
    """1 where MMMU's own code accepts an answer, else 0; nothing found among options is wrong, not drawn at random."""
    if choices:
        return int(choice.infer(prediction, choices, rule=choice_lmms.MMMU) == answer)
    return official_open(prediction, answers(answer) if isinstance(answer, str) else answer)


def hit(item: choice.ChoiceItem, *, rule: str = VLMEVALKIT, judge: Judge | None = None) -> int:
    """1 where an answer is right by a rule, else 0.

    Raises:
        UsageError: unknown rule.
    """
    check(rule, RULES, metric="MMMU")
    if rule == VLMEVALKIT:
        return choice.hit(as_choice(item), judge=judge)
    if rule == LMMS and not item.choices:
        return 0
    return official(item.prediction, item.answer, item.choices)


def official_table(rows: Sequence[tuple[str, str, int]]) -> dict[str, tuple[int, float]]:
    """The official print-out: name -> (questions, share 0 to 1 with three decimals).

    Args:
        rows: (domain, subject, 0 or 1). Names are "Overall-<domain>", subjects and "Overall".
    """
    groups: dict[str, list[int]] = {}
    for domain, subject, right in rows:
        for name in (f"Overall-{domain}", subject, "Overall"):
            groups.setdefault(name, []).append(right)
    return {name: (len(hits), round(sum(hits) / len(hits), 3)) for name, hits in groups.items()}
