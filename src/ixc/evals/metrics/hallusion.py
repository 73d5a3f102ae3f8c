"""HallusionBench (paper Table 3): shares of questions, of figures and of questions over figures answered right.

aAcc: every question by itself. fAcc: all questions of a figure. qAcc: one question at all of its figures. The figure
of the paper's table is the mean of the three. Indices read n_category_subcategory_set_figure_question.

rule "vlmevalkit"  groups are keyed by subcategory, set and number: VD and VS groups of the same subcategory merge
rule "notebook"    groups are keyed by the category too; the authors' notebook and lmms-eval count so
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ixc.errors import DataError
from ixc.evals.metrics.rule import LMMS, NOTEBOOK, VLMEVALKIT, check

RULES = (VLMEVALKIT, NOTEBOOK, LMMS)

OVERALL = "Overall"

PARTS = 6
"""Number of parts of an index, joined by "_"."""


@dataclass(frozen=True, kw_only=True)
class HallusionRow:
    """One scored question."""

    index: str
    """n_category_subcategory_set_figure_question."""
    category: str | None
    """VD (visual dependent) or VS (supplement); None where the data have no such column."""
    subcategory: str | None
    """The column l2-category."""
    right: bool
    """Whether the answer is right."""

    def part(self, position: int) -> str:
        """Return one part of the index: set (3), figure (4) or question (5)."""
        parts = self.index.split("_")
        if len(parts) < PARTS:
            raise DataError(f"HallusionBench index {self.index!r} has {len(parts)} parts joined by '_', {PARTS} needed")
        return parts[position]


def _all_right(rows: Sequence[HallusionRow], key: Callable[[HallusionRow], object]) -> float:
    groups: dict[object, bool] = {}
    for row in rows:
        groups[key(row)] = groups.get(key(row), True) and row.right
    return 100 * sum(groups.values()) / len(groups)


def shares(rows: Sequence[HallusionRow], *, rule: str = VLMEVALKIT) -> tuple[float, float, float]:
    """Compute (aAcc, fAcc, qAcc), per cent."""
    check(rule, RULES, metric="HallusionBench")

    def group(row: HallusionRow, position: int) -> object:
        return (None if rule == VLMEVALKIT else row.category, row.subcategory, row.part(3), row.part(position))

    every = 100 * sum(row.right for row in rows) / len(rows)
    return every, _all_right(rows, lambda r: group(r, 4)), _all_right(rows, lambda r: group(r, 5))


def hallusion(rows: Sequence[HallusionRow], *, rule: str = VLMEVALKIT) -> dict[str, tuple[float, float, float]]:
    """Compute (aAcc, fAcc, qAcc), per cent, of "Overall", of each category and subcategory, in order of appearance.

    Raises:
        DataError: no rows, or an index without its six parts. UsageError: unknown rule.
    """
    if not rows:
        raise DataError("HallusionBench: 0 rows to score, at least 1 needed")
    table = {OVERALL: shares(rows, rule=rule)}
    for column in ("category", "subcategory"):
        names = dict.fromkeys(getattr(row, column) for row in rows)
        for name in names:
            if name is not None:
                table[name] = shares([row for row in rows if getattr(row, column) == name], rule=rule)
    return table
