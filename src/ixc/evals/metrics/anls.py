"""ANLS, average normalised Levenshtein similarity (DocVQA, InfographicVQA; paper Table 3).

Biten et al. 2019: similarity 1 - NL of the best accepted answer, 0 where it is below 0.5. A benchmark's score is the
mean over questions times 100. VLMEvalKit and lmms-eval agree on every case: there is one rule.
"""

from __future__ import annotations

from collections.abc import Sequence

THRESHOLD = 0.5
"""Similarity below which an answer counts nothing; exactly this still counts."""


def edits(left: str, right: str) -> int:
    """Levenshtein distance: insertions, deletions, substitutions of one character each."""
    before = list(range(len(right) + 1))
    for i, a in enumerate(left, start=1):
        now = [i]
        for j, b in enumerate(right, start=1):
            now.append(min(before[j] + 1, now[j - 1] + 1, before[j - 1] + (a != b)))
        before = now
    return before[-1]


def _folded(text: str) -> str:
    return " ".join(text.lower().split())


def distance(prediction: str, answer: str) -> float:
    """Normalised distance of one accepted answer, 0 (equal) to 1.

    The edits are counted between folded texts (lower case, blanks collapsed) and divided by the length of the longer
    *raw* text in upper case. Blanks around a wrong answer therefore raise its score, as upstream.
    """
    length = max(len(answer.upper()), len(prediction.upper()))
    return edits(_folded(answer), _folded(prediction)) / length if length else 0.0


def anls(prediction: str, answers: Sequence[str]) -> float:
    """Score of one question, 0 to 1: the best accepted answer, 0 below `THRESHOLD`."""
    best = 1 - min(distance(prediction, answer) for answer in answers)
    return best if best >= THRESHOLD else 0.0
