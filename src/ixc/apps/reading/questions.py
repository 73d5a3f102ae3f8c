"""Questions of the command line and of files: CSV or JSON Lines, one a row.

question,name,schema,max_new_tokens
What is the TOTAL?,total,,20
What are the items?,items,items.schema.json,
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ixc.apps.reading.records import Question
from ixc.errors import UsageError

COLUMNS = ("question", "name", "schema", "max_new_tokens")
"""Columns of a file of questions; all but the first may be missing or empty."""


def check_questions(questions: Sequence[Question]) -> tuple[Question, ...]:
    """Return the questions.

    Raises:
        UsageError: there is none, one is empty, or two have one text or one column.
    """
    if not questions:
        raise UsageError("0 questions, at least 1 needed")
    texts: dict[str, Question] = {}
    columns: set[str] = {"file", "page"}
    for each in questions:
        if not each.text.strip():
            raise UsageError("a question is empty; write it behind --ask, in quotes")
        if each.text in texts:
            raise UsageError(f"the question {each.text!r} is asked twice; leave one out")
        if each.column in columns:
            raise UsageError(f"two columns of answers have the name {each.column!r}; name one otherwise")
        texts[each.text] = each
        columns.add(each.column)
    return tuple(questions)


def read_questions(path: Path) -> tuple[Question, ...]:
    """Read a file of questions: JSON Lines where its name ends in .jsonl, else CSV.

    Args:
        path: the file; paths of schemas in it are relative to its folder.

    Raises:
        UsageError: it cannot be read, or a row is wrong; the line is named.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"--questions {path} cannot be read ({error}); give a CSV or JSONL file in UTF-8") from error
    rows = _json_rows(text, path) if path.suffix.lower() == ".jsonl" else _csv_rows(text, path)
    return tuple(_question(row, f"{path}, line {line}", path.parent) for line, row in rows)


def _json_rows(text: str, path: Path) -> Iterator[tuple[int, Mapping[str, Any]]]:
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip():
            continue
        try:
            found = json.loads(line)
        except ValueError as error:
            raise UsageError(f"{path}, line {number} is not JSON ({error}); write one object a line") from error
        if not isinstance(found, dict):
            raise UsageError(f"{path}, line {number} holds a {type(found).__name__}; write one object a line")
        yield number, found


def _csv_rows(text: str, path: Path) -> Iterator[tuple[int, Mapping[str, Any]]]:
    reader = csv.DictReader(text.splitlines(keepends=True))
    if "question" not in (reader.fieldnames or ()):
        raise UsageError(f"{path} has no column question; its first line names the columns: {', '.join(COLUMNS)}")
    for row in reader:
        if None in row:
            raise UsageError(f"{path}, line {reader.line_num} has more fields than columns; put quotes around commas")
        yield reader.line_num, row


def _question(row: Mapping[str, Any], where: str, folder: Path) -> Question:
    if unknown := [str(name) for name in row if name not in COLUMNS]:
        raise UsageError(f"{where}: no column {', '.join(unknown)} is known; use {', '.join(COLUMNS)}")
    text, name = row.get("question"), row.get("name") or ""
    if not isinstance(text, str) or not text.strip():
        raise UsageError(f"{where}: the question is empty")
    if not isinstance(name, str):
        raise UsageError(f"{where}: name is {name!r}, a text needed")
    return Question(
        text=text.strip(),
        name=name.strip(),
        schema=_schema(row.get("schema"), where, folder),
        max_new_tokens=_number(row.get("max_new_tokens"), where),
    )


def _number(value: Any, where: str) -> int | None:
    if value in (None, ""):
        return None
    if isinstance(value, str) and value.strip().isdecimal():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise UsageError(f"{where}: max_new_tokens is {value!r}, a whole number of at least 1 needed")
    return value


def _schema(value: Any, where: str, folder: Path) -> Mapping[str, Any] | None:
    """Return a JSON schema: an object, JSON text that begins with {, or the path of a file."""
    if value is None or value == "":
        return None
    if isinstance(value, str):
        try:
            value = json.loads(value if value.lstrip().startswith("{") else (folder / value).read_text("utf-8"))
        except (OSError, ValueError) as error:
            raise UsageError(f"{where}: the schema cannot be read ({error}); give a JSON file or an object") from error
    if not isinstance(value, Mapping):
        raise UsageError(f"{where}: the schema is a {type(value).__name__}, a JSON object needed")
    return value
