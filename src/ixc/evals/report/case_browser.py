"""Case browser of the page: each question with its image, the tile grid the model saw, the answer and the prediction.

Images are defined once as SVG symbols and shown by `<use>`: ten questions about one page embed it once. The grid is an
SVG overlay at the position and size that `ixc.core.tiling.partition` computes on the white canvas.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Sequence

from ixc.core.tiling import Partition, partition
from ixc.errors import GeometryError
from ixc.evals.report import formatting
from ixc.evals.report.run_report import PARTLY, RIGHT, UNSCORED, WRONG, Picture, ReportCase, ReportRun, TaskReport
from ixc.evals.report.tables import order
from ixc.evals.report.thumbnails import digest
from ixc.utils.svg import escape, number, tag, text

VERDICTS = (RIGHT, PARTLY, WRONG, UNSCORED)

MOST_NUMBERED = 60
"""Most tiles of a grid that shows tile numbers."""


def browser(runs: Sequence[ReportRun]) -> str:
    """Render filters, count and cards."""
    shown = [(run, r, c) for run in runs for r in sorted(run.results, key=order) for c in r.cases]
    cards = "".join(_card(n, run, result, case, several=len(runs) > 1) for n, (run, result, case) in enumerate(shown))
    return (
        _symbols([c for _, _, c in shown])
        + _filters(runs, [c for _, _, c in shown])
        + tag("div", cards, id="cards", class_="cards")
    )


def count_of(runs: Sequence[ReportRun]) -> str:
    """Describe how many of the questions the page shows."""
    shown = sum(len(r.cases) for run in runs for r in run.results)
    answered = sum(r.answered for run in runs for r in run.results)
    return f"{shown:,} of {answered:,} answered questions"


def _symbols(cases: Sequence[ReportCase]) -> str:
    pictures = {digest(p.data): p for case in cases for p in case.pictures if p}
    images = "".join(
        tag(
            "symbol",
            # 1 x 1: <use> stretches the symbol to the image's place on the canvas
            tag("image", href=_uri(p), width=1, height=1, preserveAspectRatio="none"),
            id=f"p-{name}",
            viewBox="0 0 1 1",
            preserveAspectRatio="none",
        )
        for name, p in pictures.items()
    )
    return tag("svg", images, class_="store", width=0, height=0, aria_hidden="true")


def _uri(picture: Picture) -> str:
    return f"data:image/webp;base64,{b64encode(picture.data).decode()}"


def _filters(runs: Sequence[ReportRun], cases: Sequence[ReportCase]) -> str:
    counts = {kind: sum(c.verdict == kind for c in cases) for kind in VERDICTS}
    buttons = _radio("all", f"all {len(cases)}", checked=True)
    buttons += "".join(_radio(kind, f"{kind} {counts[kind]}") for kind in VERDICTS if counts[kind])
    tasks = {r.task: r.title for run in runs for r in sorted(run.results, key=order) if r.cases}
    options = tag("option", "every benchmark", value="") + "".join(
        tag("option", escape(f"{title} ({task})"), value=task) for task, title in tasks.items()
    )
    return tag(
        "form",
        tag("fieldset", tag("legend", "Verdict", class_="unseen") + buttons, class_="verdicts")
        + tag("label", tag("span", "Benchmark", class_="unseen") + tag("select", options, id="task"))
        + tag("label", tag("span", "Search", class_="unseen") + _SEARCH)
        + tag("label", '<input type="checkbox" id="grid" checked> tiles', class_="switch")
        + tag("output", str(len(cases)), id="count", aria_live="polite"),
        id="filters", class_="filters",
    )  # fmt: skip


_SEARCH = '<input type="search" id="find" placeholder="question, answer, prediction" autocomplete="off">'


def _radio(value: str, label: str, *, checked: bool = False) -> str:
    attribute = " checked" if checked else ""
    return (
        f'<label class="verdict {value}"><input type="radio" name="verdict" value="{value}"{attribute}>{label}</label>'
    )


def _card(place: int, run: ReportRun, result: TaskReport, case: ReportCase, *, several: bool) -> str:
    name = f"{result.title} · {case.index}" + (f" · {run.name}" if several else "")
    score = "unscored" if case.score is None else number(case.score)
    badge = tag("span", f"{case.verdict} {score}" if case.verdict == PARTLY else case.verdict, class_="badge")
    figures = "".join(_figure(p, case, place) for place, p in enumerate(case.pictures))
    fields = [("Question", case.question), ("Answer", case.answer or "not public"), ("Prediction", case.prediction)]
    body = "".join(tag("dt", k) + tag("dd", escape(v) or "<i>empty</i>", class_=k.lower()) for k, v in fields)
    return tag(
        "article",
        tag("h3", escape(name) + badge) + tag("div", figures, class_="pictures") + tag("dl", body),
        id=f"case-{place}", class_=f"card {case.verdict}", tabindex=0, data_verdict=case.verdict, data_task=result.task,
    )  # fmt: skip


def _figure(picture: Picture | None, case: ReportCase, place: int) -> str:
    if picture is None:
        return tag("p", "This image cannot be read.", class_="lost")
    try:
        part = partition(picture.width, picture.height, hd=case.hd, rule=case.partition)
    except GeometryError as error:  # aspect ratio outside every grid; the case is shown without tiles
        return tag("p", escape(str(error)), class_="lost")
    omitted = case.shown is not None and place >= case.shown
    tiles = f"HD-{case.hd}: {part.grid_w} × {part.grid_h} tiles, drawn at {formatting.size(_drawn(part))}"
    caption = f"{formatting.size((picture.width, picture.height))} px, {'not shown to the model' if omitted else tiles}"
    return tag("figure", _canvas(picture, part, caption, grid=not omitted) + tag("figcaption", caption))


def _drawn(part: Partition) -> tuple[int, int]:
    return part.resized_width, part.resized_height


def _canvas(picture: Picture, part: Partition, caption: str, *, grid: bool) -> str:
    """Draw the white canvas, the image on it, and the tile grid over it."""
    wide, high, tile = part.canvas_width, part.canvas_height, part.tile
    lines = "".join(f"M{c * tile} 0V{high}" for c in range(1, part.grid_w))
    lines += "".join(f"M0 {r * tile}H{wide}" for r in range(1, part.grid_h))
    numbers = "".join(
        text(str(r * part.grid_w + c + 1), x=c * tile + tile // 14, y=r * tile + tile // 5)
        for r in range(part.grid_h)
        for c in range(part.grid_w)
        if part.tiles <= MOST_NUMBERED
    )
    over = tag("path", d=lines + f"M0 0H{wide}V{high}H0Z") + tag("g", numbers, font_size=tile // 6)
    laid = tag(
        "use", href=f"#p-{digest(picture.data)}", x=part.pad_left, y=part.pad_top, width=part.resized_width,
        height=part.resized_height,
    )  # fmt: skip
    return tag(
        "svg",
        tag("rect", width=wide, height=high, class_="canvas")
        + laid
        + (tag("g", over, class_="tiles") if grid else ""),
        viewBox=f"0 0 {wide} {high}", role="img", aria_label=caption,
    )  # fmt: skip
