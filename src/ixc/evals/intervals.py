"""How sure a score is: bootstrap intervals and paired comparisons, for every figure that is built from means.

    rows -> units (what is drawn together: all questions of one picture) -> resample -> 2.5 % and 97.5 % quantile

Questions about one picture stand or fall together, so pictures are drawn, not questions (cluster bootstrap; Efron and
Tibshirani 1993, chapter 8). A benchmark's figure is a combination of ratios of sums, one for each stratum and
component: a plain mean has one of each, MME two components (acc, acc+) in each of 14 strata, HallusionBench three
components in one. That is all the form there is, so one routine serves all; no metric is computed twice.

Legend: U units, K components, R resamples.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import comb
from statistics import NormalDist

import numpy as np

from ixc.errors import DataError, UsageError

RESAMPLES = 2000
"""Draws of a bootstrap: the quantiles of 95 % then move by about a twentieth of the interval between seeds."""

CONFIDENCE = 0.95
"""Share of resamples inside an interval."""

CHUNK = 200
"""Resamples drawn at once, so that 14,232 rows (SEED-Bench) need some 20 MB."""

EXACT = 1000
"""Most discordant pairs for which McNemar's test is summed exactly; beyond, the normal curve is the same to 1e-3."""


@dataclass(frozen=True, kw_only=True)
class Unit:
    """What is drawn together: one picture with all its questions."""

    sums: tuple[float, ...]
    """(K,) numerators: right answers, right pictures ..."""
    counts: tuple[float, ...]
    """(K,) denominators: questions, pictures ..."""
    stratum: str = ""
    """Units are drawn within their stratum (MME: the category), whose ratios are then added."""


@dataclass(frozen=True, kw_only=True)
class Interval:
    """A figure and where its resamples lie, on the figure's own scale."""

    value: float
    low: float
    """2.5 % quantile."""
    high: float
    """97.5 % quantile."""
    units: int
    """Units drawn from."""


@dataclass(frozen=True, kw_only=True)
class Paired:
    """Two runs on the same questions; differences are second minus first, on the figure's own scale."""

    questions: int
    """Questions that both runs answered."""
    difference: Interval
    """Paired cluster bootstrap of the difference of the two figures."""
    p_bootstrap: float
    """Two-sided share of resamples on the other side of zero, 1 / resamples at least."""
    only_first: int
    """Questions that only the first run got right (score above one half)."""
    only_second: int
    """Questions that only the second run got right."""
    p_mcnemar: float | None
    """Two-sided McNemar test; None where a score lies between 0 and 1, for which it is not defined."""


def bootstrap(units: Sequence[Unit], *, scale: float = 100.0, resamples: int = RESAMPLES, seed: int = 0) -> Interval:
    """The figure of `units` with its 95 % interval; equal seeds give equal intervals.

    Args:
        units: at least one.
        scale: what a ratio of 1 is worth, 100 for per cent; the figure is scale x (sum over strata and components).
        resamples: draws, >= 100.
        seed: of the draws.

    Raises:
        DataError: no units. UsageError: fewer than 100 resamples.
    """
    _check(units, resamples)
    drawn = _resample([units], scale=scale, resamples=resamples, seed=seed)[0]
    low, high = _quantiles(drawn)
    return Interval(value=figure(units, scale=scale), low=low, high=high, units=len(units))


def figure(units: Sequence[Unit], *, scale: float = 100.0) -> float:
    """scale x the sum over strata and components of (sum of numerators / sum of denominators); 0 / 0 counts 0."""
    return scale * sum(
        sum(u.sums[k] for u in members) / total
        for members in _strata(units)
        for k in range(len(members[0].sums))
        if (total := sum(u.counts[k] for u in members))
    )


def compare(
    first: Sequence[Unit], second: Sequence[Unit], pairs: Sequence[tuple[float, float]], *, scale: float = 100.0,
    resamples: int = RESAMPLES, seed: int = 0,
) -> Paired:  # fmt: skip
    """Is the second run better? The same units of both runs are drawn together.

    Args:
        first, second: the same pictures in the same order.
        pairs: (score of the first, of the second) of every question both answered, 0..1.
        scale, resamples, seed: as in `bootstrap`.

    Raises:
        DataError: no units, or not the same units. UsageError: fewer than 100 resamples.
    """
    _check(first, resamples)
    if [u.stratum for u in first] != [u.stratum for u in second]:
        raise DataError(f"the runs share no order of units ({len(first)} and {len(second)}); compare runs of one file")
    one, two = _resample([first, second], scale=scale, resamples=resamples, seed=seed)
    low, high = _quantiles(two - one)
    below, above = float(np.mean(two <= one)), float(np.mean(two >= one))
    value = figure(second, scale=scale) - figure(first, scale=scale)
    lost = sum(a > 0.5 >= b for a, b in pairs)
    won = sum(b > 0.5 >= a for a, b in pairs)
    whole = all(score in (0, 1) for pair in pairs for score in pair)
    return Paired(
        questions=len(pairs),
        difference=Interval(value=value, low=low, high=high, units=len(first)),
        p_bootstrap=min(1.0, max(2 * min(below, above), 1 / resamples)),
        only_first=lost,
        only_second=won,
        p_mcnemar=mcnemar(lost, won) if whole else None,
    )


def mcnemar(only_first: int, only_second: int) -> float:
    """Two-sided p of McNemar's test from the discordant pairs: exact binomial, the corrected normal curve beyond 1000.

    Source: McNemar 1947; the exact form is a binomial test of only_first out of both with probability one half.
    """
    total, few = only_first + only_second, min(only_first, only_second)
    if total == 0:
        return 1.0
    if total <= EXACT:
        return min(1.0, 2 * sum(comb(total, k) for k in range(few + 1)) / 2**total)
    return 2 * NormalDist().cdf(-max(0.0, abs(only_first - only_second) - 1) / total**0.5)


def _check(units: Sequence[Unit], resamples: int) -> None:
    if not units:
        raise DataError("0 scored questions, at least 1 needed for an interval; answer some first")
    if resamples < 100:
        raise UsageError(f"{resamples} resamples, at least 100 needed for quantiles of 95 %; use {RESAMPLES}")


def _strata(units: Sequence[Unit]) -> list[list[Unit]]:
    found: dict[str, list[Unit]] = {}
    for unit in units:
        found.setdefault(unit.stratum, []).append(unit)
    return list(found.values())


def _resample(runs: Sequence[Sequence[Unit]], *, scale: float, resamples: int, seed: int) -> list[np.ndarray]:
    """The figure of every run in every resample, (R,) each; all runs see the same draws."""
    rng = np.random.default_rng(seed)
    totals = [np.zeros(resamples) for _ in runs]
    for group in zip(*(_strata(units) for units in runs), strict=True):
        tables = [(np.array([u.sums for u in g]), np.array([u.counts for u in g])) for g in group]  # (U, K) each
        size = len(group[0])
        for start in range(0, resamples, CHUNK):
            stop = min(start + CHUNK, resamples)
            times = rng.multinomial(
                size, np.full(size, 1 / size), size=stop - start
            )  # (R', U): how often each is drawn
            for total, (sums, counts) in zip(totals, tables, strict=True):
                below = times @ counts  # (R', K)
                ratios = np.divide(times @ sums, below, out=np.zeros_like(below, dtype=float), where=below > 0)
                total[start:stop] += scale * ratios.sum(axis=1)
    return totals


def _quantiles(drawn: np.ndarray) -> tuple[float, float]:
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(drawn, [tail, 1 - tail])
    return float(low), float(high)
