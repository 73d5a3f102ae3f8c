"""ANLS, average normalised Levenshtein similarity (DocVQA, InfographicVQA; paper Table 3).

Biten et al. 2019: similarity 1 - NL of the best accepted answer, 0 where it is below 0.5. A benchmark's score is the
mean over questions times 100. VLMEvalKit and lmms-eval agree on every case: there is one rule.
"""

from __future__ import annotations

from collections.abc import Sequence

THRESHOLD = 0.5
"""Similarity below which an answer scores 0; exactly this value still counts."""


def edits(left: str, right: str) -> int:
    """Compute the Levenshtein distance: insertions, deletions, substitutions of one character each."""
    before = list(range(len(right) + 1))
    for i, a in enumerate(left, start=1):
        now = [i]
        for j, b in enumerate(right, start=1):
            now.append(min(before[j] + 1, now[j - 1] + 1, before[j - 1] + (a != b)))
        before = now
    return before[-1]


def _normalised(text: str) -> str:
    return " ".join(text.lower().split())


def distance(prediction: str, answer: str) -> float:
    """Compute the normalised distance to one accepted answer, 0 (equal) to 1.

    Parity with VLMEvalKit: edits are counted between normalised texts (lower case, whitespace collapsed) but divided by
    the length of the longer *raw* text in upper case, so whitespace around a wrong answer raises its score.
    """
    length = max(len(answer.upper()), len(prediction.upper()))
    return edits(_normalised(answer), _normalised(prediction)) / length if length else 0.0


def anls(prediction: str, answers: Sequence[str]) -> float:
    """Score one question, 0 to 1: similarity of the closest accepted answer, 0 below `THRESHOLD`."""
    best = 1 - min(distance(prediction, answer) for answer in answers)
    return best if best >= THRESHOLD else 0.0
