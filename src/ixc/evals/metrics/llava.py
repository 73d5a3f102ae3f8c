"""LLaVA-Bench in the wild (not among the paper's 16): the judge's points for the reference and for the model, by kind.

Every question has two points of 1 to 10, the reference's first. The table holds the model's share of the reference's
mean in per cent, and both means times 10, one decimal each.
"""

from __future__ import annotations

from collections.abc import Sequence

ALL = "all"


def _ratios(points: Sequence[tuple[float, float]]) -> tuple[float, float, float]:
    reference = sum(p[0] for p in points) / len(points)
    model = sum(p[1] for p in points) / len(points)
    return round(model / reference * 100, 1), round(reference * 10, 1), round(model * 10, 1)


def llava(rows: Sequence[tuple[str, float, float]]) -> dict[str, tuple[float, float, float]]:
    """Compute kind -> (model / reference in per cent, reference x 10, model x 10); "all" first.

    Args:
        rows: (kind of question, reference's points, model's points).
    """
    table = {ALL: _ratios([(r, m) for _, r, m in rows])}
    for kind in sorted({kind for kind, _, _ in rows}):
        table[kind] = _ratios([(r, m) for k, r, m in rows if k == kind])
    return table
