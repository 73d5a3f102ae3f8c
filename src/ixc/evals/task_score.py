"""Score a predictions file and write the score beside it, as RUN/<task>.score.json; no model is needed.

RUN/docvqa_val.jsonl + DATA/DocVQA_VAL.tsv --score--> RUN/docvqa_val.score.json
RUN/textvqa.jsonl + DATA/TextVQA_VAL.tsv --score, rule lmms--> RUN/textvqa.score.lmms.json
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ixc.errors import DataError, UsageError
from ixc.evals.metrics.rule import VLMEVALKIT
from ixc.evals.predictions import Run, score_path
from ixc.evals.task import file_format_of
from ixc.utils import files

if TYPE_CHECKING:
    from ixc.evals.task import Judge, Row, Score, Task


@dataclass(frozen=True, kw_only=True)
class TaskScore:
    """A scored predictions file."""

    task: Task
    """The task."""
    run: Run
    """The predictions that were scored."""
    score: Score
    """Headline, table and per-row scores."""
    path: Path
    """File that the score was written to."""

    @property
    def partial(self) -> bool:
        """Whether some of the data set's questions are unanswered."""
        return len(self.run.answered) < self.run.header.questions

    def as_dict(self) -> dict[str, Any]:
        """Return the JSON form; NaN and infinities become null."""
        found = {
            "task": self.task.name,
            "title": self.task.title,
            "name": self.score.name,
            "headline": self.score.headline,
            "unit": self.task.unit,
            "paper": self.task.paper,
            "answered": len(self.run.answered),
            "failed": len(self.run.failed),
            "table": self.score.table,
            "per_row": self.score.per_row,
            "header": asdict(self.run.header),
        }
        return plain(found)


def task_of(run: Run) -> Task:
    """Look up the task that a file was made for.

    Raises:
        DataError: no task has this name.
    """
    from ixc.evals.tasks import TASKS

    if run.header.task not in TASKS:
        raise DataError(
            f"{run.path} is of task {run.header.task!r}, none of the {len(TASKS)} known; update the package"
        )
    return TASKS[run.header.task]


def score(run: Run, rows: Sequence[Row], *, judge: Judge | None = None, rule: str = VLMEVALKIT) -> TaskScore:
    """Score a file and write the result beside it; each rule has its own file, and reports read the default rule's.

    Raises:
        DataError: the file and the data do not belong together. UsageError: the answers are hidden.
    """
    task = task_of(run)
    if not run.answered:
        raise DataError(f"{run.path} has 0 predictions of {run.header.questions}; finish the run")
    passed = file_format_of(run.header.style)
    found = task.score(list(rows), run.predictions, judge=judge, rule=rule, file_format=passed)
    path = score_path(run.path)
    if rule != VLMEVALKIT:
        path = path.with_suffix(f".{rule}.json")
    result = TaskScore(task=task, run=run, score=found, path=path)
    text = json.dumps(result.as_dict(), ensure_ascii=False, indent=1) + "\n"
    files.atomic_write(result.path, text.encode("utf-8", "replace"))  # a model may write a lone surrogate
    return result


def files_of(given: Path) -> list[Path]:
    """List the predictions files of a path: the file itself, or those of a run's folder without files of single ranks.

    Raises:
        DataError: the folder holds none. UsageError: the path does not exist.
    """
    if not given.exists():
        raise UsageError(f"no file or folder {given}; give RUN or RUN/docvqa_val.jsonl")
    if not given.is_dir():
        return [given]
    found = [path for path in sorted(given.glob("*.jsonl")) if "." not in path.stem]
    if not found:
        raise DataError(f"{given} holds 0 finished files of predictions; give the folder that `ixc eval` wrote")
    return found


def plain(value: Any) -> Any:
    """Convert to what JSON can hold: NaN becomes null, array scalars become Python numbers, keys become strings."""
    if isinstance(value, dict):
        return {str(key): plain(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [plain(entry) for entry in value]
    if hasattr(value, "item") and not isinstance(value, str | bytes):
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value
