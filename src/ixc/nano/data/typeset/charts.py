"""Charts as training pages: bars, lines, points, pies and histograms, drawn by matplotlib.

(rng, TextSource, font files) --matplotlib--> PDF with a text layer, questions with answers

Titles, axes, ticks, legends, labels at bars and slices, rotated labels, grids and styles are drawn at random. What is
asked stands on the chart as text: a bar without its number is not asked about.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.random import Generator

from ixc.nano.data.page_questions import ABSENT
from ixc.nano.data.page_text import Known
from ixc.nano.data.typeset.text import TextSource
from ixc.nano.data.typeset.values import one_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes

STYLES = ("default", "classic", "ggplot", "bmh", "fivethirtyeight", "grayscale", "seaborn-v0_8", "tableau-colorblind10")
"""Of matplotlib."""
ASKED: dict[str, tuple[str, ...]] = {
    "title": ("What is the title?", "What is the title of the chart?", "Title?", "What is the chart called?"),
    "x": ("What is the label of the x axis?", "What is on the x axis?", "x axis?", "What does the x axis show?"),
    "y": ("What is the label of the y axis?", "What is on the y axis?", "y axis?", "What does the y axis show?"),
    "value": (
        "What is the value of {0}?",
        "What is the value for {0}?",
        "What is {0}?",
        "{0}?",
        "How much is {0}?",
        "Read the number at {0}.",
        "What number stands at {0}?",
        "value of {0}",
    ),
    "first": ("Which series comes first in the legend?", "What is the first entry of the legend?"),
    "last": ("Which series comes last in the legend?", "What is the last entry of the legend?"),
}
"""What is asked -> ways to ask for it."""


@dataclass(frozen=True, kw_only=True)
class ChartDocument:
    """A chart as a PDF of one page, and what it answers."""

    kind: str
    pdf: bytes
    known: tuple[Known, ...]


def compose_chart(rng: Generator, text: TextSource, fonts: Sequence[Path] = (), *, kind: str = "") -> ChartDocument:
    """Draw a chart.

    Args:
        rng: of this chart.
        text: of titles, labels and names.
        fonts: font files, of which one may be used; one that matplotlib cannot read is left out.
        kind: of `CHARTS`; "" draws one.
    """
    import matplotlib as mpl
    from matplotlib import style
    from matplotlib.figure import Figure

    kind = kind or one_of(rng, sorted(CHARTS))
    chosen = {"pdf.fonttype": 42, "font.size": float(rng.uniform(7, 14)), "axes.unicode_minus": False}
    chosen |= {"text.parse_math": False, "figure.autolayout": True, "svg.hashsalt": "ixc", **_family(rng, fonts)}
    with _quiet(), mpl.rc_context(), style.context([one_of(rng, STYLES), chosen]):
        figure = Figure(figsize=(float(rng.uniform(3.2, 8)), float(rng.uniform(2.6, 6))))
        axes = figure.subplots()
        known = [*CHARTS[kind](axes, rng, text), *_words(axes, rng, text, plain=kind == "pie")]
        file = BytesIO()
        figure.savefig(file, format="pdf", metadata={"CreationDate": None})
    return ChartDocument(kind=f"chart-{kind}", pdf=file.getvalue(), known=tuple(known))


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep from the terminal what matplotlib and fontTools say of fonts that lack a weight, a table or a character."""
    loggers = [logging.getLogger(name) for name in ("matplotlib", "fontTools")]
    before = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, before, strict=True):
            logger.setLevel(level)


def _family(rng: Generator, fonts: Sequence[Path]) -> dict[str, Any]:
    """Return the setting of a font: half of the time one of the files."""
    if not fonts or rng.random() < 0.5:
        return {"font.family": one_of(rng, ("sans-serif", "serif", "monospace"))}
    from matplotlib import font_manager

    path = fonts[int(rng.integers(len(fonts)))]
    try:
        font_manager.fontManager.addfont(str(path))
        return {"font.family": [font_manager.FontProperties(fname=str(path)).get_name(), "DejaVu Sans"]}
    except (RuntimeError, OSError, ValueError):  # no font that FreeType reads, or one without a name
        return {}


def _ask(rng: Generator, what: str, answer: str, *needs: str, about: str = "") -> Known:
    """Return a fact in one of its phrasings."""
    return Known(question=one_of(rng, ASKED[what]).format(about), answer=answer, needs=needs or (answer,))


def _words(axes: Axes, rng: Generator, text: TextSource, *, plain: bool) -> list[Known]:
    """Title and labels of axes, each by chance; what is not there is asked for too."""
    known = []
    if rng.random() < 0.8:
        name = text.words(rng, 1, 5)
        axes.set_title(name, loc=one_of(rng, ("center", "left", "right")))  # type: ignore[arg-type]
        known.append(_ask(rng, "title", name))
    else:
        known.append(Known(question=one_of(rng, ASKED["title"][1:2]), answer=ABSENT, needs=()))
    for what, put in (("x", axes.set_xlabel), ("y", axes.set_ylabel)):
        if not plain and rng.random() < 0.7:
            name = text.words(rng, 1, 3)
            put(name)
            known.append(_ask(rng, what, name))
        else:
            known.append(Known(question=one_of(rng, ASKED[what][:1]), answer=ABSENT, needs=()))
    if not plain and rng.random() < 0.4:
        axes.grid(visible=True, alpha=float(rng.uniform(0.2, 0.9)))
    return known


def _names(rng: Generator, text: TextSource, count: int) -> list[str]:
    """Return different short names: words, years, months or quarters."""
    r = rng.random()
    if r < 0.2:
        first = int(rng.integers(1950, 2030 - count))
        return [str(first + i) for i in range(count)]
    if r < 0.3:
        months = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
        return [*months[: min(count, 12)]]
    found: dict[str, None] = {}
    while len(found) < count:
        found[text.words(rng, 1, 2)] = None
    return [*found]


def _numbers(rng: Generator, count: int) -> tuple[np.ndarray, Callable[[float], str]]:
    """Return positive values of one magnitude, and how they are written."""
    values = rng.uniform(0.05, 1, size=count) * 10 ** float(rng.uniform(0, 5))
    digits = int(rng.integers(0, 3)) if values.max() < 1000 else 0
    end = one_of(rng, ("", "", "", "%", " %", "k", " M"))
    return values, lambda value: f"{value:,.{digits}f}{end}"


def bars(axes: Axes, rng: Generator, text: TextSource) -> list[Known]:
    """Bars, upright or lying, most of them with numbers."""
    names = _names(rng, text, int(rng.integers(2, 9)))
    values, write = _numbers(rng, len(names))
    lying, known = bool(rng.random() < 0.4), []
    drawn = (axes.barh if lying else axes.bar)(names, values)  # type: ignore[operator]
    if rng.random() < 0.75:
        written, place = [write(value) for value in values], one_of(rng, ("edge", "edge", "center"))
        texts = axes.bar_label(drawn, labels=written, label_type=place)  # type: ignore[arg-type]
        if place == "center":
            _contrast(texts, axes.patches)
        axes.margins(x=0.15) if lying else axes.margins(y=0.15)
        known = [_ask(rng, "value", value, name, value, about=name) for name, value in zip(names, written, strict=True)]
    if not lying and (len(names) > 4 or rng.random() < 0.3):
        axes.tick_params(axis="x", rotation=int(rng.choice((30, 45, 90))))
    return known


def lines(axes: Axes, rng: Generator, text: TextSource) -> list[Known]:
    """One to four lines, or points, with a legend."""
    names = _names(rng, text, int(rng.integers(1, 5)))
    steps = int(rng.integers(4, 30))
    for name in names:
        values, _ = _numbers(rng, steps)
        axes.plot(
            np.arange(steps), np.cumsum(values - values.mean() * rng.uniform(0, 1)), label=name, marker=_mark(rng)
        )
    return _legend(axes, rng, names)


def points(axes: Axes, rng: Generator, text: TextSource) -> list[Known]:
    """Clouds of points with a legend."""
    names = _names(rng, text, int(rng.integers(2, 5)))
    for name in names:
        x, y = rng.normal(rng.uniform(-3, 3, size=2), 1, size=(int(rng.integers(5, 60)), 2)).T
        axes.scatter(x, y, label=name, s=float(rng.uniform(5, 60)), alpha=float(rng.uniform(0.4, 1)))
    return _legend(axes, rng, names)


def _mark(rng: Generator) -> str:
    return one_of(rng, ("", "", "o", "s", "^", "x"))


def _legend(axes: Axes, rng: Generator, names: Sequence[str]) -> list[Known]:
    """Put a legend by chance, and ask for its ends."""
    if rng.random() < 0.2:
        return []
    place: Any = one_of(rng, ("best", "upper left", "lower right", "upper right"))
    axes.legend(loc=place, frameon=bool(rng.random() < 0.7))
    return [_ask(rng, "first", names[0]), _ask(rng, "last", names[-1])] if len(names) > 1 else []


def pie(axes: Axes, rng: Generator, text: TextSource) -> list[Known]:
    """A pie with names and most often with shares."""
    names = _names(rng, text, int(rng.integers(2, 7)))
    shares = rng.dirichlet(np.full(len(names), 3.0)) * 100
    digits = int(rng.integers(0, 2))
    written = [f"{share:.{digits}f}%" for share in shares]
    if rng.random() < 0.8:
        left = iter(written)
        axes.pie(shares, labels=names, autopct=lambda _: next(left), startangle=float(rng.uniform(0, 360)))
        _contrast([one for one in axes.texts if one.get_text() in written], axes.patches)
        return [_ask(rng, "value", value, name, value, about=name) for name, value in zip(names, written, strict=True)]
    axes.pie(shares, labels=names)
    return []


def _contrast(texts: Sequence[Any], patches: Sequence[Any]) -> None:
    """Write each text in black or white, whichever stands out from the patch that it lies on."""
    for one, patch in zip(texts, patches, strict=True):
        red, green, blue = patch.get_facecolor()[:3]
        one.set_color("black" if 0.3 * red + 0.59 * green + 0.11 * blue > 0.45 else "white")


def histogram(axes: Axes, rng: Generator, text: TextSource) -> list[Known]:
    """A histogram; only its words are asked for."""
    axes.hist(rng.normal(size=400) * 10 ** float(rng.uniform(-1, 3)), bins=int(rng.integers(5, 30)))
    return []


CHARTS: dict[str, Callable[[Axes, Generator, TextSource], list[Known]]] = {
    "bars": bars,
    "lines": lines,
    "points": points,
    "pie": pie,
    "histogram": histogram,
}
"""Kind -> what draws it."""

__all__ = ["CHARTS", "ChartDocument", "compose_chart"]
