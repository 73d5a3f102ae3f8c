"""Small charts of the page: a score with its interval in a table row, and the range of image sizes (Fig. 1b)."""

from __future__ import annotations

from collections.abc import Sequence
from math import log10

from ixc.core.tiling import TILE
from ixc.evals.paper_scores import PUBLISHED, value
from ixc.evals.report import formatting
from ixc.evals.report.tables import HD_25, HD_55, Line, ResolutionRow
from ixc.utils.svg import escape, tag, text

BAR = 150.0
"""Length of a bar, user units."""

ROW = 26.0
"""Height of a row in the chart of image sizes, user units."""

LEFT, WIDE = 150.0, 520.0
"""Width of the names; length of the area axis; user units."""

UHD = 3840 * 2160
"""Pixels of a 4K screen."""


def bar(line: Line) -> str:
    """Draw our score (bar), its 95 % interval (whisker) and the published score (tick), from 0 to the best possible."""
    ours = line.ours[0] if line.ours else None
    tick = value(PUBLISHED, line.axis.key)
    parts = [tag("rect", x=0, y=6, width=BAR, height=8, rx=4, class_="track")]
    label = f"published {formatting.score(tick)}"
    if ours and ours.headline is not None:
        parts.append(tag("rect", x=0, y=6, width=_along(ours.headline, line), height=8, rx=4, class_="fill"))
        label = f"ours {formatting.interval(ours)}, {label}"
    if ours and ours.interval:
        low, high = _along(ours.interval.low, line), _along(ours.interval.high, line)
        parts.append(tag("path", d=f"M{low:.1f} 5v10M{high:.1f} 5v10M{low:.1f} 10H{high:.1f}", class_="whisker"))
    if tick is not None:
        at = _along(tick, line)
        parts.append(tag("path", d=f"M{at:.1f} 1v18", class_="tick"))
    hint = tag("title", escape(label))
    return tag("svg", hint + "".join(parts), class_="bar", viewBox=f"-2 0 {BAR + 4} 20", role="img", aria_label=label)


def _along(figure: float, line: Line) -> float:
    return BAR * min(max(figure / line.axis.most, 0.0), 1.0)


def sizes(lines: Sequence[ResolutionRow]) -> str:
    """Draw smallest, median and largest area of each data set on a logarithmic axis, with the areas of HD settings."""
    least = min(line.least[0] * line.least[1] for line in lines)
    most = max(max(line.most[0] * line.most[1] for line in lines), UHD)
    decades = range(int(log10(least)), int(log10(most)) + 2)
    span = (float(decades[0]), float(decades[-1]))
    high = 46 + ROW * len(lines)
    parts = [_decade(k, span, high) for k in decades]
    settings = (("1 tile", TILE**2), ("HD-25", HD_25), ("HD-55", HD_55))
    parts += [_setting(name, area, span, high) for name, area in settings]
    parts += [_range(line, 46 + ROW * i + ROW / 2, span) for i, line in enumerate(lines)]
    return tag(
        "svg", "".join(parts), id="sizes", class_="sizes", viewBox=f"0 0 {LEFT + WIDE + 30} {high + 26}", role="img",
        aria_label="Smallest, median and largest picture of each data set; the figures are in the table below.",
    )  # fmt: skip


def _x(area: float, span: tuple[float, float]) -> float:
    return LEFT + WIDE * (log10(area) - span[0]) / (span[1] - span[0])


def _decade(k: int, span: tuple[float, float], high: float) -> str:
    x = _x(10.0**k, span)
    return tag("line", x1=x, x2=x, y1=40, y2=high, class_="ring") + text(
        formatting.area(10.0**k), x=x, y=high + 18, text_anchor="middle", class_="axis-name"
    )


def _setting(name: str, area: float, span: tuple[float, float], high: float) -> str:
    if not span[0] <= log10(area) <= span[1]:
        return ""
    x = _x(area, span)
    # HD-25 and HD-55 are close on a logarithmic axis: their labels are put on opposite sides
    anchor, shift = ("start", 4.0) if name == "HD-55" else ("end", -4.0)
    label = text(name, x=x + shift, y=32, text_anchor=anchor, class_="budget-name")
    return tag("line", x1=x, x2=x, y1=24, y2=high, class_="budget") + label


def _range(line: ResolutionRow, y: float, span: tuple[float, float]) -> str:
    low, middle, top = (_x(a, span) for a in (line.least[0] * line.least[1], line.middle, line.most[0] * line.most[1]))
    least, most = formatting.size(line.least), formatting.size(line.most)
    hint = f"{line.title}: {least}, median {formatting.area(line.middle)}, {most}"
    return tag(
        "g",
        tag("title", escape(hint))
        + text(line.title, x=LEFT - 12, y=y + 4, text_anchor="end", class_="row-name")
        + tag("line", x1=low, x2=top, y1=y, y2=y, class_="span")
        + tag("circle", cx=low, cy=y, r=3.5, class_="end")
        + tag("circle", cx=top, cy=y, r=3.5, class_="end")
        + tag("circle", cx=middle, cy=y, r=6, class_="middle"),
        data_dataset=line.dataset,
    )
