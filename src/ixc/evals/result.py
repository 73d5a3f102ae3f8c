"""The score of a predictions file, beside it: RUN/<task>.score.json. No model is needed for it.

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
from ixc.utils import files

if TYPE_CHECKING:
    from ixc.evals.task import Judge, Row, Score, Task


@dataclass(frozen=True, kw_only=True)
class Result:
    """A scored file."""

    task: Task
    run: Run
    score: Score
    path: Path
    """Where the score was written."""

    @property
    def part(self) -> bool:
        """Only some of the data set's questions are answered."""
        return len(self.run.answered) < self.run.header.questions

    def as_dict(self) -> dict[str, Any]:
        """For JSON; a number that is none is null."""
        found = {
            "task": self.task.name,
            "title": self.task.title,
            "name": self.score.name,
            "headline": self.score.headline,
            "unit": self.task.unit,
            "paper": self.task.paper,
            "answered": len(self.run.answered),
            "table": self.score.table,
            "per_row": self.score.per_row,
            "header": asdict(self.run.header),
        }
        return plain(found)


def task_of(run: Run) -> Task:
    """The task a file was made for.

    Raises:
        DataError: there is none of this name.
    """
    from ixc.evals.tasks import TASKS

    if run.header.task not in TASKS:
        raise DataError(
            f"{run.path} is of task {run.header.task!r}, none of the {len(TASKS)} known; update the package"
        )
    return TASKS[run.header.task]


def score(run: Run, rows: Sequence[Row], *, judge: Judge | None = None, rule: str = VLMEVALKIT) -> Result:
    """Scores a file and writes the result beside it; each rule has a file of its own, reports read the default's.

    Raises:
        DataError: the file and the data do not belong together. UsageError: the answers are hidden.
    """
    task = task_of(run)
    if not run.answered:
        raise DataError(f"{run.path} has 0 predictions of {run.header.questions}; finish the run")
    found = task.score(list(rows), run.predictions, judge=judge, rule=rule)
    path = score_path(run.path)
    if rule != VLMEVALKIT:
        path = path.with_suffix(f".{rule}.json")
    result = Result(task=task, run=run, score=found, path=path)
    text = json.dumps(result.as_dict(), ensure_ascii=False, indent=1) + "\n"
    files.atomic_write(result.path, text.encode("utf-8", "replace"))  # a model may write half a surrogate pair
    return result


def files_of(given: Path) -> list[Path]:
    """A predictions file, or those of a run's folder; files of single ranks wait until they are merged.

    Raises:
        DataError: the folder holds none. UsageError: neither file nor folder.
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
    """What JSON can hold: NaN as null, numbers of arrays as Python's."""
    if isinstance(value, dict):
        return {str(key): plain(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [plain(entry) for entry in value]
    if hasattr(value, "item") and not isinstance(value, str | bytes):
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value
