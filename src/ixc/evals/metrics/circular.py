"""CircularEval (MMBench EN and CN; paper Table 3): a question counts where all rotations of its options are right.

The rotations of question n have the indices n + k * 1,000,000. A rotation missing from the data is not required.

rule "vlmevalkit"  every answer is read by the rule of that name in `choice`
rule "lmms"        every answer is read as MMBench of lmms-eval does, and what that leaves open as MMStar does; the
                   result is the same in every golden case
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ixc.errors import DataError
from ixc.evals.metrics.choice import NONE_OF_THEM, ChoiceItem, infer, judged_letter
from ixc.evals.metrics.choice_lmms import MMBENCH, MMSTAR
from ixc.evals.metrics.rule import LMMS, VLMEVALKIT, Judge, check

ROTATION = 1_000_000
"""Distance between the indices of two rotations."""

RULES = (VLMEVALKIT, LMMS)


def _named(item: ChoiceItem, *, rule: str) -> str | None:
    if rule == LMMS:
        answer = item.prediction
        return infer(answer, item.choices, rule=MMBENCH) or infer(answer, item.choices, rule=MMSTAR)
    return infer(item.prediction, item.choices)


def group_hit(items: Sequence[ChoiceItem], *, judge: Judge | None = None, rule: str = VLMEVALKIT) -> int:
    """Return 1 if all rotations are right. A judge is asked only where the rule fails and nothing is wrong yet."""
    named = [_named(item, rule=rule) for item in items]
    if any(found not in (None, item.answer) for found, item in zip(named, items, strict=True)):
        return 0
    for found, item in zip(named, items, strict=True):
        if found is None and (judged_letter(item, judge) if judge else NONE_OF_THEM) != item.answer:
            return 0
    return 1


def circular(items: Iterable[ChoiceItem], *, judge: Judge | None = None, rule: str = VLMEVALKIT) -> dict[int, int]:
    """Score all questions: index of the base question -> 1 or 0, in the order of the indices.

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
