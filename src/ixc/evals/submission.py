"""Write submission files for the servers that hold the answers of a test split.

docvqa, infovqa   Robust Reading Competition, tasks "Document VQA" and "Infographics VQA": a JSON list of
                  {"questionId": 49153, "answer": "0.28"}
mmbench           MMBench's evaluation server: a workbook with the question's columns and a column `prediction`
qbench            Q-Bench: the same workbook

Unverified: the formats follow the servers' published instructions, but no file of this package was ever submitted.
Compare a file with the instructions before a submission counts.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ixc.errors import DataError, MissingPackageError, UsageError
from ixc.evals.question import Index
from ixc.utils import files

if TYPE_CHECKING:
    from ixc.evals.task import Task

Row = Mapping[str, Any]

QUESTION_IDS = ("questionId", "question_id")
"""Columns that may hold the server's question number; without them the index is used."""

_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f]")
"""Control characters, which a workbook cannot hold."""


def write(task: Task, rows: Sequence[Row], predictions: Mapping[Index, str], folder: Path) -> Path:
    """Write the submission file of a run: FOLDER/<task>.submission.json or .xlsx.

    Args:
        task: a task with hidden answers.
        rows: the whole data set.
        predictions: by index; every question needs one.

    Raises:
        UsageError: the task's answers are public. DataError: questions without a prediction, or without a number.
    """
    if task.submission is None:
        raise UsageError(f"{task.name} has public answers and no submission file; use `ixc eval score`")
    encode, suffix = KINDS[task.submission]
    missing = [row["index"] for row in rows if row["index"] not in predictions]
    if missing:
        raise DataError(
            f"{task.name}: {len(missing)} of {len(rows)} questions have no prediction, the first is {missing[0]!r}, "
            "and the server refuses a part; finish the run"
        )
    path = folder / f"{task.name}.submission.{suffix}"
    files.atomic_write(path, encode(rows, predictions))
    return path


def _question_answers(rows: Sequence[Row], predictions: Mapping[Index, str]) -> bytes:
    column = next((name for name in QUESTION_IDS if name in rows[0]), "index")
    answers = []
    for row in rows:
        number = row[column]
        if isinstance(number, float) and number.is_integer():
            number = int(number)
        if not isinstance(number, int):
            raise DataError(
                f"question {row['index']!r}: {column} is {number!r}, a whole number needed; use the test set"
            )
        answers.append({"questionId": number, "answer": predictions[row["index"]]})
    return json.dumps(answers, ensure_ascii=False).encode()


def _workbook(rows: Sequence[Row], predictions: Mapping[Index, str]) -> bytes:
    try:
        from openpyxl import Workbook
    except ImportError as error:
        raise MissingPackageError(
            "a workbook needs openpyxl, which is missing; pip install 'ixc-4khd[eval]'"
        ) from error
    columns = [name for name in rows[0] if name not in ("image", "prediction")]
    book = Workbook(write_only=True)
    sheet = book.create_sheet("Sheet1")
    sheet.append([*columns, "prediction"])
    for row in rows:
        sheet.append([_cell(sheet, value) for value in (*(row[name] for name in columns), predictions[row["index"]])])
    file = BytesIO()
    book.save(file)
    return file.getvalue()


def _cell(sheet: Any, value: Any) -> Any:
    """Store a text as text: one that begins with "=" must not become a formula."""
    if not isinstance(value, str):
        return value
    from openpyxl.cell import WriteOnlyCell

    cell = WriteOnlyCell(sheet, _CONTROL.sub("", value))
    cell.data_type = "s"
    return cell


KINDS: dict[str, tuple[Callable[[Sequence[Row], Mapping[Index, str]], bytes], str]] = {
    "docvqa": (_question_answers, "json"),
    "infovqa": (_question_answers, "json"),
    "mmbench": (_workbook, "xlsx"),
    "qbench": (_workbook, "xlsx"),
}
"""`Task.submission` -> encoder and file suffix."""
