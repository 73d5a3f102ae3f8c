"""Report in Markdown: the same tables as the page, without images."""

from __future__ import annotations

from collections.abc import Sequence

from ixc.evals import paper_scores
from ixc.evals.report import formatting
from ixc.evals.report.run_report import ReportRun
from ixc.evals.report.tables import COMPARED, FOOTNOTES, comparison, pairs, resolutions


def markdown(runs: Sequence[ReportRun]) -> str:
    """Render comparison, further results, image sizes and pairs; `runs` holds at least one run."""
    parts = [f"# {' against '.join(_cell(run.name) for run in runs)}", _comparison(runs)]
    parts += [_further(runs), _resolutions(runs), _pairs(runs), _notes(runs)]
    return "\n\n".join(part for part in parts if part) + "\n"


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Render a Markdown table; escape pipes and line breaks in cells."""
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return "\n".join("| " + " | ".join(_cell(cell) for cell in line) + " |" for line in lines)


def _cell(text: str) -> str:
    return " ".join(text.replace("|", "\\|").split())


def _comparison(runs: Sequence[ReportRun]) -> str:
    lines = comparison(runs)
    rows = [
        [
            f"{line.axis.title}{line.footnotes} ({line.axis.split})",
            *map(formatting.score, line.published),
            *(formatting.interval(r) if r else formatting.NONE for r in line.ours),
        ]
        for line in lines
    ]
    used = [symbol for symbol in FOOTNOTES if any(symbol in line.footnotes for line in lines)]
    notes = ["Brackets: 95 % bootstrap interval, resampling images with all their questions."]
    notes += [f"\\{symbol} {FOOTNOTES[symbol]}." for symbol in used]
    notes.append(f"Published: {paper_scores.TABLE_3.source}. {paper_scores.TABLE_3.note}")
    head = ["Benchmark", *COMPARED, *(run.name for run in runs)]
    return "## Against the paper\n\n" + table(head, rows) + "\n\n" + "\n\n".join(notes)


def _further(runs: Sequence[ReportRun]) -> str:
    rows = formatting.further(runs)
    return "## Further results\n\n" + table(formatting.FURTHER, rows) if rows else ""


def _resolutions(runs: Sequence[ReportRun]) -> str:
    rows = formatting.sizes(resolutions(runs))
    return "## Image sizes\n\n" + table(formatting.SIZES, rows) if rows else ""


def _pairs(runs: Sequence[ReportRun]) -> str:
    rows = []
    for line in pairs(runs):
        name = f"{line.title}: {line.first} → {line.second}"
        if line.paired is None:
            rows.append([name, line.why, *[""] * 4])
            continue
        rows.append([name, *formatting.pair(line.paired)])
    return "## Two runs, question by question\n\n" + table(formatting.PAIRS, rows) if rows else ""


def _notes(runs: Sequence[ReportRun]) -> str:
    lines = [f"- {run.name}: {note}" for run in runs for note in run.notes]
    return "## Notes\n\n" + "\n".join(lines) if lines else ""
