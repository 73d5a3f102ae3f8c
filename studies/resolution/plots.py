"""Plots of the findings as SVG: our figures with intervals on the left, the paper's on the right."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ixc.utils.svg import document, tag, text
from studies.resolution.results import Estimate

WIDTH, HEIGHT, MARGIN, TOP = 360, 300, 46, 52
COLOURS = ("#1a5fb4", "#e66100", "#26a269", "#813d9c", "#63452c", "#a51d2d")


@dataclass(frozen=True, kw_only=True)
class Series:
    """A line or a row of points."""

    name: str
    """Name in the legend."""
    values: tuple[Estimate | float | None, ...]
    """One value for each position on the axis, per cent."""


@dataclass(frozen=True, kw_only=True)
class Panel:
    """A diagram."""

    title: str
    """Title above it."""
    places: tuple[str, ...]
    """Names along the axis."""
    series: tuple[Series, ...]
    """Series to draw."""
    lines: bool = True
    """Join the points of a series."""


def plot(panels: Sequence[Panel]) -> str:
    """Draw diagrams side by side."""
    tall = HEIGHT + 16 * max(len(panel.series) for panel in panels)
    parts = [tag("g", _panel(panel), transform=f"translate({number * WIDTH} 0)") for number, panel in enumerate(panels)]
    return document("".join(parts), width=WIDTH * len(panels), height=tall, font_size=11)


def _bounds(panel: Panel) -> tuple[float, float]:
    """Range of the vertical axis, in multiples of ten, that contains all values."""
    found: list[float] = []
    for series in panel.series:
        for value in series.values:
            if value is not None:
                found += [value.low, value.high] if isinstance(value, Estimate) else [value]
    low, high = min(found, default=0.0), max(found, default=100.0)
    low, high = max(0.0, 10 * (low // 10)), min(100.0, 10 * (high // 10 + 1))
    return low, max(high, low + 10)


def _panel(panel: Panel) -> str:
    low, high = _bounds(panel)
    base, right = HEIGHT - MARGIN, WIDTH - 14

    def y(value: float) -> float:
        return base - (min(max(value, low), high) - low) / (high - low) * (base - TOP)

    step = (right - MARGIN) / max(1, len(panel.places))
    across = [MARGIN + step * (i + 0.5) for i in range(len(panel.places))]
    parts = [text(panel.title, x=MARGIN, y=24, font_weight="bold")]
    for tick in range(int(low), int(high) + 1, 10 if high - low <= 60 else 20):
        parts.append(tag("line", x1=MARGIN, x2=right, y1=y(tick), y2=y(tick), stroke="#ddd"))
        parts.append(text(f"{tick}", x=MARGIN - 6, y=y(tick) + 4, text_anchor="end"))
    parts += [text(name, x=x, y=base + 18, text_anchor="middle") for name, x in zip(panel.places, across, strict=True)]
    for number, series in enumerate(panel.series):
        shift = 0.0 if panel.lines else 12.0 * (number - (len(panel.series) - 1) / 2)
        parts.append(_series(series, [x + shift for x in across], y, COLOURS[number % len(COLOURS)], panel.lines))
        parts.append(
            tag("circle", cx=MARGIN + 4, cy=HEIGHT - 8 + 16 * number, r=4, fill=COLOURS[number % len(COLOURS)])
        )
        parts.append(text(series.name, x=MARGIN + 14, y=HEIGHT - 4 + 16 * number))
    return "".join(parts)


def _series(series: Series, across: list[float], y: Callable[[float], float], colour: str, lines: bool) -> str:
    parts, points = [], []
    for value, x in zip(series.values, across, strict=True):
        if value is None:
            continue
        middle = value.value if isinstance(value, Estimate) else value
        points.append(f"{x:.1f},{y(middle):.1f}")
        if isinstance(value, Estimate):
            parts.append(tag("line", x1=x, x2=x, y1=y(value.low), y2=y(value.high), stroke=colour, stroke_width=2))
        parts.append(tag("circle", cx=x, cy=y(middle), r=4, fill=colour))
    if lines and len(points) > 1:
        parts.insert(0, tag("polyline", points=" ".join(points), fill="none", stroke=colour))
    return "".join(parts)
