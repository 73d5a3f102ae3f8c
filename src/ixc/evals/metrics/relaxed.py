"""Relaxed accuracy (ChartQA; paper Table 3): numbers within 5 %, texts equal but for case.

Masry et al. 2022, section 5.1. Texts are read as numbers by Python's `float`, "%" dividing by 100: "1,000" and "$5"
are texts, "1e3" and "1_000" are numbers. A target of 0 is compared as a text.

rule "vlmevalkit"  the prediction is stripped, the answer is not; any accepted answer will do
rule "lmms"        the prediction is not stripped either, so that "Yes " is wrong for "Yes"
rule "notebook"    the notebook of InternLM-XComposer2 hands the two over in exchanged order: 5 % of the *prediction*,
                   and a prediction of 0 is compared as a text
"""

from __future__ import annotations

from collections.abc import Sequence

from ixc.evals.metrics.rule import LMMS, NOTEBOOK, VLMEVALKIT, check

TOLERANCE = 0.05
"""Greatest difference as a share of the target."""

RULES = (VLMEVALKIT, LMMS, NOTEBOOK)


def number(text: str) -> float | None:
    """Parse a text as a number, per cent as a share; None if it is not a number."""
    try:
        return float(text.rstrip("%")) / 100.0 if text.endswith("%") else float(text)
    except ValueError:
        return None


def close(prediction: str, target: str) -> bool:
    """Decide whether a prediction is within the tolerance of one target."""
    found, wanted = number(prediction), number(target)
    if found is not None and wanted:
        return abs(found - wanted) / abs(wanted) <= TOLERANCE
    return prediction.lower() == target.lower()


def relaxed(prediction: str, answers: Sequence[str], *, rule: str = VLMEVALKIT) -> float:
    """Score one question, 0.0 or 1.0.

    Raises:
        UsageError: unknown rule.
    """
    check(rule, RULES, metric="relaxed accuracy")
    text = prediction if rule == LMMS else prediction.strip()
    if rule == NOTEBOOK:
        return float(any(close(answer, text) for answer in answers))
    return float(any(close(text, answer) for answer in answers))
