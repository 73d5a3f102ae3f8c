"""Which option an answer names: the reading of multiple-choice answers (MMStar, AI2D, SEED, MMBench, Q-Bench, MMMU).

    prediction --letter()--> letter | "Z" --by_text()--> letter | None --judge, else--> "Z" = wrong

rule "vlmevalkit"          one option letter among the last four words; else "answer is X"; else the one option whose
                           text occurs. "The answer is blue" reads as B: upstream's pattern knows no end of word
rule "vlmevalkit-verbose"  the same with the variable VERBOSE set: "A" in more than three words is an article
rule "lmms-mmstar", "lmms-mmbench", "lmms-mmmu", "lmms-ai2d", "lmms-seed"   see `choice_lmms`
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ixc.evals.metrics import choice_lmms
from ixc.evals.metrics.rule import API_FAILURE, VLMEVALKIT, Judge, check

VERBOSE = "vlmevalkit-verbose"

RULES = (VLMEVALKIT, VERBOSE, *choice_lmms.RULES)

NONE_OF_THEM = "Z"
"""Letter of a refusal, or of an answer that names no option: always wrong."""

LAST_WORDS = 4
"""The letter must first occur among so many last words."""

TRIES = 3
"""Requests to a judge about one answer. Upstream then guesses an option at random; here the answer is wrong."""

REFUSALS = (
    "Sorry, I can't help with images of people yet.",
    "I can't process this file.",
    "I'm sorry, but without the image provided",
    "Cannot determine the answer",
)

_SPACED = str.maketrans(dict.fromkeys(".()[],:;!*#{}", " "))
_ANSWER_IS = re.compile(r"answer\s+is\s+\**([A-D])", re.IGNORECASE)


@dataclass(frozen=True, kw_only=True)
class ChoiceItem:
    """One multiple-choice question with its answer."""

    index: int | str
    """Row index; rotations of MMBench differ by 1,000,000."""
    choices: Mapping[str, Any]
    """Letter -> text of the option, for existing options only."""
    answer: str
    """The right letter."""
    prediction: str
    """Answer of the model."""
    question: str = ""
    """Question text, for the judge."""


def _one_letter(words: list[str], choices: Mapping[str, Any]) -> str | None:
    found = [letter for letter in choices if letter in words]
    if len(found) == 1:
        return found[0] if words.index(found[0]) >= len(words) - LAST_WORDS else None
    return NONE_OF_THEM if not found and NONE_OF_THEM in words else None


def letter(prediction: str, choices: Mapping[str, Any], *, verbose: bool = False) -> str | None:
    """Return the option letter that an answer states, "Z" for a refusal, None if it states none."""
    if API_FAILURE in prediction:
        return None
    if any(refusal in prediction for refusal in REFUSALS):
        return NONE_OF_THEM
    words = prediction.translate(_SPACED).split()
    if verbose and len(words) > 3 and "A" in words and sum(option in words for option in choices) == 1:
        return None
    stated = _one_letter(words, choices)
    if stated is None and (match := _ANSWER_IS.search(prediction)):
        return match[1].upper() if match[1].upper() in choices else None
    return stated


def by_text(prediction: str, choices: Mapping[str, Any]) -> str | None:
    """Return the only option whose text occurs in an answer of at most twice the total length of the options."""
    texts = {letter: str(text) for letter, text in choices.items()}
    lowered = prediction.lower()
    if len(lowered) > 2 * sum(map(len, texts.values())):
        return None
    found = [letter for letter, text in texts.items() if text.lower() in lowered]
    return found[0] if len(found) == 1 else None


def infer(prediction: object, choices: Mapping[str, Any], *, rule: str = VLMEVALKIT) -> str | None:
    """Return the letter that an answer names by a rule; "Z" for a refusal, None if the rule finds none.

    Raises:
        UsageError: unknown rule.
    """
    check(rule, RULES, metric="multiple choice")
    answer = str(prediction)
    if rule in choice_lmms.RULES:
        return choice_lmms.infer(answer, choices, rule=rule)
    return letter(answer, choices, verbose=rule == VERBOSE) or by_text(answer, choices)


def judge_prompt(item: ChoiceItem) -> str:
    """Write the judge's prompt for an answer that names no option."""
    options = "\n".join(f"{letter}. {text}" for letter, text in item.choices.items())
    return (
        "Somebody answered a question that has several options. Say which option the answer means.\n"
        f"Reply with one capital letter: that of the option ({', '.join(item.choices)}), or Z where it means none.\n\n"
        "Question: What stands beside the gate?\nOptions: A. bicycle B. wheelbarrow C. tractor D. cart\n"
        "Answer: an old red farm engine with huge rear wheels\nReply: C\n\n"
        "Question: Which hour does the clock show?\nOptions: A. three B. half past six C. noon\n"
        "Answer: the clock has lost its hands\nReply: Z\n\n"
        f"Question: {item.question}\nOptions: {options}\nAnswer: {item.prediction}\nReply: "
    )


def judged_letter(item: ChoiceItem, judge: Judge) -> str:
    """Return the letter a judge finds, parsed by the same rule; "Z" if `TRIES` replies name none."""
    prompt = judge_prompt(item)
    for _ in range(TRIES):
        reply = judge(prompt)
        if API_FAILURE not in reply and (found := infer(reply, item.choices)):
            return found
    return NONE_OF_THEM


def decide(item: ChoiceItem, *, judge: Judge | None = None, rule: str = VLMEVALKIT) -> str:
    """Return the letter of an answer, by rule and, where that fails, by the judge; "Z" if neither finds one."""
    found = infer(item.prediction, item.choices, rule=rule)
    if found is None and judge is not None:
        return judged_letter(item, judge)
    return found or NONE_OF_THEM


def hit(item: ChoiceItem, *, judge: Judge | None = None, rule: str = VLMEVALKIT) -> int:
    """Return 1 if the answer names the right option, else 0."""
    return int(decide(item, judge=judge, rule=rule) == item.answer)
