"""How lmms-eval reads multiple-choice answers: five rules, each of other tasks.

rule "lmms-mmstar"   MMStar: letters A to D in several positions, the surest position first; any letter A to D at worst
rule "lmms-mmbench"  MMBench without a judge: a letter A to E as a word, with a few brackets; else the option's text
rule "lmms-mmmu"     MMMU and Q-Bench: "(A)", then "A ", then "A.", then the text; the last one counts. Upstream draws
                     an option at random where nothing is found; here that is None, and wrong
rule "lmms-ai2d"     AI2D: "B." at the beginning, else nothing but the letter, whatever its case and punctuation:
                     "(b)" reads as B
rule "lmms-seed"     SEED-Bench: the first character that is no blank, whatever its case: "apple" reads as A
"""

from __future__ import annotations

import re
import string
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from ixc.evals.metrics.rule import API_FAILURE

MMSTAR, MMBENCH, MMMU, AI2D, SEED = "lmms-mmstar", "lmms-mmbench", "lmms-mmmu", "lmms-ai2d", "lmms-seed"
RULES = (MMSTAR, MMBENCH, MMMU, AI2D, SEED)

_FOUR = "ABCD"
_FIVE = "ABCDE"

_PHRASES = (
    *(f"{kind} {noun} is" for kind in ("correct", "best") for noun in ("answer", "option")),
    *("answer is", "choice is", "correct choice is", "i choose", "i select", "i pick"),
    *("옵션", "정답은", "답은", "답:", "答案是", "答案为", "选", "答えは"),
)
"""Phrases before a stated letter; the original's longer phrases that contain one of these give the same position."""

_BRACKETS = (
    *(("", "."), ("", ","), ("", ":"), ("", ")"), ("", ")."), ("(", ")"), ("(", ").")),
    *((":", ""), (":", ","), (":", "."), (":", ")"), (":", ").")),
)
"""Brackets around a letter that is a word by itself (MMBench), in the order tried."""

_NO_PUNCTUATION = str.maketrans("", "", string.punctuation)
"""Removes ASCII punctuation (`ignore_punctuation` of the harness's exact match)."""

_LONG_ANSWER = 5
"""Answers of more words are also searched for the text of an option (MMMU)."""


def _trimmed(text: str, punctuation: str) -> str:
    for character in punctuation:
        text = text.strip(character)
    return f" {text} "


def _places(text: str) -> Iterator[tuple[int, int, str]]:
    """Yield (priority, position, letter) of every mention."""
    for letter in _FOUR:
        for priority, form in (
            (6, f"({letter})"),
            (5, f"{letter}."),
            (4, f"{letter}:"),
            (3, f"{letter})"),
            (2, f"{letter} "),
        ):
            if form in text:
                yield priority, text.rfind(form), letter
    for phrase in _PHRASES:
        start = text.lower().find(phrase)
        for letter in _FOUR if start >= 0 else "":
            place = text.find(letter, start + len(phrase))
            if place >= 0:
                yield 7, place, letter
    bare = text.strip()
    if bare[:1] in _FOUR and not bare[1:2].isalpha():
        yield 10, 0, bare[:1]
    if bare[-1:] in _FOUR and not bare[-2:-1].isalpha():
        yield 9, len(text) - 1, bare[-1:]


def _mmstar(prediction: str, _: Mapping[str, Any]) -> str | None:
    if not prediction.strip():
        return None
    text = _trimmed(prediction.strip(), ",.!?;:'\"")
    found = [place for place in _places(text) if place[2]]
    found = found or [(0, text.rfind(letter), letter) for letter in _FOUR if letter in text]
    return max(found, key=lambda place: place[:2])[2] if found else None


def _mmbench_letter(prediction: str) -> str | None:
    words = prediction.split()
    alone = [letter for letter in _FIVE if letter in words]
    article = "A" in words and len(words) > 3
    if len(alone) == 1 and not article:
        return alone[0]
    for before, after in _BRACKETS:
        found = [letter for letter in _FIVE if f"{before}{letter}{after}" in words]
        if len(found) == 1:
            return found[0]
    return None


def _mmbench(prediction: str, choices: Mapping[str, Any]) -> str | None:
    if API_FAILURE not in prediction and (stated := _mmbench_letter(prediction)):
        return stated
    found = [letter for letter, text in choices.items() if str(text).lower() in prediction.lower()]
    return found[0] if len(found) == 1 else None


def _mmmu(prediction: str, choices: Mapping[str, Any]) -> str | None:
    text = _trimmed(prediction, ",.!?;:'")
    for form, place in (("({})", "({})"), ("{} ", " {} "), ("{}.", " {} ")):
        found = [letter for letter in choices if form.format(letter) in text]
        if found:
            return max(found, key=lambda letter: text.rfind(place.format(letter)))
    if len(text.split()) <= _LONG_ANSWER:
        return None
    lowered = text.lower()
    found = [letter for letter, option in choices.items() if str(option).lower() in lowered]
    return max(found, key=lambda letter: lowered.rfind(str(choices[letter]).lower()), default=None)


def _ai2d(prediction: str, choices: Mapping[str, Any]) -> str | None:
    answer = prediction.strip()
    begins = re.match(r"\s*([A-Z])\.", answer)
    letter = begins[1] if begins else answer.lower().translate(_NO_PUNCTUATION).upper()
    return letter if letter in choices else None


def _seed(prediction: str, choices: Mapping[str, Any]) -> str | None:
    first = prediction.strip()[:1].upper()
    return first if first in choices else None


_PARSERS: dict[str, Callable[[str, Mapping[str, Any]], str | None]] = {
    MMSTAR: _mmstar,
    MMBENCH: _mmbench,
    MMMU: _mmmu,
    AI2D: _ai2d,
    SEED: _seed,
}


def infer(prediction: str, choices: Mapping[str, Any], *, rule: str) -> str | None:
    """Return the letter that an answer names by one of `RULES`, None if it names none."""
    return _PARSERS[rule](prediction, choices)
