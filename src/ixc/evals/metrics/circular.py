"""CircularEval (MMBench EN and CN; paper Table 3): a question counts where all rotations of its options are right.

Rotations of question n have the indices n + k * 1,000,000. A rotation that the data lack is not required.

rule "vlmevalkit"  every answer is read by the rule of that name in `choice`
rule "lmms"        every answer is read as MMBench of lmms-eval does, and what that leaves open as MMStar does; the
                   result is the same in every golden case
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ixc.errors import DataError
from ixc.evals.metrics.choice import NONE_OF_THEM, ChoiceItem, asked, infer
from ixc.evals.metrics.choice_lmms import MMBENCH, MMSTAR
from ixc.evals.metrics.rule import LMMS, VLMEVALKIT, Judge, check

ROTATION = 1_000_000
"""Distance between the indices of two rotations."""


RULES = (VLMEVALKIT, LMMS)


def _named(item: ChoiceItem, *, rule: str) -> str | None:
    if rule == LMMS:
        said = item.prediction
        return infer(said, item.choices, rule=MMBENCH) or infer(said, item.choices, rule=MMSTAR)
    return infer(item.prediction, item.choices)


def group_hit(items: Sequence[ChoiceItem], *, judge: Judge | None = None, rule: str = VLMEVALKIT) -> int:
    """1 where all rotations are right. A judge reads only what the rule cannot, and only while nothing is wrong."""
    named = [_named(item, rule=rule) for item in items]
    if any(found not in (None, item.answer) for found, item in zip(named, items, strict=True)):
        return 0
    for found, item in zip(named, items, strict=True):
        if found is None and (asked(item, judge) if judge else NONE_OF_THEM) != item.answer:
            return 0
    return 1


def circular(items: Iterable[ChoiceItem], *, judge: Judge | None = None, rule: str = VLMEVALKIT) -> dict[int, int]:
    """Index of the base question -> 1 or 0, in the order of the indices.

    Raises:
        DataError: an index that is not a number. UsageError: unknown rule.
    """
    check(rule, RULES, metric="CircularEval")
    groups: dict[int, list[ChoiceItem]] = {}
    bases = set()
    for item in items:
        if not isinstance(item.index, int):
            raise DataError(
                f"MMBench index {item.index!r} is no whole number; rotations are told apart by index // 1000000"
            )
        groups.setdefault(item.index % ROTATION, []).append(item)
        bases |= {item.index} if item.index < ROTATION else set()
    return {
        base: group_hit(sorted(groups[base], key=lambda item: int(item.index)), judge=judge, rule=rule)
        for base in sorted(bases)
    }
