"""Group the rows of a data set into bootstrap units, for each way a benchmark computes its score.

    mean           all questions of one image; most benchmarks
    mme            acc + acc+ in every category; a unit is an image with its two questions
    hallusion      mean of aAcc, fAcc, qAcc; a unit is a set of figures and questions, disjoint from the others

Only rows of the headline's split are resampled, and of MMBench only base rows: a rotation counts through its base. The
units must reproduce the benchmark's score to 1e-6, else no interval is given: a wrong interval is worse than none.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ixc.evals.intervals import Unit, figure
from ixc.evals.metrics.circular import ROTATION
from ixc.evals.report.run_report import Index

Units = dict[str, tuple[Unit, tuple[Index, ...]]]
"""Name of a unit -> the unit and the indices of its questions."""


@dataclass(frozen=True, kw_only=True)
class Scored:
    """One scored row with its grouping keys."""

    index: Index
    """Index of the row."""
    score: float
    """0 to 1."""
    picture: str
    """Digest of its images."""
    row: Mapping[str, Any]
    """Columns of the row."""


def units_of(dataset: str, scored: Sequence[Scored], headline: float | None, *, split: str = "") -> tuple[Units, float]:
    """Build (units, scale of a ratio of 1); no units where they do not reproduce the headline.

    Args:
        dataset: official name.
        scored: rows with scores.
        headline: the benchmark's score.
        split: split of the headline, where the rows have several.
    """
    kept = _kept(dataset, scored, split)
    make: Callable[[Sequence[Scored]], Units] = {"MME": _mme, "HallusionBench": _hallusion}.get(dataset, _mean)
    scale = {"HallusionBench": 100 / 3, "OCRBench": len(kept) / 10}.get(dataset, 100.0)
    if headline is None or not kept:
        return {}, scale
    units = make(kept)
    got = figure([u for u, _ in units.values()], scale=scale)
    return (units, scale) if abs(got - headline) <= 1e-6 * max(1.0, abs(headline)) else ({}, scale)


def _kept(dataset: str, scored: Sequence[Scored], split: str) -> list[Scored]:
    if dataset.startswith("MMBench"):
        scored = [s for s in scored if not isinstance(s.index, int) or s.index < ROTATION]
    if any(s.row.get("split") == split for s in scored):
        scored = [s for s in scored if s.row.get("split") == split]
    return list(scored)


def _grouped(scored: Sequence[Scored], key: Callable[[Scored], str]) -> dict[str, list[Scored]]:
    found: dict[str, list[Scored]] = {}
    for one in scored:
        found.setdefault(key(one), []).append(one)
    return found


def _mean(scored: Sequence[Scored]) -> Units:
    return {
        name: (Unit(sums=(sum(s.score for s in group),), counts=(len(group),)), tuple(s.index for s in group))
        for name, group in _grouped(scored, lambda s: s.picture or str(s.index)).items()
    }


def _mme(scored: Sequence[Scored]) -> Units:
    units: Units = {}
    for name, group in _grouped(scored, lambda s: f"{s.row.get('category')}/{s.row.get('image_path')}").items():
        both = len(group) > 1 and all(s.score >= 1 for s in group[:2])  # parity: acc+ uses the first two questions
        unit = Unit(
            stratum=str(group[0].row.get("category")),
            sums=(sum(s.score for s in group), float(both)),
            counts=(len(group), 1),
        )
        units[name] = (unit, tuple(s.index for s in group))
    return units


def _hallusion(scored: Sequence[Scored]) -> Units:
    units: Units = {}
    for name, group in _grouped(scored, lambda s: "/".join(_place(s)[:2])).items():
        figures = _grouped(group, lambda s: _place(s)[2]).values()
        questions = _grouped(group, lambda s: _place(s)[3]).values()
        sums = (sum(s.score for s in group), _count_all_right(figures), _count_all_right(questions))
        unit = Unit(sums=sums, counts=(len(group), len(figures), len(questions)))
        units[name] = (unit, tuple(s.index for s in group))
    return units


def _place(one: Scored) -> tuple[str, str, str, str]:
    """Parse `number_category_subcategory_set_figure_question`: (category without VD / VS, set, figure, question)."""
    parts = (str(one.index).split("_") + [""] * 6)[3:6]
    kind = str(one.row.get("l2-category") or one.row.get("l2_category")).replace("VD_", "").replace("VS_", "")
    return kind, parts[0], parts[1], parts[2]


def _count_all_right(groups: Any) -> float:
    return float(sum(all(s.score >= 1 for s in group) for group in groups))
