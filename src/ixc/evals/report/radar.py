"""Radar chart of the sixteen benchmarks (paper Fig. 1a) as inline SVG.

The centre is 0; the rim is the best score drawn on each axis, because the axes have different scales. A benchmark
without a score leaves a gap in its line: what was not measured is not drawn as zero.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import cos, pi, sin

from ixc.evals.paper_scores import AXES, RADAR, value
from ixc.evals.report import formatting
from ixc.evals.report.run_report import ReportRun
from ixc.evals.report.tables import comparison
from ixc.utils.svg import escape, tag, text

RADIUS = 200.0
"""Radius of the rim, user units."""

BOX = "-330 -262 660 524"
"""View box, with space for the labels."""

RINGS = (0.25, 0.5, 0.75, 1.0)
"""Radii of the drawn rings, as shares of the rim."""

MOST_RUNS = 3
"""Most runs drawn; more would overlap."""


@dataclass(frozen=True, kw_only=True)
class Series:
    """One line of the radar chart."""

    name: str
    """Legend."""
    kind: str
    """CSS class: `published-0` .. `published-2`, `run-0` .. `run-2`."""
    figures: tuple[float | None, ...]
    """One score for each of `AXES`."""


def series(runs: Sequence[ReportRun]) -> list[Series]:
    """Return GPT-4V, Gemini Pro, the published model, then our runs."""
    lines = comparison(runs)
    printed = [
        Series(name=name, kind=f"published-{i}", figures=tuple(value(name, axis.key) for axis in AXES))
        for i, name in enumerate(RADAR)
    ]
    return printed + [
        Series(
            name=run.name,
            kind=f"run-{i}",
            figures=tuple(r.headline if (r := line.ours[i]) and not r.stand_in else None for line in lines),
        )
        for i, run in enumerate(runs[:MOST_RUNS])
    ]


def rims(drawn: Sequence[Series]) -> list[float]:
    """Return the best score on each axis."""
    return [max((s.figures[k] or 0.0 for s in drawn), default=0.0) or axis.most for k, axis in enumerate(AXES)]


def radar(runs: Sequence[ReportRun]) -> str:
    """Render the chart; the `<title>` of every point gives its score."""
    drawn = series(runs)
    rim = rims(drawn)
    parts = [_ring(share) for share in RINGS]
    parts += [_axis(k, drawn, rim[k]) for k in range(len(AXES))]
    parts += [_line(one, rim) for one in drawn]
    names = ", ".join(one.name for one in drawn)
    return tag(
        "svg", "".join(parts), id="radar", class_="radar", viewBox=BOX, role="img",
        aria_label=f"Radar of {len(AXES)} benchmarks: {names}. The figures are in the table below.",
    )  # fmt: skip


def _point(k: int, share: float) -> tuple[float, float]:
    angle = 2 * pi * k / len(AXES) - pi / 2
    return RADIUS * share * cos(angle), RADIUS * share * sin(angle)


def _corners(shares: Sequence[tuple[int, float]]) -> str:
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in (_point(k, share) for k, share in shares))


def _ring(share: float) -> str:
    return tag("polygon", points=_corners([(k, share) for k in range(len(AXES))]), class_="ring")


def _axis(k: int, drawn: Sequence[Series], rim: float) -> str:
    x, y = _point(k, 1)
    at, low = _point(k, 1.07)
    anchor = "middle" if abs(x) < RADIUS * 0.12 else "start" if x > 0 else "end"
    ours = next((one.figures[k] for one in drawn if one.kind == "run-0"), None)
    lift = -12.0 if y < -RADIUS * 0.9 else 6.0 if y > RADIUS * 0.9 else -2.0
    label = text(AXES[k].title, x=at, y=low + lift, text_anchor=anchor, class_="axis-name")
    figure = text(formatting.score(ours), x=at, y=low + lift + 14, text_anchor=anchor, class_="axis-figure")
    spoke = tag("line", x1=0, y1=0, x2=x, y2=y, class_="spoke")
    hint = tag("title", f"{AXES[k].title}: the rim is {formatting.score(rim)}")
    return tag("g", hint + spoke + label + figure, class_="axis", data_axis=AXES[k].key)


def _line(one: Series, rim: Sequence[float]) -> str:
    shares = [(k, figure / rim[k]) for k, figure in enumerate(one.figures) if figure is not None]
    complete = len(shares) == len(AXES)
    shape = tag("polygon", points=_corners(shares), class_="shape") if complete else _pieces(shares)
    dots = ""
    for k, share in shares:
        x, y = _point(k, share)
        hint = f"{one.name}, {AXES[k].title}: {formatting.score(one.figures[k])}"
        dots += tag("circle", tag("title", escape(hint)), cx=x, cy=y, r=3.4, class_="dot")
    return tag("g", shape + dots, class_=f"series {one.kind}", data_series=one.kind)


def _pieces(shares: Sequence[tuple[int, float]]) -> str:
    """Join neighbouring axes; leave gaps open."""
    have = dict(shares)
    joined = [(k, (k + 1) % len(AXES)) for k in have if (k + 1) % len(AXES) in have]
    return "".join(tag("polyline", points=_corners([(a, have[a]), (b, have[b])]), class_="shape") for a, b in joined)
