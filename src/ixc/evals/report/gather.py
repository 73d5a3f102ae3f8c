"""A folder of answers -> a `ReportRun`: its prediction files, their scores, and the data they were asked from.

    RUN/<task>.jsonl  +  rows of the task (or None)  +  RUN/<task>.score.json (or scored here)  --examine-->  Result

What is missing is said in the run's notes and leaves the rest as it is: a report with fifteen benchmarks and a line
about the sixteenth is better than none.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from math import isfinite
from pathlib import Path
from typing import Any

from ixc.core.tiling import RULES
from ixc.errors import DataError, IxcError
from ixc.evals import predictions
from ixc.evals.report.examine import CASES, Rows, Scores, examine
from ixc.evals.report.result import ReportRun, TaskReport
from ixc.evals.report.tables import order
from ixc.evals.result import files_of, plain
from ixc.evals.task import Task
from ixc.evals.tasks import TASKS

RowsOf = Callable[[Task], Rows | None]
"""The rows of a task, as `Task.read` gives them; None where the data is not at hand."""
Md5Of = Callable[[Task], str]
"""MD5 of the data that `RowsOf` reads."""


def gather(
    folder: Path, *, rows_of: RowsOf, md5_of: Md5Of | None = None, name: str | None = None, cases: int = CASES
) -> ReportRun:
    """Everything in a run's folder.

    Args:
        folder: of `ixc eval`, one JSON Lines file a task.
        rows_of: finds the data of a task.
        md5_of: says which data that is; data of another MD5 than the answers were made on is not used. None: any is.
        name: of the run, default: of its model.
        cases: most of one benchmark that the browser shows.

    Raises:
        DataError: no such folder, no finished file in it, or none that can be reported; a broken prediction file.
    """
    if not folder.is_dir():
        raise DataError(f"{folder} is no folder of a run; give the --out folder of `ixc eval`")
    runs = [predictions.read(path) for path in files_of(folder)]
    results, notes = [], []
    for run in runs:
        try:
            result, said = _result(run, folder, rows_of, md5_of, cases)
            results.append(result)
            notes += said
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
        notes.append(f"{task.name} has answers to {len(run.answered):,} of {header.questions:,} questions")
    result = examine(
        task=task.name,
        dataset=task.dataset,
        title=task.title,
        hd=_hd(header, task),
        rule=_rule(header),
        scores=score,
        predictions=run.predictions,
        rows=rows,
        split=task.split,
        total=header.questions,
        data=header.data,
        settings={"model": header.model, "prompts": header.style, "version": header.version, **header.settings},
        cases=cases,
        seen=1 if header.style == "published" else None,
    )
    return result, notes


def _rows(task: Task, rows_of: RowsOf, md5_of: Md5Of | None, *, asked: str) -> tuple[Rows, list[str]]:
    """The data that was asked, or none and why."""
    why = f"{task.dataset}.tsv is not at hand; give --data the folder that holds it"
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
    return (), [f"{task.name} has no cases and no picture sizes: {why}"]


def _hd(header: predictions.Header, task: Task) -> int:
    """Budget of tiles: the run's own, else the one of the task's prompts."""
    own = (task.clean_hd or task.hd) if header.style == "clean" else task.hd
    given = header.settings.get("hd")
    return given if isinstance(given, int) and given >= 1 else own


def _rule(header: predictions.Header) -> str:
    given = header.settings.get("partition")
    return given if given in RULES else "original"


def _score(path: Path, task: Task, rows: Rows, run: predictions.Run) -> Scores:
    """The kept score if it is of these answers, else a new one by rule; a hidden split has none."""
    if task.hidden:
        return Scores(metric="scored by a server", headline=None, table=(), per_row={})
    kept = _kept(path) if path.exists() else None
    if kept is not None and _is_of(kept, run):
        try:
            return _scores(kept, task)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise DataError(f"{path} holds no score ({str(error)[:80]}); delete it and score again") from error
    if not rows:
        what = f"no {path.name}"
        if kept is not None:
            count = kept.get("answered")
            what = f"{path.name} is of {count} answers, not {len(run.answered)}, or of another run"
        raise DataError(f"{what}, and no data to score with; give --data, or run `ixc eval score` first")
    return _scores(asdict(task.score([dict(row) for row in rows], run.predictions)), task)


def _is_of(kept: dict[str, Any], run: predictions.Run) -> bool:
    """As far as a score says what it is of, it is of these answers."""
    mine = {"answered": len(run.answered), "header": plain(asdict(run.header))}
    return all(kept.get(key, value) == value for key, value in mine.items())


def _kept(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{path} is no JSON ({str(error)[:80]}); delete it and score again") from error
    if not isinstance(value, dict):
        raise DataError(f"{path} is a {type(value).__name__}, an object needed; delete it and score again")
    return value


def _scores(value: dict[str, Any], task: Task) -> Scores:
    """A figure that is no number (of nothing) is none."""
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
    """Whether a judged benchmark was scored without its judge: such a score says so in its name."""
    return "(no judge)" in metric
