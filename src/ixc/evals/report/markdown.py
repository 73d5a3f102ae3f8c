"""The report as Markdown: the same tables as the page, without pictures."""

from __future__ import annotations

from collections.abc import Sequence

from ixc.evals import paper_scores
from ixc.evals.report import words
from ixc.evals.report.result import ReportRun
from ixc.evals.report.tables import COMPARED, MARKS, comparison, pairs, resolutions


def markdown(runs: Sequence[ReportRun]) -> str:
    """Comparison, further results, resolutions, pairs; one run at least."""
    parts = [f"# {' against '.join(_cell(run.name) for run in runs)}", _comparison(runs)]
    parts += [_further(runs), _resolutions(runs), _pairs(runs), _notes(runs)]
    return "\n\n".join(part for part in parts if part) + "\n"


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table; bars and line ends in cells are made harmless."""
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return "\n".join("| " + " | ".join(_cell(cell) for cell in line) + " |" for line in lines)


def _cell(text: str) -> str:
    return " ".join(text.replace("|", "\\|").split())


def _comparison(runs: Sequence[ReportRun]) -> str:
    lines = comparison(runs)
    rows = [
        [
            f"{line.axis.title}{line.marks} ({line.axis.split})",
            *map(words.score, line.published),
            *(words.interval(r) if r else words.NONE for r in line.ours),
        ]
        for line in lines
    ]
    marks = [f"\\{mark} {text}." for mark, text in MARKS.items() if any(mark in line.marks for line in lines)]
    notes = ["Brackets: 95 % bootstrap interval, pictures drawn anew with all their questions.", *marks]
    notes.append(f"Published: {paper_scores.TABLE_3.source}. {paper_scores.TABLE_3.note}")
    head = ["Benchmark", *COMPARED, *(run.name for run in runs)]
    return "## Against the paper\n\n" + table(head, rows) + "\n\n" + "\n\n".join(notes)


def _further(runs: Sequence[ReportRun]) -> str:
    rows = words.further(runs)
    return "## Further results\n\n" + table(words.FURTHER, rows) if rows else ""


def _resolutions(runs: Sequence[ReportRun]) -> str:
    rows = words.sizes(resolutions(runs))
    return "## How large the pictures are\n\n" + table(words.SIZES, rows) if rows else ""


def _pairs(runs: Sequence[ReportRun]) -> str:
    rows = []
    for line in pairs(runs):
        name = f"{line.title}: {line.first} → {line.second}"
        if line.paired is None:
            rows.append([name, line.why, *[""] * 4])
            continue
        rows.append([name, *words.pair(line.paired)])
    return "## Two runs, question by question\n\n" + table(words.PAIRS, rows) if rows else ""


def _notes(runs: Sequence[ReportRun]) -> str:
    lines = [f"- {run.name}: {note}" for run in runs for note in run.notes]
    return "## Notes\n\n" + "\n".join(lines) if lines else ""
