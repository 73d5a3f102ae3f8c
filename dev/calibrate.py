"""Fit the confidence in answers to how often they are right, and measure it on other pages.

    python dev/calibrate.py --drawn 400 [--model FOLDER] --out benchmarks/confidence_nano_202611.json
    python dev/calibrate.py --pages QUESTIONS [--model FOLDER] --out ...

QUESTIONS is a folder of `ixc data questions`. Pages with even numbers fit calibration.json, which is written into the
model folder (default: the embedded model), the others measure it: expected calibration error in ten bins, answers with
a confidence of at least 0.9, the share of right answers among the surest. `--measure` fits nothing.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

import ixc
from ixc.evals.pages import read_cases
from ixc.evals.synthetic import held_out
from ixc.inference.confidence import FILE, Calibration, read_calibration
from ixc.inference.engine import Engine
from ixc.inference.model_folder import find_folder
from ixc.synth.render import paint
from ixc.utils.files import atomic_write

BINS = 10
COVERAGES = (0.1, 0.2, 0.3, 0.5, 0.7, 1.0)
"""Shares of the answers, the surest first, at which the share of right ones is given."""


@dataclass
class Capture:
    """Stands for a calibration and keeps the numbers that one would be given."""

    total: float = 0.0
    least: float = 0.0

    def probability(self, total: float, least: float) -> float:
        """Keep both, and return nothing of meaning."""
        self.total, self.least = total, least
        return 0.0


@dataclass(frozen=True, kw_only=True)
class Case:
    """One answer."""

    page: int
    total: float
    """Sum of the log probabilities."""
    least: float
    right: bool


def drawn(engine: Engine, count: int) -> Iterator[Case]:
    """Answers about drawn pages that were never trained on."""
    for index in range(count):
        page, question = held_out(index)
        yield _asked(engine, index, paint(page).convert("RGB"), question.question, question.answer)


def pages(engine: Engine, folder: Path) -> Iterator[Case]:
    """Answers about the pictures of a folder of questions."""
    numbers: dict[str, int] = {}
    for case in read_cases(folder):
        page = numbers.setdefault(case.image, len(numbers))
        yield _asked(engine, page, folder / case.image, case.question, case.answer)


def _asked(engine: Engine, page: int, picture: object, question: str, answer: str) -> Case:
    found = Capture()
    engine.calibration = found  # type: ignore[assignment]
    said = engine.ask([picture], question).text  # type: ignore[list-item]
    right = " ".join(said.split()) == " ".join(answer.split())
    return Case(page=page, total=found.total, least=found.least, right=right)


def fit(cases: Sequence[Case], *, ridge: float = 1e-2, steps: int = 100) -> Calibration:
    """Logistic regression by Newton's method; a small ridge keeps separable cases finite."""
    x = np.array([[1.0, case.total, case.least] for case in cases])
    y = np.array([case.right for case in cases], float)
    weights = np.zeros(3)
    for _ in range(steps):
        p = 1 / (1 + np.exp(-np.clip(x @ weights, -60, 60)))
        slope = x.T @ (y - p) - ridge * weights
        weights = weights + np.linalg.solve((x * (p * (1 - p))[:, None]).T @ x + ridge * np.eye(3), slope)
    return Calibration(bias=float(weights[0]), total=float(weights[1]), least=float(weights[2]))


def measured(cases: Sequence[Case], calibration: Calibration) -> dict[str, object]:
    """Calibration error, sure answers, and risk and coverage."""
    sure = np.array([calibration.probability(case.total, case.least) for case in cases])
    right = np.array([case.right for case in cases], float)
    place = np.minimum((sure * BINS).astype(int), BINS - 1)
    bins = [
        {"from": b / BINS, "answers": int(here.sum()), "confidence": sure[here].mean(), "right": right[here].mean()}
        for b in range(BINS)
        if (here := place == b).any()
    ]
    error = sum(one["answers"] * abs(one["confidence"] - one["right"]) for one in bins) / len(cases)
    best = right[np.argsort(-sure)]
    at = {str(share): float(best[: max(1, round(share * len(best)))].mean()) for share in COVERAGES}
    certain = sure >= 0.9
    return {
        "questions": len(cases),
        "right": float(right.mean()),
        "calibration_error": float(error),
        "sure": {"answers": int(certain.sum()), "right": float(right[certain].mean()) if certain.any() else None},
        "right_by_coverage": at,
        "bins": bins,
    }


def main() -> None:
    """Fit, measure, write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--drawn", type=int, help="Questions about drawn pages.")
    parser.add_argument("--pages", type=Path, help="Folder of questions about real pages.")
    parser.add_argument("--model", type=Path, help="Model folder; default: the embedded model.")
    parser.add_argument("--measure", action="store_true", help="Measure the folder's calibration, fit none.")
    parser.add_argument("--out", type=Path, required=True, help="Result file.")
    options = parser.parse_args()
    engine = ixc.load(options.model, device="cpu")
    folder = find_folder(options.model)
    found = [*(drawn(engine, options.drawn) if options.drawn else ())]
    found += [*(pages(engine, options.pages) if options.pages else ())]
    held = [case for case in found if case.page % 2 or options.measure]
    calibration = read_calibration(folder) if options.measure else fit([c for c in found if not c.page % 2])
    if calibration is None:
        raise SystemExit(f"error: {folder} has no {FILE}; leave out --measure")
    result = {"source": "drawn pages" if options.drawn else "real pages"} | measured(held, calibration)
    if not options.measure:
        fitted = asdict(calibration) | {"fitted_on": len(found) - len(held), "source": result["source"]}
        atomic_write(folder / FILE, json.dumps(fitted, indent=1) + "\n")
    text = json.dumps(result, indent=1, default=float)
    atomic_write(options.out, text + "\n")
    print(text)


if __name__ == "__main__":
    main()
