"""Accuracy table of multiple-choice benchmarks: by split, over all rows and by category.

Accuracies are 0 to 1; the task converts them to per cent. MMBench's six abilities are abbreviated wherever they occur.
VLMEvalKit's "Overall" is the mean over questions; lmms-eval reports MMStar as the mean over categories (`macro`).
"""

from __future__ import annotations

from collections.abc import Sequence

from ixc.errors import DataError

OVERALL = "Overall"

NO_SPLIT = "none"
"""Name of the only split where the data have no such column."""

ABILITIES = {
    "coarse_perception": "CP",
    "finegrained_perception (instance-level)": "FP-S",
    "finegrained_perception (cross-instance)": "FP-C",
    "logic_reasoning": "LR",
    "relation_reasoning": "RR",
    "attribute_reasoning": "AR",
}
"""MMBench's l2-category -> its name in tables."""

Row = tuple[str | None, str | None, str | None, int]
"""(split, category, l2-category, 0 or 1); None where the data have no such column."""

_CATEGORY, _ABILITY = 1, 2


def _mean(hits: Sequence[int]) -> float | None:
    return sum(hits) / len(hits) if hits else None


def accuracy(rows: Sequence[Row]) -> dict[str, dict[str, float | None]]:
    """Compute split -> {"Overall", l2-categories by name, categories by name} -> accuracy; None for an empty group.

    Raises:
        DataError: no rows.
    """
    if not rows:
        raise DataError("multiple choice: 0 rows to score, at least 1 needed")
    table: dict[str, dict[str, float | None]] = {}
    for split in dict.fromkeys(row[0] for row in rows):
        mine = [row for row in rows if row[0] == split]
        shares = {OVERALL: _mean([row[3] for row in mine])}
        for column in (_ABILITY, _CATEGORY):
            for name in sorted({str(row[column]) for row in rows if row[column] is not None}):
                shares[ABILITIES.get(name, name)] = _mean([row[3] for row in mine if row[column] == name])
        table[NO_SPLIT if split is None else split] = shares
    return table


def macro(rows: Sequence[Row]) -> float:
    """Compute the mean over l2-categories of their accuracies (0 to 1), lmms-eval's average of MMStar.

    Raises:
        DataError: no rows with an l2-category.
    """
    names = {row[_ABILITY] for row in rows if row[_ABILITY] is not None}
    if not names:
        raise DataError(f"0 of {len(rows)} rows have an l2-category; the mean over categories needs them")
    shares = [_mean([row[3] for row in rows if row[_ABILITY] == name]) or 0.0 for name in names]
    return sum(shares) / len(shares)
