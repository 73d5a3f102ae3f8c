"""The studies, one function each: runs -> heading, table, plot, or None where runs are missing.

The main figure is the exact match of questions about text on `full` pages, the mean of seeds with its interval; a
difference is taken seed by seed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from statistics import mean
from typing import Any

from studies.resolution import pages, paper
from studies.resolution.plots import Panel, Series
from studies.resolution.results import Estimate, Part, Run, difference, over_seeds
from studies.resolution.variants import VARIANTS
from studies.resolution.views import View, tokens
from studies.resolution.words import cell, gap

Runs = Mapping[str, Mapping[int, Run]]
Point = tuple[str, str]
"""Variant and setting."""

TEXT = Part()
SMALL = Part(sort="small")
LARGE_NUMBER = Part(sort="full", kinds=("large",))
PARTS = {
    "text": TEXT,
    "value": Part(kinds=("value",)),
    "row": Part(kinds=("row",)),
    "below": Part(kinds=("below",)),
    "large number": LARGE_NUMBER,
    "small pages, text": SMALL,
}
"""Columns of a comparison."""
CLASSES = {f"{low}-{high - 1} px": Part(size=f"{low}-{high - 1}") for low, high in pages.SIZES}
"""Columns by font size."""
SMALLEST, *_, LARGEST = CLASSES


def _there(runs: Runs, points: Sequence[Point]) -> bool:
    return all(name in runs and any(row["view"] == view for r in runs[name].values() for row in r["scores"])
               for name, view in points)  # fmt: skip


def _table(runs: Runs, rows: Mapping[str, Point], parts: Mapping[str, Part]) -> list[str]:
    """Make a table of settings by selections of answers."""
    lines = [f"| | {' | '.join(parts)} | image tokens | seeds |", "|---|" + "---:|" * (len(parts) + 2)]
    for name, (variant, view) in rows.items():
        found = [over_seeds(runs[variant], view, part) for part in parts.values()]
        seeds = max((e.seeds for e in found if e), default=0)
        lines.append(
            f"| {name} | {' | '.join(cell(e) for e in found)} | {_tokens(variant, view, parts):.0f} | {seeds} |"
        )
    return lines


def _tokens(variant: str, view: str, parts: Mapping[str, Part]) -> float:
    """Mean number of image tokens of the pages of the first column."""
    rule, hd = view.rsplit("-", 1)
    sort = next(iter(parts.values())).sort or "full"
    made, forms = VARIANTS[variant], range(sort == "small", pages.FORMS, 2)
    places = [View(hd=int(hd), rule=rule).place(*pages.shape(form, sort)) for form in forms]
    return mean(tokens(place, newline=made.newline, overview=made.overview) for place in places)


def _gaps(runs: Runs, name: str, first: Point, second: Point, parts: Mapping[str, Part]) -> str:
    """Make a row of differences, second minus first."""
    pair = (runs[first[0]], first[1]), (runs[second[0]], second[1])
    found = [difference(*pair, part) for part in parts.values()]
    seeds = max((e.seeds for e in found if e), default=0)
    return f"| *{name}* | {' | '.join(gap(e) for e in found)} | | {seeds} |"


def _values(runs: Runs, points: Sequence[Point], part: Part) -> tuple[Estimate | None, ...]:
    return tuple(over_seeds(runs[name], view, part) if name in runs else None for name, view in points)


def _ours(runs: Runs, places: Mapping[str, Point], parts: Mapping[str, Part], *, lines: bool) -> Panel:
    series = tuple(Series(name=n, values=_values(runs, list(places.values()), p)) for n, p in parts.items())
    return Panel(title="ours, exact match %", places=tuple(places), series=series, lines=lines)


def _papers(places: Mapping[str, paper.Row], *, lines: bool) -> Panel:
    columns = [c for c in paper.COLUMNS if c != "MME"][:4]
    series = [Series(name=c, values=tuple(r[paper.COLUMNS.index(c)] for r in places.values())) for c in columns]
    return Panel(title="the paper, %", places=tuple(places), series=tuple(series), lines=lines)


def _paper_table(rows: Mapping[str, paper.Row]) -> list[str]:
    lines = ["", "The paper:", "", f"| | {' | '.join(paper.COLUMNS)} |", "|---|" + "---:|" * len(paper.COLUMNS)]
    return lines + [f"| {name} | {' | '.join(f'{v:g}' for v in row)} |" for name, row in rows.items()]


TRAINED = {
    "HD-9": ("hd9", "original-9"),
    "HD-16": ("hd16", "original-16"),
    "HD-25": ("hd25", "original-25"),
    "HD-25 + 55": ("4khd", "original-55"),
}
"""Variant at its own setting, by setting of training."""


def resolution(runs: Runs) -> dict[str, Any] | None:
    """Training resolution, figure 5."""
    rows = {name: point for name, point in TRAINED.items() if _there(runs, [point])}
    if len(rows) < 2:
        return None
    theirs = {a: row for (a, b), row in paper.RESOLUTION.items() if b == (a if "+" not in a else "HD-55")}
    lines = _table(runs, rows, {"text": TEXT, **CLASSES, "small pages, text": SMALL, "large number": LARGE_NUMBER})
    names = list(rows)
    steps = [_gaps(runs, f"{b} less {a}", rows[a], rows[b],
                   {"text": TEXT, **CLASSES, "small pages, text": SMALL, "large number": LARGE_NUMBER})
             for a, b in pairwise(names)]  # fmt: skip
    shown = {
        "text": TEXT,
        **{f"letters {name}": CLASSES[name] for name in (SMALLEST, LARGEST)},
        "small pages": SMALL,
    }
    return {
        "name": "resolution",
        "title": "Training resolution (figure 5)",
        "lines": [*lines, *steps, *_paper_table(theirs)],
        "panels": (_ours(runs, rows, shown, lines=True), _papers(theirs, lines=True)),
    }


BEYOND = {
    "HD-9 at HD-9": ("hd9", "original-9"),
    "HD-9 at HD-16": ("hd9", "original-16"),
    "HD-9 at HD-25": ("hd9", "original-25"),
    "HD-16 at HD-16": ("hd16", "original-16"),
    "HD-16 at HD-25": ("hd16", "original-25"),
    "HD-25 at HD-25": ("hd25", "original-25"),
    "HD-25 at HD-30": ("hd25", "original-30"),
    "HD-25 at HD-55": ("hd25", "original-55"),
}
"""Variant and setting, by settings of training and inference."""


def inference(runs: Runs) -> dict[str, Any] | None:
    """Inference above the training resolution, table 6."""
    rows = {name: point for name, point in BEYOND.items() if _there(runs, [point])}
    if not any(name.split()[0] != name.split()[2] for name in rows):
        return None
    parts = {"text": TEXT, **CLASSES, "small pages, text": SMALL, "large number": LARGE_NUMBER}
    lines = _table(runs, rows, parts)
    for name, point in rows.items():
        own = f"{name.split()[0]} at {name.split()[0]}"
        if name != own and own in rows:
            lines.append(_gaps(runs, f"{name} less {own.split()[2]}", rows[own], point, parts))
    theirs = {f"{a} at {b}": row for (a, b), row in paper.RESOLUTION.items() if "+" not in a}
    short = {name.replace("HD-", "").replace(" at ", "→"): value for name, value in rows.items()}
    their_short = {name.replace("HD-", "").replace(" at ", "→"): value for name, value in theirs.items()}
    return {
        "name": "inference",
        "title": "Inference above the training resolution (table 6)",
        "lines": [*lines, *_paper_table(theirs)],
        "panels": (
            _ours(runs, short, {"text": TEXT, "small pages": SMALL}, lines=False),
            _papers(their_short, lines=False),
        ),
    }


PLACES = 5
"""Most names along the axis of a plot; further groups of settings are in the tables only."""


def _pairs(
    runs: Runs, name: str, title: str, pairs: Sequence[tuple[dict[str, Point], str]], theirs: Mapping[str, paper.Row]
) -> dict[str, Any] | None:
    """Make tables of settings with the differences from the first of each group."""
    lines: list[str] = []
    places: dict[str, Point] = {}
    for rows, less in pairs:
        if not _there(runs, list(rows.values())):
            continue
        lines += ["", *_table(runs, rows, PARTS)]
        first, *others = rows
        lines += [_gaps(runs, f"{other} less {less}", rows[first], rows[other], PARTS) for other in others]
        places |= rows if len(places) + len(rows) <= PLACES else {}
    if not lines:
        return None
    shown = {"text": TEXT, "row": PARTS["row"], "large number": LARGE_NUMBER}
    panels = [_ours(runs, places, shown, lines=False)]
    if theirs:
        lines += _paper_table(theirs)
        panels.append(_papers(theirs, lines=False))
    return {"name": name, "title": title, "lines": lines[1:], "panels": tuple(panels)}


def overview(runs: Runs) -> dict[str, Any] | None:
    """Overview on and off, table 7."""
    rows = {"with": ("hd9", "original-9"), "without": ("hd9-no-overview", "original-9")}
    theirs = {"with": paper.RESOLUTION["HD-9", "HD-9"], "without": paper.WITHOUT_OVERVIEW}
    return _pairs(runs, "overview", "Overview on and off at HD-9 (table 7)", [(rows, "with")], theirs)


def newline(runs: Runs) -> dict[str, Any] | None:
    """Newline on and off, table 8."""
    low = {"HD-9 with": ("hd9", "original-9"), "HD-9 without": ("hd9-no-newline", "original-9")}
    high = {"4KHD with": ("4khd", "original-55"), "4KHD without": ("4khd-no-newline", "original-55")}
    theirs = {
        "HD-9 with": paper.RESOLUTION["HD-9", "HD-9"],
        "HD-9 without": paper.WITHOUT_NEWLINE["HD-9"],
        "4KHD with": paper.RESOLUTION["HD-25 + 55", "HD-55"],
        "4KHD without": paper.WITHOUT_NEWLINE["HD-25 + 55"],
    }
    title = "Newline on and off at HD-9 and 4KHD (table 8)"
    return _pairs(runs, "newline", title, [(low, "with"), (high, "with")], theirs)


def merges(runs: Runs) -> dict[str, Any] | None:
    """Ways to merge four patches, table 9."""
    rows = {
        "concat": ("4khd", "original-55"),
        "C-Abstractor": ("4khd-c-abstractor", "original-55"),
        "re-sampler": ("4khd-resampler", "original-55"),
    }
    theirs = dict(zip(rows, paper.MERGES.values(), strict=True))
    return _pairs(runs, "merges", "Concat, C-Abstractor and re-sampler at 4KHD (table 9)", [(rows, "concat")], theirs)


def layouts(runs: Runs) -> dict[str, Any] | None:
    """LLaVA-NeXT's any-resolution layout against ours."""
    rows = {"ours": ("hd9", "original-9"), "any resolution": ("anyres9", "anyres-9")}
    title = "LLaVA-NeXT's any-resolution layout at about the same number of tokens (camera-ready table 9)"
    found = _pairs(runs, "layouts", title, [(rows, "ours")], {})
    if found:
        found["lines"] += ["", f"The paper: {paper.ANYRES}."]
    return found


def partitions(runs: Runs) -> dict[str, Any] | None:
    """The package's own partition rules."""
    trained = {
        "original": ("hd25", "original-25"),
        "fit": ("hd25-fit", "fit-25"),
        "native": ("hd25-native", "native-25"),
    }
    asked = {
        "original, asked so": ("hd25", "original-25"),
        "original, asked under fit": ("hd25", "fit-25"),
        "original, asked under native": ("hd25", "native-25"),
    }
    wide = {
        "4KHD, asked so": ("4khd", "original-55"),
        "4KHD, asked under fit": ("4khd", "fit-55"),
        "4KHD, asked under native": ("4khd", "native-55"),
    }
    groups = [(trained, "original"), (asked, "original"), (wide, "original")]
    return _pairs(runs, "partitions", "Partitions fit and native against original (beyond the paper)", groups, {})


def beyond(runs: Runs) -> dict[str, Any] | None:
    """Settings and pages larger than the paper's."""
    rows = {f"HD-{hd}": ("4khd", f"original-{hd}") for hd in (25, 55, 65, 96)}
    if not _there(runs, list(rows.values())):
        return None
    lines = [
        "Pages drawn for HD-55, weights of 4KHD:",
        "",
        *_table(runs, rows, {"text": TEXT, **CLASSES, "small pages, text": SMALL}),
    ]
    wide = {f"HD-{hd}": ("4khd", f"original-{hd}") for hd in (25, 55, 96, 220)}
    parts = {"text": Part(sort="8k")} | {k: Part(sort="8k", size=p.size) for k, p in CLASSES.items()}
    lines += ["", "8K-like pages (twice the sides), the same weights:", "", *_table(runs, wide, parts)]
    shown = {"text": TEXT, "small pages": SMALL}
    panel = _ours(runs, rows, shown, lines=True)
    return {
        "name": "beyond",
        "title": "HD-96 and 8K-like pages (beyond the paper)",
        "lines": lines,
        "panels": (panel, _ours(runs, wide, {"8K-like pages": Part(sort="8k")}, lines=True)),
    }


STUDIES: tuple[Callable[[Runs], dict[str, Any] | None], ...] = (
    resolution, inference, overview, newline, merges, layouts, partitions, beyond,
)  # fmt: skip
"""Studies in the order of the page."""
