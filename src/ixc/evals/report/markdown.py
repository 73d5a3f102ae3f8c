"""The report as Markdown: the same tables as the page, without pictures."""

from __future__ import annotations

from collections.abc import Sequence

from ixc.evals import paper_scores
from ixc.evals.report import words
from ixc.evals.report.result import Run
from ixc.evals.report.tables import COMPARED, MARKS, beyond, comparison, pairs, resolutions


def markdown(runs: Sequence[Run]) -> str:
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


def _comparison(runs: Sequence[Run]) -> str:
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


def _further(runs: Sequence[Run]) -> str:
    rows = [
        [f"{r.title} ({r.dataset})", run.name, r.metric, words.interval(r), f"{r.answered:,} of {r.total:,}"]
        for run in runs
        for r in beyond(run)
    ]
    head = ["Benchmark", "Run", "Metric", "Figure", "Answered"]
    return "## Further results\n\n" + table(head, rows) if rows else ""


def _resolutions(runs: Sequence[Run]) -> str:
    rows = [
        [f"{r.title} ({r.dataset})", f"{r.pictures:,}", words.size(r.least), words.area(r.middle), words.size(r.most),
         f"{100 * r.above_4k:.1f} %"]
        for r in resolutions(runs)
    ]  # fmt: skip
    head = ["Data set", "Pictures", "Smallest, px", "Median area", "Largest, px", "Above HD-55"]
    return "## How large the pictures are\n\n" + table(head, rows) if rows else ""


def _pairs(runs: Sequence[Run]) -> str:
    rows = []
    for line in pairs(runs):
        name = f"{line.title}: {line.first} → {line.second}"
        if line.paired is None:
            rows.append([name, line.why, *[""] * 4])
            continue
        p, d = line.paired, line.paired.difference
        change = f"{words.signed(d.value)} [{words.signed(d.low)}, {words.signed(d.high)}]"
        counts = [str(p.only_first), str(p.only_second)]
        rows.append([name, change, words.chance(p.p_bootstrap), *counts, words.chance(p.p_mcnemar)])
    head = ["Benchmark", "Difference [95 %]", "p, bootstrap", "only first right", "only second right", "p, McNemar"]
    return "## Two runs, question by question\n\n" + table(head, rows) if rows else ""


def _notes(runs: Sequence[Run]) -> str:
    lines = [f"- {run.name}: {note}" for run in runs for note in run.notes]
    return "## Notes\n\n" + "\n".join(lines) if lines else ""
