"""MMMU (paper Table 3): options where there are any, and open questions, which are read in two ways.

rule "vlmevalkit"  an open question becomes a choice of A = the answer's text, B = "Other Answers" (`as_choice`), and
                   the choice rules apply: "112" is right for 12, "The answer is about 5" names A and is right
rule "official"    MMMU's own code (`official`): what follows "is", "so", "answer" ... and all numbers, compared as
                   texts or rounded to two decimals
rule "lmms"        lmms-eval 0.7.3: as "official", but the answer cell of an open question is one text even where it
                   lists several
rule "lmms-75571cfe"  lmms-eval at that commit: 0 for every open question, as a text is handed over where a list is
                   expected
"""

from __future__ import annotations

import re
import string
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from ixc.evals.metrics import choice, choice_lmms
from ixc.evals.metrics.cells import answers
from ixc.evals.metrics.rule import LMMS, LMMS_EARLIER, OFFICIAL, VLMEVALKIT, Judge, check

RULES = (VLMEVALKIT, OFFICIAL, LMMS, LMMS_EARLIER)

OTHER = "Other Answers"

DECIMALS = 2
"""Decimals that numbers are rounded to before they are compared."""

_INDICATORS = ("could be ", "so ", "is ", "thus ", "therefore ", "final ", "answer ", "result ")
"""Phrases before an answer; in the last line "=" counts too."""

_TRIVIAL = (":", ",", ".", "!", "?", ";", "'")

_NUMBERS = tuple(
    re.compile(pattern)
    for pattern in (
        r"-?\b\d{1,3}(?:,\d{3})+\b",
        r"-?\d+(?:\.\d+)?[eE][+-]?\d+",
        r"-?(?:\d+\.\d+|\.\d+|\d+\b)(?![eE][+-]?\d+)(?![,\d])",
    )
)
"""Numbers with thousands separators; in scientific notation; plain."""


def as_choice(item: choice.ChoiceItem) -> choice.ChoiceItem:
    """Turn an open question (no option A) into a choice of two; return others unchanged."""
    if "A" in item.choices:
        return item
    right = item.answer if item.answer in tuple(string.ascii_uppercase) else "A"
    return replace(item, choices={**item.choices, "A": item.answer, "B": OTHER}, answer=right)


def _normal(text: str) -> list[str | float]:
    """Return the compared forms of a text: a rounded number, or lower case; a single letter only beside a space."""
    text = text.strip()
    try:
        return [round(float(text.replace(",", "")), DECIMALS)]
    except ValueError:
        lower = text.lower()
        return [f" {lower}", f"{lower} "] if len(lower) == 1 else [lower]


def _key_phrases(response: str) -> list[str]:
    """Return the shortest text after an indicator in each line; the whole response if there is none."""
    whole = response.strip().strip(".").lower()
    lines = whole.split("\n")
    phrases = []
    for number, line in enumerate(lines, start=1):
        indicators = (*_INDICATORS, "=") if number == len(lines) else _INDICATORS
        shortest = ""
        for word in indicators:
            if word in line:  # an empty tail gives way to the next one, and a later one may be empty again (parity)
                tail = line.split(word)[-1].strip()
                shortest = min(shortest, tail, key=len) if shortest else tail
        if shortest and shortest not in _TRIVIAL:
            phrases.append(shortest)
    return phrases or [whole]


def _candidates(response: str) -> list[str | float]:
    phrases = _key_phrases(response)
    numbers = [found for phrase in phrases for pattern in _NUMBERS for found in pattern.findall(phrase)]
    return [form for text in phrases + numbers for form in _normal(text)]


def official_open(prediction: str, accepted: Sequence[str]) -> int:
    """Return 1 if MMMU's own code accepts an answer to an open question, else 0."""
    wanted = [form for answer in accepted for form in _normal(str(answer))]
    for candidate in _candidates(prediction):
        if isinstance(candidate, str):
            if any(isinstance(form, str) and form in candidate for form in wanted):
                return 1
        elif candidate in wanted:
            return 1
    return 0


def official(prediction: str, answer: str | Sequence[str], choices: Mapping[str, Any]) -> int:
    """Return 1 if MMMU's own code accepts an answer, else 0; 0 too if no option is found (upstream guesses)."""
    if choices:
        return int(choice.infer(prediction, choices, rule=choice_lmms.MMMU) == answer)
    return official_open(prediction, answers(answer) if isinstance(answer, str) else answer)


def hit(item: choice.ChoiceItem, *, rule: str = VLMEVALKIT, judge: Judge | None = None) -> int:
    """Return 1 if an answer is right by a rule, else 0.

    Raises:
        UsageError: unknown rule.
    """
    check(rule, RULES, metric="MMMU")
    if rule == VLMEVALKIT:
        return choice.hit(as_choice(item), judge=judge)
    if rule in (LMMS, LMMS_EARLIER) and not item.choices:
        return 0 if rule == LMMS_EARLIER else official_open(item.prediction.strip(), [str(item.answer)])
    return official(item.prediction, item.answer, item.choices)


def official_table(rows: Sequence[tuple[str, str, int]]) -> dict[str, tuple[int, float]]:
    """Compute the official table: name -> (questions, accuracy 0 to 1 with three decimals).

    Args:
        rows: (domain, subject, 0 or 1). Names are "Overall-<domain>", subjects and "Overall".
    """
    groups: dict[str, list[int]] = {}
    for domain, subject, right in rows:
        for name in (f"Overall-{domain}", subject, "Overall"):
            groups.setdefault(name, []).append(right)
    return {name: (len(hits), round(sum(hits) / len(hits), 3)) for name, hits in groups.items()}
