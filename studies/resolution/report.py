"""Write docs/findings.md and its plots from result files; no figure is typed.

RESULTS/*.json (runs), the newest benchmarks/speed_*.json (time), pretrained/nano/scores.json (336 px)
    -> sections -> findings.md and findings_*.svg beside it
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ixc.errors import DataError
from studies.resolution import costs, studies, verdicts, words
from studies.resolution.plots import Panel, plot
from studies.resolution.results import Run, load


@dataclass(frozen=True, kw_only=True)
class Section:
    """Section of a study on the page."""

    name: str
    """Part of the file name of its plot."""
    title: str
    """Heading."""
    lines: list[str]
    """Markdown below it."""
    panels: Sequence[Panel] = ()
    """Panels of its plot; none = no plot."""


def write(results: Path, page: Path, *, benchmarks: Path) -> Path:
    """Write the page and its plots.

    Args:
        results: folder of the runs.
        page: the Markdown file.
        benchmarks: folder with speed_*.json.

    Returns:
        The page.

    Raises:
        DataError: neither runs nor measurements, or a file that is no result.
    """
    text, plots = made(results, benchmarks=benchmarks, stem=page.stem)
    page.parent.mkdir(parents=True, exist_ok=True)
    for name, drawn in plots.items():
        (page.parent / name).write_text(drawn, encoding="utf-8")
    page.write_text(text, encoding="utf-8")
    return page


def made(results: Path, *, benchmarks: Path, stem: str = "findings") -> tuple[str, dict[str, str]]:
    """Make the page, and its plots by file name. Arguments and errors as `write`."""
    runs = load(results)
    if not runs and not list(benchmarks.glob("speed_*.json")):
        raise DataError(f"{results} holds no runs; make some: python -m studies.resolution")
    sections = all_sections(runs, benchmarks)
    lines = [*words.opening(runs), "", *verdicts.table(runs), ""] if runs else [*words.no_runs(), ""]
    plots = {}
    for section in sections:
        lines += [f"## {section.title}", ""]
        if section.panels:
            name = f"{stem}_{section.name}.svg"
            plots[name] = plot(section.panels)
            lines += [f"![{section.title}]({name})", ""]
        lines += [*section.lines, ""]
    lines += words.closing(runs) if runs else []
    return "\n".join(lines).rstrip() + "\n", plots


def all_sections(runs: dict[str, dict[int, Run]], benchmarks: Path) -> list[Section]:
    """Make the sections that have results, in the paper's order."""
    found = [*(study(runs) for study in studies.STUDIES), costs.speed(benchmarks), costs.embedded()]
    return [Section(**each) for each in found if each]
