"""Report as one self-contained HTML file: works from disk, in light and dark mode, and by keyboard.

Its Content-Security-Policy allows no network: `default-src 'none'`, images from `data:` only, and one style sheet and
one script, each by its hash. Text written by a model therefore cannot run, even if it were markup.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Sequence
from hashlib import sha256
from importlib.resources import files

from ixc.evals import paper_scores
from ixc.evals.report import formatting
from ixc.evals.report.case_browser import browser, count_of
from ixc.evals.report.charts import bar, sizes
from ixc.evals.report.radar import radar, series
from ixc.evals.report.run_report import ReportRun, TaskReport
from ixc.evals.report.tables import COMPARED, FOOTNOTES, Line, Pair, comparison, pairs, resolutions
from ixc.evals.report.thumbnails import LONG_SIDE
from ixc.utils.svg import escape, tag


def page(runs: Sequence[ReportRun]) -> str:
    """Render the whole document; `runs` holds at least one run."""
    style, script = (
        files("ixc.evals.report").joinpath(name).read_text(encoding="utf-8") for name in ("page.css", "page.js")
    )
    policy = (
        f"default-src 'none'; img-src data:; style-src '{_hash(style)}'; script-src '{_hash(script)}'; "
        "base-uri 'none'; form-action 'none'"
    )
    title = "The sixteen benchmarks: " + ", ".join(run.name for run in runs)
    head = (
        '<meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<link rel="icon" href="data:,">' + tag("title", escape(title)) + f"<style>{style}</style>"
    )
    parts = [part for part in (_radar(runs), _table(runs), _sizes(runs), _pairs(runs), _cases(runs)) if part]
    links = "".join(tag("li", tag("a", name, href=f"#{key}")) for key, name, _ in parts)
    body = (
        (tag("a", "To the cases", class_="skip", href="#cases") if any(key == "cases" for key, _, _ in parts) else "")
        + _header(runs)
        + tag("nav", tag("ul", links), aria_label="Parts of the report")
        + tag("main", "".join(tag("section", content, id=key) for key, _, content in parts))
        + _footer(runs)
        + f"<script>{script}</script>"
    )
    return f'<!doctype html>\n<html lang="en"><head>{head}</head><body>{body}</body></html>\n'


def _hash(content: str) -> str:
    return "sha256-" + b64encode(sha256(content.encode()).digest()).decode()


Part = tuple[str, str, str] | None
"""(id, name in the navigation, content); None where there is nothing to show."""


def _header(runs: Sequence[ReportRun]) -> str:
    measured = sum(line.ours[0] is not None for line in comparison(runs[:1]))
    answered = sum(r.answered for run in runs for r in run.results)
    names = " against ".join(run.name for run in runs)
    lead = (
        f"{measured} of 16 benchmarks measured, {answered:,} questions answered. Published figures: "
        f"{paper_scores.PAPER}."
    )
    return tag("header", tag("h1", escape(names)) + tag("p", escape(lead), class_="lead"))


def _line(kind: str) -> str:
    """Write a piece of the line of a series, for its key."""
    shape = tag("polyline", class_="shape", points="0,7 40,7")
    return tag("svg", shape, class_=f"series {kind}", viewBox="0 0 40 14", aria_hidden="true")


def _radar(runs: Sequence[ReportRun]) -> Part:
    keys = "".join(
        tag(
            "li",
            tag(
                "button",
                _line(one.kind) + tag("b", escape(one.name)),
                type="button",
                class_="key",
                aria_pressed="true",
                data_series=one.kind,
            ),
        )
        for one in series(runs)
    )
    note = (
        "Centre 0, rim the best figure drawn on each axis. A benchmark that was not measured, or that a rule scored in "
        "place of the judge, leaves a gap. Press a name to hide its line."
    )
    aside = tag("div", tag("ul", keys, class_="keys") + tag("p", note, class_="note"))
    content = tag("h2", "Overview") + tag("div", tag("div", radar(runs)) + aside, class_="front")
    return "overview", "Overview", content


def _table(runs: Sequence[ReportRun]) -> Part:
    lines = comparison(runs)
    head = ["Benchmark", *(run.name for run in runs), "ours | published", *COMPARED]
    cells = "".join(
        tag("th", escape(name), scope="col", class_="ours" if 0 < i <= len(runs) else None)
        for i, name in enumerate(head)
    )
    body = "".join(_row(line) for line in lines)
    symbols = {symbol: text for symbol, text in FOOTNOTES.items() if any(symbol in line.footnotes for line in lines)}
    notes = [f"{symbol} {text}." for symbol, text in symbols.items()]
    notes.append(
        "Brackets: 95 % bootstrap interval, resampling images with all their questions. The tick marks the published "
        "4KHD. Underlined: the best published figure. Per cent; MME is a sum of at most 2,800, OCRBench points / 10."
    )
    content = tag("h2", "Against the paper") + tag("p", escape(paper_scores.TABLE_3.note), class_="note")
    content += _scroll(tag("thead", tag("tr", cells)) + tag("tbody", body))
    content += "".join(tag("p", escape(note), class_="note") for note in notes)
    if further := formatting.further(runs):
        content += tag("h3", "Further results") + _grid(formatting.FURTHER, further)
    content += "".join(_printed(table) for table in paper_scores.FURTHER)
    return "paper", "Against the paper", content


def _row(line: Line) -> str:
    best = max((figure for figure in line.published if figure is not None), default=None)
    name = f"{escape(line.axis.title)}{line.footnotes} " + tag("small", escape(line.axis.split))
    cells = [tag("th", name, scope="row")]
    cells += [tag("td", _figure(result), class_="ours") for result in line.ours]
    cells += [tag("td", bar(line))]
    cells += [
        tag("td", formatting.score(f), class_="best" if f is not None and f == best else None) for f in line.published
    ]
    return tag("tr", "".join(cells), data_axis=line.axis.key)


def _figure(result: TaskReport | None) -> str:
    if result is None:
        return formatting.NONE
    bracket = formatting.interval(result).removeprefix(formatting.score(result.headline)).strip()
    return formatting.score(result.headline) + (" " + tag("small", bracket) if bracket else "")


def _scroll(rows: str) -> str:
    return tag("div", tag("table", rows), class_="scroll", tabindex=0)


def _grid(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Render a table of plain text."""
    top = tag("thead", tag("tr", "".join(tag("th", escape(name), scope="col") for name in head)))
    body = "".join(
        tag("tr", tag("th", escape(row[0]), scope="row") + "".join(tag("td", escape(cell)) for cell in row[1:]))
        for row in rows
    )
    return _scroll(top + tag("tbody", body))


def _printed(table: paper_scores.PaperTable) -> str:
    rows = [[name, *map(formatting.score, figures)] for name, figures in table.rows.items()]
    note = " ".join(part for part in (table.note, f"Source: {table.source}.") if part)
    return tag(
        "details",
        tag("summary", escape(table.title)) + _grid(["", *table.columns], rows) + tag("p", escape(note), class_="note"),
    )


def _sizes(runs: Sequence[ReportRun]) -> Part:
    lines = resolutions(runs)
    if not lines:
        return None
    note = (
        "Distinct pictures of each data set, by area: smallest, median (large dot), largest; computed from the data of "
        "this report. Dashed: pixels of one tile and of the settings HD-25 and HD-55."
    )
    content = tag("h2", "Image sizes") + tag("p", note, class_="note")
    return "resolutions", "Image sizes", content + sizes(lines) + _grid(formatting.SIZES, formatting.sizes(lines))


def _pairs(runs: Sequence[ReportRun]) -> Part:
    lines = pairs(runs)
    if not lines:
        return None
    top = tag("thead", tag("tr", "".join(tag("th", name, scope="col") for name in formatting.PAIRS)))
    body = "".join(_pair(line) for line in lines)
    note = (
        "Second minus first on the questions that both answered; pictures are drawn in pairs. McNemar's test counts "
        "questions and needs scores of 0 or 1. No correction for looking at many benchmarks is made."
    )
    content = tag("h2", "Two runs, question by question") + tag("p", note, class_="note")
    return "pairs", "Paired", content + _scroll(top + tag("tbody", body))


def _pair(line: Pair) -> str:
    names = f"{escape(line.title)} " + tag("small", escape(f"{line.first} → {line.second}"))
    if line.paired is None:
        return tag("tr", tag("th", names, scope="row") + tag("td", escape(line.why), colspan=5, class_="why"))
    cells = "".join(tag("td", cell) for cell in formatting.pair(line.paired))
    return tag("tr", tag("th", names, scope="row") + cells)


def _cases(runs: Sequence[ReportRun]) -> Part:
    if not any(result.cases for run in runs for result in run.results):
        return None
    note = (
        f"{count_of(runs)}, a sample with wrong, partly right and right ones in equal parts where there are enough, so "
        f"the shares here are not the score. Images are reduced to {LONG_SIDE} px at most; the orange grid shows the "
        "tiles that the model saw, drawn on its white canvas."
    )
    keys = "Keys: <kbd>j</kbd> and <kbd>k</kbd> walk through the cases, <kbd>/</kbd> searches."
    content = tag("h2", "Case by case") + tag("p", f"{escape(note)} {keys}", class_="note") + browser(runs)
    return "cases", "Cases", content


def _footer(runs: Sequence[ReportRun]) -> str:
    settings = [[f"{run.name} · {r.task}", _settings(r)] for run in runs for r in run.results if r.settings]
    notes = "".join(tag("p", escape(f"{run.name}: {note}")) for run in runs for note in run.notes)
    table = tag("details", tag("summary", "Settings of every run") + _grid(["Run", "Settings"], settings))
    return tag("footer", notes + (table if settings else "") + tag("p", "This page is one file and loads nothing."))


def _settings(result: TaskReport) -> str:
    return ", ".join(f"{key} {value}" for key, value in result.settings.items())
