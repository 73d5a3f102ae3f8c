"""The report of one or several runs: Markdown, JSON, and one HTML page that needs no network.

folder --gather--> Run --tables--> comparison, resolutions, pairs --+--> report.md
                    (examine: intervals, small pictures, cases)      +--> report.json
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
from ixc.evals.report.result import ReportRun, TaskReport
from ixc.evals.report.tables import comparison, pairs, resolutions
from ixc.evals.result import plain

__all__ = ["Run", "as_dict", "gather", "markdown", "page", "write"]

NAME = "report"
"""Of the three files, before their endings."""


def write(runs: Sequence[ReportRun], *, out: Path) -> tuple[Path, Path, Path]:
    """Writes report.md, report.json and report.html into a folder, and says where.

    Args:
        runs: the first one is ours, the others are compared with it; at least one.
        out: a folder, made if it is missing.

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
    paths = tuple(out / f"{NAME}.{ending}" for ending in contents)
    try:
        out.mkdir(parents=True, exist_ok=True)
        for path, content in zip(paths, contents.values(), strict=True):
            path.write_bytes(content.encode("utf-8", "replace"))  # a model may write half a surrogate pair
    except OSError as error:
        raise UsageError(f"{out} cannot be written: {error.strerror or error}; choose another --out") from error
    return paths[0], paths[1], paths[2]


def as_dict(runs: Sequence[ReportRun]) -> dict[str, Any]:
    """For JSON: every figure of the report, no pictures."""
    value = {
        "runs": [{"name": run.name, "notes": run.notes, "results": [_result(r) for r in run.results]} for run in runs],
        "comparison": [
            {"benchmark": line.axis.title, "paper_split": line.axis.split, "marks": line.marks,
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
