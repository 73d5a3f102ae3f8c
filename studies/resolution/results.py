"""The result files of the runs, and figures over seeds: mean and 95 % interval, alone and paired.

The interval is Student's over seeds: mean +- t(0.975, n - 1) * s / sqrt(n). It says what other seeds would give on the
same pages; two of three pairs are far from zero only if all seeds agree.
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
"""Student's t, 97.5 %, by degrees of freedom; beyond nine 2.262 is a little too wide."""

READING = ("value", "row", "below")
"""Kinds that need text."""

Run = dict[str, Any]
"""One result file."""


@dataclass(frozen=True, kw_only=True)
class Part:
    """Which answers a figure counts; None = all."""

    sort: str | None = "full"
    """`full`, `small` or `8k`."""
    kinds: tuple[str, ...] = READING
    """Of questions."""
    size: str | None = None
    """Class of font sizes."""


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A figure over seeds, per cent or points."""

    value: float
    """Mean."""
    low: float
    """Of the 95 % interval; the value itself with one seed."""
    high: float
    """Of the 95 % interval."""
    seeds: int
    """How many."""


def load(folder: Path) -> dict[str, dict[int, Run]]:
    """Runs by variant and seed.

    Raises:
        DataError: a file that is no result.
    """
    found: dict[str, dict[int, Run]] = {}
    for path in sorted(folder.glob("*-*.json")):
        try:
            run = json.loads(path.read_text(encoding="utf-8"))
            found.setdefault(run["variant"], {})[run["seed"]] = run
        except (ValueError, KeyError, TypeError) as error:
            raise DataError(f"{path} is no result of ixc bench ablate ({error}); delete it") from error
    return found


def exact(run: Run, view: str, part: Part) -> float | None:
    """Exact match under a setting, per cent; None where nothing was asked."""
    rows = [
        row for row in run["scores"]
        if row["view"] == view and row["kind"] in part.kinds
        and part.sort in (None, row["sort"]) and part.size in (None, row["size"])
    ]  # fmt: skip
    asked = sum(row["asked"] for row in rows)
    return 100 * sum(row["right"] for row in rows) / asked if asked else None


def estimate(values: Sequence[float]) -> Estimate | None:
    """Mean and interval."""
    if not values:
        return None
    middle, count = mean(values), len(values)
    half = T975[min(count - 1, max(T975))] * stdev(values) / sqrt(count) if count > 1 else 0.0
    return Estimate(value=middle, low=middle - half, high=middle + half, seeds=count)


def over_seeds(runs: Mapping[int, Run], view: str, part: Part) -> Estimate | None:
    """Exact match of a variant under a setting."""
    return estimate([x for run in runs.values() if (x := exact(run, view, part)) is not None])


def difference(
    first: tuple[Mapping[int, Run], str], second: tuple[Mapping[int, Run], str], part: Part
) -> Estimate | None:
    """Second minus first, (runs, setting) each, seed by seed."""
    found = []
    for seed in sorted(set(first[0]) & set(second[0])):
        one, two = (exact(runs[seed], view, part) for runs, view in (first, second))
        if one is not None and two is not None:
            found.append(two - one)
    return estimate(found)
