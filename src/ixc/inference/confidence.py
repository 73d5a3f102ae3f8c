"""Confidence in an answer: how probable it is to be right, from the log probabilities of its tokens.

    log probabilities --sum, least--> Calibration (calibration.json of the folder) --> 0 to 1

Without `calibration.json` the confidence is the probability that the model gives to the whole answer, which says how
sure it is and not how often it is right. `dev/calibrate.py` fits the file on questions about pages not trained on.

Imports no torch.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, fields
from math import exp, isfinite
from pathlib import Path

from ixc.errors import WeightsError

FILE = "calibration.json"
"""Name in a model folder."""


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """Logistic regression on the log probabilities of an answer's tokens: sigmoid(bias + total * sum + least * min)."""

    bias: float = 0.0
    total: float = 0.0
    """Of the sum of the log probabilities."""
    least: float = 0.0
    """Of the smallest of them."""

    def probability(self, total: float, least: float) -> float:
        """Return the probability that an answer with this sum and this smallest log probability is right."""
        score = self.bias + self.total * total + self.least * least
        return 1 / (1 + exp(-max(-60.0, min(60.0, score))))


def read_calibration(folder: Path) -> Calibration | None:
    """Return the calibration of a model folder; None where it has none.

    Raises:
        WeightsError: the file is damaged.
    """
    path = folder / FILE
    if not path.is_file():
        return None
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        values = {each.name: float(found[each.name]) for each in fields(Calibration)}
        if not all(map(isfinite, values.values())):
            raise ValueError("a number is not finite")
        return Calibration(**values)
    except (ValueError, TypeError, KeyError) as error:
        raise WeightsError(
            f"{path} is no calibration ({type(error).__name__}: {error}); delete it, or fit it anew"
        ) from error


def confidence(logprobs: Sequence[float], calibration: Calibration | None) -> float | None:
    """Return the confidence in an answer, 0 to 1; None without tokens.

    Args:
        logprobs: of the answer's tokens, the one that ended it among them, before temperature.
        calibration: of the model folder.
    """
    if not logprobs:
        return None
    total, least = sum(logprobs), min(logprobs)
    return round(exp(total) if calibration is None else calibration.probability(total, least), 4)


__all__ = ["FILE", "Calibration", "confidence", "read_calibration"]
