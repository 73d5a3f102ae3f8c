"""Bootstrap confidence intervals and paired comparisons of benchmark scores.

    rows -> units (clusters drawn together: all questions of one image) -> resample -> 2.5 % and 97.5 % quantile

Answers about one image are correlated, so images are resampled, not questions (cluster bootstrap; Efron and Tibshirani
1993, chapter 8). Every benchmark score is a sum of ratios of sums, one for each stratum and component: a plain mean has
one of each, MME two components (acc, acc+) in each of 14 strata, HallusionBench three components in one stratum. One
routine therefore serves all benchmarks, and no metric is computed twice.

Shapes: U units, K components, R resamples.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import comb
from statistics import NormalDist

import numpy as np

from ixc.errors import DataError, UsageError

RESAMPLES = 2000
"""Resamples of a bootstrap; the ends of an interval then differ by about a twentieth of its width between seeds."""

CONFIDENCE = 0.95
"""Share of resamples inside an interval, 0..1."""

CHUNK = 200
"""Resamples drawn at once: 14,232 rows (SEED-Bench) then need about 20 MB."""

EXACT = 1000
"""Most discordant pairs for the exact McNemar test; beyond, the normal approximation agrees to 1e-3."""


@dataclass(frozen=True, kw_only=True)
class Unit:
    """One cluster of the bootstrap: an image with all its questions."""

    sums: tuple[float, ...]
    """(K,) numerators: right answers, right images ..."""
    counts: tuple[float, ...]
    """(K,) denominators: questions, images ..."""
    stratum: str = ""
    """Stratum within which the unit is resampled (MME: the category); ratios of strata are added."""


@dataclass(frozen=True, kw_only=True)
class Interval:
    """A score with its confidence interval, on the scale of the score."""

    value: float
    """Score."""
    low: float
    """2.5 % quantile."""
    high: float
    """97.5 % quantile."""
    units: int
    """Number of units."""


@dataclass(frozen=True, kw_only=True)
class Paired:
    """Comparison of two runs on the same questions; differences are second minus first, on the scale of the score."""

    questions: int
    """Questions answered by both runs."""
    difference: Interval
    """Difference of the two scores, with its paired cluster bootstrap interval."""
    p_bootstrap: float
    """Two-sided bootstrap p-value, >= 1 / resamples."""
    only_first: int
    """Questions that only the first run answered right (score > 0.5)."""
    only_second: int
    """Questions that only the second run answered right."""
    p_mcnemar: float | None
    """Two-sided p-value of McNemar's test; None where scores lie between 0 and 1, for which it is undefined."""


def bootstrap(units: Sequence[Unit], *, scale: float = 100.0, resamples: int = RESAMPLES, seed: int = 0) -> Interval:
    """Compute the score of `units` with its 95 % interval; equal seeds give equal intervals.

    Args:
        units: at least one.
        scale: value of a ratio of 1, 100 for per cent; the score is scale x (sum over strata and components).
        resamples: number of resamples, >= 100.
        seed: of the random generator.

    Raises:
        DataError: no units. UsageError: fewer than 100 resamples.
    """
    _check(units, resamples)
    drawn = _resample([units], scale=scale, resamples=resamples, seed=seed)[0]
    low, high = _quantiles(drawn)
    return Interval(value=figure(units, scale=scale), low=low, high=high, units=len(units))


def figure(units: Sequence[Unit], *, scale: float = 100.0) -> float:
    """Compute scale x the sum over strata and components of (sum of numerators / sum of denominators); 0 / 0 is 0."""
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
    """Compare two runs by resampling the same units of both.

    Args:
        first: units of the first run.
        second: units of the second run: the same images in the same order.
        pairs: (score of the first run, of the second) for every question both answered, 0..1.
        scale: as in `bootstrap`.
        resamples: as in `bootstrap`.
        seed: as in `bootstrap`.

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
    binary = all(score in (0, 1) for pair in pairs for score in pair)
    return Paired(
        questions=len(pairs),
        difference=Interval(value=value, low=low, high=high, units=len(first)),
        p_bootstrap=min(1.0, max(2 * min(below, above), 1 / resamples)),
        only_first=lost,
        only_second=won,
        p_mcnemar=mcnemar(lost, won) if binary else None,
    )


def mcnemar(only_first: int, only_second: int) -> float:
    """Compute the two-sided p-value of McNemar's test: exact up to 1000 discordant pairs, else corrected normal.

    Source: McNemar 1947; the exact form is a binomial test of `only_first` among all discordant pairs, probability 0.5.
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
    """Compute the score of every run in every resample, (R,) each; all runs share the draws."""
    rng = np.random.default_rng(seed)
    totals = [np.zeros(resamples) for _ in runs]
    for group in zip(*(_strata(units) for units in runs), strict=True):
        tables = [(np.array([u.sums for u in g]), np.array([u.counts for u in g])) for g in group]  # (U, K) each
        size = len(group[0])
        for start in range(0, resamples, CHUNK):
            stop = min(start + CHUNK, resamples)
            times = rng.multinomial(
                size, np.full(size, 1 / size), size=stop - start
            )  # (R', U): times each unit is drawn
            for total, (sums, counts) in zip(totals, tables, strict=True):
                totals_drawn = times @ counts  # (R', K)
                empty = np.zeros_like(totals_drawn, dtype=float)
                ratios = np.divide(times @ sums, totals_drawn, out=empty, where=totals_drawn > 0)
                total[start:stop] += scale * ratios.sum(axis=1)
    return totals


def _quantiles(drawn: np.ndarray) -> tuple[float, float]:
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(drawn, [tail, 1 - tail])
    return float(low), float(high)
