"""Collect a run's folder into a `ReportRun`: its prediction files, their scores, and the data they were made on.

    RUN/<task>.jsonl  +  rows of the task (or None)  +  RUN/<task>.score.json (or scored here)  -->  TaskReport

Missing parts are listed in the run's notes; the rest is reported all the same.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from math import isfinite
from pathlib import Path
from typing import Any

from ixc.core.tiling import RULES
from ixc.errors import DataError, IxcError, MissingFileError
from ixc.evals import predictions
from ixc.evals.report.run_report import ReportRun, TaskReport
from ixc.evals.report.tables import order
from ixc.evals.report.task_report import CASES, Rows, Scores, TaskRun, task_report
from ixc.evals.task import Task
from ixc.evals.task_score import files_of, plain
from ixc.evals.tasks import TASKS
from ixc.utils.files import read_json_object

RowsOf = Callable[[Task], Rows | None]
"""Task -> its rows, as returned by `Task.read`; None where the data is missing."""
Md5Of = Callable[[Task], str]
"""Task -> MD5 of the data that `RowsOf` reads."""


def gather(
    folder: Path, *, rows_of: RowsOf, md5_of: Md5Of | None = None, name: str | None = None, cases: int = CASES
) -> ReportRun:
    """Collect everything in a run's folder.

    Args:
        folder: folder that `ixc eval` wrote, one JSON Lines file per task.
        rows_of: reads the data of a task.
        md5_of: identifies that data; data with another MD5 than that of the answers is not used. None: no check.
        name: name of the run; default: that of its model.
        cases: most cases of one benchmark in the browser.

    Raises:
        MissingFileError: no such folder.
        DataError: it holds no file that can be reported, or a prediction file is broken.
    """
    if not folder.is_dir():
        raise MissingFileError(f"{folder} is no folder of a run; give the --out folder of `ixc eval`")
    runs = [predictions.read(path) for path in files_of(folder)]
    results, notes = [], []
    for run in runs:
        try:
            result, remarks = _result(run, folder, rows_of, md5_of, cases)
            results.append(result)
            notes += remarks
        except IxcError as error:
            notes.append(f"{run.header.task} is left out: {error}")
    if not results:
        raise DataError(f"{folder}: none of {len(runs)} files can be reported; the first: {notes[0]}")
    own = sorted({run.header.model for run in runs})
    return ReportRun(name=name or ", ".join(own), results=tuple(sorted(results, key=order)), notes=tuple(notes))


def _result(
    run: predictions.Run, folder: Path, rows_of: RowsOf, md5_of: Md5Of | None, cases: int
) -> tuple[TaskReport, list[str]]:
    header = run.header
    task = TASKS.get(header.task)
    if task is None:
        raise DataError(f"no task {header.task!r} among {len(TASKS)}; it is from another version of this package")
    rows, notes = _rows(task, rows_of, md5_of, asked=header.data)
    score = _score(folder / f"{task.name}.score.json", task, rows, run)
    if len(run.answered) < header.questions:
        failed = f"; {len(run.failed):,} failed, {run.failed[0].error}" if run.failed else ""
        notes.append(f"{task.name} has answers to {len(run.answered):,} of {header.questions:,} questions{failed}")
    task_run = TaskRun(
        task=task.name,
        dataset=task.dataset,
        title=task.title,
        hd=_hd(header, task),
        partition=_partition(header),
        scores=score,
        predictions=run.predictions,
        rows=rows,
        split=task.split,
        total=header.questions,
        data=header.data,
        settings={"model": header.model, "prompts": header.style, "version": header.version, **header.settings},
        cases=cases,
        shown=1 if header.style == "published" else None,
    )
    return task_report(task_run), notes


def _rows(task: Task, rows_of: RowsOf, md5_of: Md5Of | None, *, asked: str) -> tuple[Rows, list[str]]:
    """Return the rows of the data that was asked, or none and the reason."""
    why = f"{task.dataset}.tsv is missing; give --data the folder that holds it"
    try:
        if (found := rows_of(task)) is not None:
            here = md5_of(task) if md5_of and asked else asked
            if here == asked:
                return found, []
            why = (
                f"its answers were made on data with MD5 {asked}, {task.dataset}.tsv has {here}; give --data that file"
            )
    except IxcError as error:
        why = str(error)
    return (), [f"{task.name} has no cases and no image sizes: {why}"]


def _hd(header: predictions.Header, task: Task) -> int:
    """Return the HD of the run, else that of the task's prompts."""
    own = (task.clean_hd or task.hd) if header.style == "clean" else task.hd
    given = header.settings.get("hd")
    return given if isinstance(given, int) and given >= 1 else own


def _partition(header: predictions.Header) -> str:
    given = header.settings.get("partition")
    return given if given in RULES else "original"


def _score(path: Path, task: Task, rows: Rows, run: predictions.Run) -> Scores:
    """Return the stored score if it belongs to these answers, else compute one by rule; a hidden split has none."""
    if task.hidden:
        return Scores(metric="scored by a server", headline=None, table=(), per_row={})
    stored = read_json_object(path, remedy="delete it and score again") if path.exists() else None
    if stored is not None and _is_of(stored, run):
        try:
            return _scores(stored, task)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise DataError(f"{path} holds no score ({str(error)[:80]}); delete it and score again") from error
    if not rows:
        what = f"no {path.name}"
        if stored is not None:
            count = stored.get("answered")
            what = f"{path.name} is of {count} answers, not {len(run.answered)}, or of another run"
        raise DataError(f"{what}, and no data to score with; give --data, or run `ixc eval score` first")
    return _scores(asdict(task.score([dict(row) for row in rows], run.predictions)), task)


def _is_of(stored: dict[str, Any], run: predictions.Run) -> bool:
    """Whether a stored score belongs to these answers, as far as it says."""
    mine = {"answered": len(run.answered), "header": plain(asdict(run.header))}
    return all(stored.get(key, value) == value for key, value in mine.items())


def _scores(value: dict[str, Any], task: Task) -> Scores:
    """Take what the report needs; NaN becomes None."""
    return Scores(
        metric=str(value["name"]),
        headline=_number(value["headline"]),
        table=tuple(value["table"]),
        per_row={index: score for index, entry in value["per_row"].items() if (score := _number(entry)) is not None},
        stand_in=task.judged and is_rule(value["name"]),
    )


def _number(value: Any) -> float | None:
    return None if value is None or not isfinite(value) else float(value)


def is_rule(metric: str) -> bool:
    """Whether a judged benchmark was scored without its judge, which the metric's name says."""
    return "(no judge)" in metric
