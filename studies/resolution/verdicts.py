"""Compare our differences with the paper's: same direction, none beyond the noise, or the opposite."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from studies.resolution import paper
from studies.resolution.results import Estimate, Part, Run, difference
from studies.resolution.words import gap

Runs = Mapping[str, Mapping[int, Run]]
FLAT = 0.5
"""Points of the paper's mean below which a difference counts as none."""


@dataclass(frozen=True, kw_only=True)
class Claim:
    """A difference that the paper reports."""

    words: str
    """Description of the comparison, second minus first."""
    first: tuple[str, str]
    """Variant and setting."""
    second: tuple[str, str]
    """Variant and setting."""
    theirs: float | None
    """The paper's difference, points (mean of Doc, Info and Text); None = only in words."""
    sign: int
    """The paper's direction: 1 better, -1 worse, 0 no difference."""
    part: Part = field(default_factory=Part)
    """Our answers that are compared."""
    cause: str = ""
    """Likely cause where ours differs; printed only then."""


def _points(first: paper.Row, second: paper.Row) -> float:
    return paper.reading(second) - paper.reading(first)


R = paper.RESOLUTION
_HD9, _4KHD = R["HD-9", "HD-9"], R["HD-25 + 55", "HD-55"]


def _claim(words: str, first: tuple[str, str], second: tuple[str, str], theirs: float, **more: Any) -> Claim:
    sign = 0 if abs(theirs) < FLAT else 1 if theirs > 0 else -1
    return Claim(words=words, first=first, second=second, theirs=theirs, sign=sign, **more)


CLAIMS = (
    _claim("HD-16 less HD-9, each trained so", ("hd9", "original-9"), ("hd16", "original-16"),
           _points(_HD9, R["HD-16", "HD-16"])),
    _claim("HD-25 less HD-16, each trained so", ("hd16", "original-16"), ("hd25", "original-25"),
           _points(R["HD-16", "HD-16"], R["HD-25", "HD-25"])),
    _claim("4KHD (25 + 55) less HD-25, each trained so", ("hd25", "original-25"), ("4khd", "original-55"),
           _points(R["HD-25", "HD-25"], _4KHD)),
    _claim("trained at HD-9, asked at HD-16 less at HD-9", ("hd9", "original-9"), ("hd9", "original-16"),
           _points(_HD9, R["HD-9", "HD-16"])),
    _claim("trained at HD-16, asked at HD-25 less at HD-16", ("hd16", "original-16"), ("hd16", "original-25"),
           _points(R["HD-16", "HD-16"], R["HD-16", "HD-25"])),
    _claim("trained at HD-25, asked at HD-30 less at HD-25", ("hd25", "original-25"), ("hd25", "original-30"),
           _points(R["HD-25", "HD-25"], R["HD-25", "HD-30"]),
           cause="letters of 18 px and more are larger than most of training shows them, and lose what "
                 "smaller ones gain"),
    _claim("HD-9 without overview less with", ("hd9", "original-9"), ("hd9-no-overview", "original-9"),
           _points(_HD9, paper.WITHOUT_OVERVIEW), part=Part(kinds=("value", "row", "below", "large"))),
    _claim("HD-9 without newline less with", ("hd9", "original-9"), ("hd9-no-newline", "original-9"),
           _points(_HD9, paper.WITHOUT_NEWLINE["HD-9"])),
    _claim("4KHD without newline less with", ("4khd", "original-55"), ("4khd-no-newline", "original-55"),
           _points(_4KHD, paper.WITHOUT_NEWLINE["HD-25 + 55"]),
           cause="questions of rows and columns, which need to know where a line ends, are rarely "
                 "answered, so hardly anything can be lost; and the start has read pages with and without "
                 "newlines"),
    _claim("4KHD with the C-Abstractor less concat", ("4khd", "original-55"), ("4khd-c-abstractor", "original-55"),
           _points(_4KHD, paper.MERGES["c_abstractor"]),
           cause="it has several times the weights of concat and sees the neighbours of a token, which "
                 "helps where a letter lies across two; a tower that learns with the merge, as the paper's "
                 "does, can do that itself"),
    _claim("4KHD with the re-sampler less concat", ("4khd", "original-55"), ("4khd-resampler", "original-55"),
           _points(_4KHD, paper.MERGES["resampler"]),
           cause="its fit names fewer characters than the others', and how many depends on the seed"),
    Claim(words="LLaVA-NeXT's any-resolution layout less ours, HD-9", first=("hd9", "original-9"),
          second=("anyres9", "anyres-9"), theirs=None, sign=-1,
          cause="both are near the floor: at HD-9 most letters of full pages are too small under either"),
)  # fmt: skip
"""Claims in the order of the page."""


def verdict(claim: Claim, ours: Estimate) -> str:
    """Return `agrees`, `disagrees`, or that there is no difference beyond the noise of seeds."""
    if ours.seeds < 2:
        return "one seed: no verdict"
    sign = 1 if ours.low > 0 else -1 if ours.high < 0 else 0
    if sign == claim.sign:
        return "agrees"
    return "disagrees" if sign else "no difference beyond the noise of seeds"


def table(runs: Runs) -> list[str]:
    """Make the table of findings, with likely causes where ours differ from the paper."""
    lines = ["**In short** (points of exact match; the paper's are the mean of Doc, Info and Text):", ""]
    lines += ["| | ours | seeds | the paper | |", "|---|---:|---:|---:|---|"]
    causes = []
    for claim in CLAIMS:
        if claim.first[0] not in runs or claim.second[0] not in runs:
            continue
        ours = difference((runs[claim.first[0]], claim.first[1]), (runs[claim.second[0]], claim.second[1]), claim.part)
        if ours is None:
            continue
        said = verdict(claim, ours)
        theirs = "worse, no figures" if claim.theirs is None else f"{claim.theirs:+.1f}"
        lines.append(f"| {claim.words} | {gap(ours)} | {ours.seeds} | {theirs} | {said} |")
        if said not in ("agrees", "one seed: no verdict") and claim.cause:
            causes.append(f"- *{claim.words}*: {claim.cause}")
    return [*lines, *(["", "Likely causes where ours differs:", "", *causes] if causes else [])]
