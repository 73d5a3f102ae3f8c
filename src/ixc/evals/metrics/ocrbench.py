"""OCRBench (paper Table 3): an accepted answer occurs in the output; counts by task, of 1000 in all.

Texts are compared in lower case, line breaks as blanks. Handwritten formulas (HME) keep their case and lose all blanks.
An output that is long enough holds everything, and an empty answer is held by every output: both as upstream.

rule "vlmevalkit"  lower case, line breaks as blanks, nothing more
rule "lmms"        full-width ASCII (Ａ１) counts as ASCII on both sides, but not in formulas
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ixc.errors import DataError
from ixc.evals.metrics.rule import LMMS, VLMEVALKIT, check

RULES = (VLMEVALKIT, LMMS)

FORMULAS = "Handwritten Mathematical Expression Recognition"
RECOGNITION = "Text Recognition"

TASKS = {
    RECOGNITION: (
        "Regular Text Recognition",
        "Irregular Text Recognition",
        "Artistic Text Recognition",
        "Handwriting Recognition",
        "Digit String Recognition",
        "Non-Semantic Text Recognition",
    ),
    "Scene Text-centric VQA": ("Scene Text-centric VQA",),
    "Doc-oriented VQA": ("Doc-oriented VQA",),
    "Key Information Extraction": ("Key Information Extraction",),
    FORMULAS: (FORMULAS,),
}
"""Task of the table -> categories of the data."""

_WIDE = {0xFF01 + i: 0x21 + i for i in range(94)} | {0x3000: 0x20}
"""Full-width code point -> ASCII code point."""


def _normalised(text: str, *, formula: bool, rule: str) -> str:
    text = text.translate(_WIDE) if rule == LMMS and not formula else text
    text = (text if formula else text.lower()).strip().replace("\n", " ")
    return text.replace(" ", "") if formula else text


def hit(prediction: object, answers: Sequence[str], category: str, *, rule: str = VLMEVALKIT) -> int:
    """Return 1 if any accepted answer occurs in the prediction, else 0.

    Raises:
        UsageError: unknown rule.
    """
    check(rule, RULES, metric="OCRBench")
    formula = category == FORMULAS
    text = _normalised(str(prediction), formula=formula, rule=rule)
    return int(any(_normalised(str(answer), formula=formula, rule=rule) in text for answer in answers))


def ocrbench(rows: Iterable[tuple[str, int]]) -> dict[str, float]:
    """Count right answers by task, with "Final Score" (their sum) and "Final Score Norm" (a tenth of it).

    Args:
        rows: (category of the data, 0 or 1).

    Raises:
        DataError: a category that OCRBench does not have.
    """
    task_of = {category: task for task, categories in TASKS.items() for category in categories}
    counts: dict[str, float] = dict.fromkeys(TASKS, 0)
    for category, right in rows:
        if category not in task_of:
            raise DataError(f"OCRBench has no category {category!r}; it has {', '.join(sorted(task_of))}")
        counts[task_of[category]] += int(right)
    total = sum(counts.values())
    return counts | {"Final Score": total, "Final Score Norm": total / 10}
