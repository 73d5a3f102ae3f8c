"""Result files of blocks: Parquet or JSON Lines, one row a question about a page.

    rows --encode--> bytes --write_file--> rows/block-000007.parquet        fsync, then renamed

The columns are the fields of `records.Row`, in their order; `SCHEMA` says what they hold.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from hashlib import sha256
from importlib.util import find_spec
from io import BytesIO
from pathlib import Path
from typing import Any

from ixc.apps.reading.records import Row
from ixc.errors import MissingPackageError
from ixc.utils.files import atomic_file

SCHEMA: dict[str, tuple[str, str]] = {
    "file": ("string", "Name of the file: path as given, address, or ARCHIVE/MEMBER."),
    "page": ("int32", "Page from 1."),
    "question": ("string", "The question."),
    "column": ("string", "Name of its column of answers; the question itself where none was given."),
    "answer": ("string", "The answer; null where it failed."),
    "confidence": ("double", "0 to 1; null where the model tells none."),
    "boxes": ("list<list<double>>", "Places on the page, x0, y0, x1, y1 in 0 to 1; null where the model tells none."),
    "error": ("string", "One line; null where there is an answer."),
    "tokens": ("int32", "Tokens of prompt and answer."),
    "seconds": ("double", "Wall time of the row: its share of what was computed together."),
    "model": ("string", "Fingerprint of the model, or its served name."),
    "hd": ("int32", "HD-n: most tiles the page was allowed."),
}
"""Column -> type in Parquet, and what it holds. Every column but the first four and `model` may be null."""

FORMATS = ("parquet", "jsonl")
"""Formats of result files; also their suffixes."""


def has_parquet() -> bool:
    """Whether Parquet can be written here."""
    return find_spec("pyarrow") is not None


def encode(rows: Sequence[Row], form: str) -> bytes:
    """Return the bytes of a result file.

    Args:
        rows: of a block.
        form: one of `FORMATS`.

    Raises:
        MissingPackageError: pyarrow is missing.
    """
    if form == "jsonl":
        return "".join(json.dumps(row.as_dict(), ensure_ascii=False) + "\n" for row in rows).encode()
    pyarrow, parquet = _pyarrow()
    out = BytesIO()
    parquet.write_table(pyarrow.Table.from_pylist([row.as_dict() for row in rows], schema=_schema(pyarrow)), out)
    return out.getvalue()


def decode(data: bytes, form: str) -> list[Row]:
    """Return the rows of a result file. Raises: as `encode`; ValueError: it is none."""
    if form == "jsonl":
        return [Row(**json.loads(line)) for line in data.decode().splitlines()]
    pyarrow, parquet = _pyarrow()
    try:
        return [Row(**row) for row in parquet.read_table(pyarrow.BufferReader(data)).to_pylist()]
    except pyarrow.ArrowInvalid as error:
        raise ValueError(str(error)) from error


def write_file(path: Path, data: bytes) -> str:
    """Write a file that is on the disk, whole, when this returns; return its SHA-256.

    Raises:
        OSError: it cannot be written; nothing of it is left.
    """
    with atomic_file(path) as draft, draft.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    return sha256(data).hexdigest()


def _schema(pyarrow: Any) -> Any:
    kinds = {
        "string": pyarrow.string(),
        "int32": pyarrow.int32(),
        "double": pyarrow.float64(),
        "list<list<double>>": pyarrow.list_(pyarrow.list_(pyarrow.float64())),
    }
    return pyarrow.schema([(name, kinds[kind]) for name, (kind, _) in SCHEMA.items()])


def _pyarrow() -> tuple[Any, Any]:
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError as error:
        raise MissingPackageError(
            "Parquet needs pyarrow, which is missing; pip install pyarrow, or use --format jsonl"
        ) from error
    return pyarrow, parquet
