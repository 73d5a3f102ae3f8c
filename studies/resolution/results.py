"""Result files of the runs, and statistics over seeds: mean and 95 % interval, alone and paired.

The interval is Student's over seeds: mean +- t(0.975, n - 1) * s / sqrt(n). It covers other seeds on the same pages; of
three pairs it excludes zero only if all seeds agree.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import sqrt
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from ixc.errors import DataError

T975 = {1: 12.706, 2: 4.303, 3: 3.182, 4: 2.776, 5: 2.571, 6: 2.447, 7: 2.365, 8: 2.306, 9: 2.262}
"""Student's t, 97.5 %, by degrees of freedom; beyond nine, 2.262 is slightly too wide."""

READING = ("value", "row", "below")
"""Kinds of question about text."""

Run = dict[str, Any]
"""One result file."""

OLD_NAMES = {
    "eyes": "vision_encoder",
    "hand": "language_model",
    "canvases": "images",
    "near": "glyph_mse_weight",
    "spelling": "character_loss_weight",
    "lessons": "curriculum",
    "spelt": "characters",
}
"""Keys in files written before 30 November 2026 -> today's."""

FIRST_WIDTH = 128
"""Width of the language model in files written before the width was recorded."""


@dataclass(frozen=True, kw_only=True)
class Part:
    """Selection of answers; None = all."""

    sort: str | None = "full"
    """`full`, `small` or `8k`."""
    kinds: tuple[str, ...] = READING
    """Kinds of question."""
    size: str | None = None
    """Class of font sizes, `9-12` ..."""


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A statistic over seeds, per cent or points."""

    value: float
    """Mean."""
    low: float
    """Lower end of the 95 % interval; the value itself with one seed."""
    high: float
    """Upper end of the 95 % interval."""
    seeds: int
    """Number of seeds."""


def load(folder: Path) -> dict[str, dict[int, Run]]:
    """Read the runs by variant and seed.

    Raises:
        DataError: a file that is no result, or files of language models of different shapes.
    """
    found: dict[str, dict[int, Run]] = {}
    shapes: dict[tuple[int, int], list[str]] = {}
    for path in sorted(folder.glob("*-*.json")):
        try:
            run = read(path)
            found.setdefault(run["variant"], {})[run["seed"]] = run
            shapes.setdefault(shape_of(run), []).append(path.name)
        except (ValueError, KeyError, TypeError) as error:
            raise DataError(f"{path} is no result of python -m studies.resolution ({error}); delete it") from error
    if len(shapes) > 1:
        mixed = " and ".join(f"{words_of(shape)} ({len(n)}, {n[0]} ...)" for shape, n in sorted(shapes.items()))
        raise DataError(f"{folder} mixes runs of language models {mixed}; keep each in a folder of its own")
    return found


def read(path: Path) -> Run:
    """Read a result file, with today's keys where it was written under older ones (`OLD_NAMES`)."""
    run = renamed(json.loads(path.read_text(encoding="utf-8")))
    run["start"].setdefault("width", FIRST_WIDTH)
    return run


def renamed(found: Any) -> Any:
    """Replace old keys by today's, in nested objects too."""
    if isinstance(found, dict):
        return {OLD_NAMES.get(key, key): renamed(value) for key, value in found.items()}
    return [renamed(value) for value in found] if isinstance(found, list) else found


def shape_of(run: Run) -> tuple[int, int]:
    """Width and layers of the language model of a run."""
    return run["start"]["width"], run["start"]["layers"]


def words_of(shape: tuple[int, int]) -> str:
    """Describe a shape: `128 wide with 4 layers`."""
    return f"{shape[0]} wide with {shape[1]} layers"


def exact(run: Run, view: str, part: Part) -> float | None:
    """Exact match at a setting, per cent; None without questions."""
    rows = [
        row for row in run["scores"]
        if row["view"] == view and row["kind"] in part.kinds
        and part.sort in (None, row["sort"]) and part.size in (None, row["size"])
    ]  # fmt: skip
    asked = sum(row["asked"] for row in rows)
    return 100 * sum(row["right"] for row in rows) / asked if asked else None


def estimate(values: Sequence[float]) -> Estimate | None:
    """Compute mean and interval."""
    if not values:
        return None
    middle, count = mean(values), len(values)
    half = T975[min(count - 1, max(T975))] * stdev(values) / sqrt(count) if count > 1 else 0.0
    return Estimate(value=middle, low=middle - half, high=middle + half, seeds=count)


def over_seeds(runs: Mapping[int, Run], view: str, part: Part) -> Estimate | None:
    """Exact match of a variant at a setting, over seeds."""
    return estimate([x for run in runs.values() if (x := exact(run, view, part)) is not None])


def difference(
    first: tuple[Mapping[int, Run], str], second: tuple[Mapping[int, Run], str], part: Part
) -> Estimate | None:
    """Second minus first, (runs, setting) each, paired by seed."""
    found = []
    for seed in sorted(set(first[0]) & set(second[0])):
        one, two = (exact(runs[seed], view, part) for runs, view in (first, second))
        if one is not None and two is not None:
            found.append(two - one)
    return estimate(found)
