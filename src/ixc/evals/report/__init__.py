"""Report of one or several runs: Markdown, JSON, and one HTML page that works offline.

folder --gather--> ReportRun --tables--> comparison, resolutions, pairs --+--> report.md
                   (task_report: intervals, thumbnails, cases)             +--> report.json
                                                                           +--> report.html
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ixc.errors import UsageError
from ixc.evals.report.gather import gather
from ixc.evals.report.markdown import markdown
from ixc.evals.report.page import page
from ixc.evals.report.run_report import ReportRun, TaskReport
from ixc.evals.report.tables import comparison, pairs, resolutions
from ixc.evals.task_score import plain
from ixc.utils.files import atomic_write

__all__ = ["ReportRun", "as_dict", "gather", "markdown", "page", "write"]

NAME = "report"
"""Name of the three files, without suffix."""


def write(runs: Sequence[ReportRun], *, out: Path) -> tuple[Path, Path, Path]:
    """Write report.md, report.json and report.html into a folder; return their paths.

    Args:
        runs: at least one; the others are compared with the first.
        out: folder, created if missing.

    Raises:
        UsageError: no runs, two of one name, or a folder that cannot be written.
    """
    names = [run.name for run in runs]
    if not runs:
        raise UsageError("0 runs to report, at least 1 needed; name the folder of a run")
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise UsageError(f"{names.count(twice)} of {len(runs)} runs are called {twice!r}; give each its own name")
    contents = {
        "md": markdown(runs),
        "json": json.dumps(as_dict(runs), indent=1, ensure_ascii=False),
        "html": page(runs),
    }
    paths = tuple(out / f"{NAME}.{suffix}" for suffix in contents)
    try:
        out.mkdir(parents=True, exist_ok=True)
        for path, content in zip(paths, contents.values(), strict=True):
            atomic_write(path, content.encode("utf-8", "replace"))  # a model may write a lone surrogate
    except OSError as error:
        raise UsageError(f"{out} cannot be written: {error.strerror or error}; choose another --out") from error
    return paths[0], paths[1], paths[2]


def as_dict(runs: Sequence[ReportRun]) -> dict[str, Any]:
    """Return the JSON form: every number of the report, without images."""
    value = {
        "runs": [{"name": run.name, "notes": run.notes, "results": [_result(r) for r in run.results]} for run in runs],
        "comparison": [
            {"benchmark": line.axis.title, "paper_split": line.axis.split, "marks": line.footnotes,
             "published": line.published, "ours": [r.headline if r else None for r in line.ours]}
            for line in comparison(runs)
        ],
        "resolutions": [asdict(line) for line in resolutions(runs)],
        "pairs": [asdict(line) for line in pairs(runs)],
    }  # fmt: skip
    return plain(value)


def _result(result: TaskReport) -> dict[str, Any]:
    names = ("task", "dataset", "title", "metric", "headline", "published", "stand_in", "answered", "total", "data")
    return {
        **{name: getattr(result, name) for name in names},
        "table": result.table,
        "interval": asdict(result.interval) if result.interval else None,
        "settings": dict(result.settings),
        "per_row": {str(index): score for index, score in result.per_row.items()},
    }
