"""Read data sets and prediction files as the official reader does; the only file that imports pandas.

    DATASET.tsv  --read_rows-->        [{"index": 1, "image": (b"PNG...",), "question": ..., "A": ..., ...}, ...]
    xlsx, tsv, jsonl --read_predictions--> {1: "answer", ...}
    rows + predictions --round_trip--> rows with a prediction, as the official evaluation reads them back

Format and quirks: VLMEvalKit's TSV (goldens/metrics/README.md, quirks 13 and 14). A cell such as `None`, `N/A` or
`null` is missing, a column of numbers with a missing cell holds floats ("7" is "7.0"), an image of at most 64
characters is the index of another row, rows without an image are left out, one index that is no integer keeps all of
them strings. A missing cell is None in our rows.
"""

from __future__ import annotations

import ast
import json
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, Literal, get_args

from ixc.errors import DataError, MissingPackageError, UsageError
from ixc.evals.image_cells import decode_images
from ixc.evals.question import Index

Row = dict[str, Any]
"""One question: column -> cell; `image` is a tuple of encoded image files, a missing cell is None."""
IMAGE_ERROR = "image_error"
"""Key of a row whose images cannot be decoded: the reason, with file name and row."""
FileFormat = Literal["xlsx", "tsv", "jsonl"]
"""File format that predictions pass through before they are scored; jsonl leaves them unchanged."""

CELL_LENGTH = 32767
"""Longest text of a workbook cell, characters; the official writer drops a longer one."""
NOT_A_TABLE = {
    b"version https://git-lfs": "a pointer of Git LFS; fetch the file itself",
    b"<!DOCTYPE": "a web page; download the file again",
    b"<html": "a web page; download the file again",
    b"\x1f\x8b": "compressed (gzip); unpack it first",
    b"PK\x03\x04": "a zip archive or a workbook; give the tab-separated file",
}
"""First bytes of a file that is not a table -> what it is, and the remedy."""


def pandas() -> ModuleType:
    """Import pandas.

    Raises:
        UsageError: it is not installed.
    """
    try:
        import pandas as found
    except ImportError as error:
        raise MissingPackageError(
            "reading data sets needs pandas, which is missing; pip install 'ixc-4khd[eval]'"
        ) from error
    return found


# -- data sets --------------------------------------------------------------------------------------------------------


def read_rows(path: str | Path) -> list[Row]:
    """Read the questions of a TSV file, with images decoded and back-references resolved.

    Args:
        path: a tab-separated file with columns `index`, `image` and `question` at least.

    Returns:
        One mapping per row that has an image, columns in the order of the file. Cells are str, int, float, bool or
        None; `image` is a tuple of encoded files, shared between the rows that show the same picture. Where they
        cannot be decoded it is empty, and the further key `IMAGE_ERROR` holds the reason.

    Raises:
        DataError: the file is missing, no such table, or no row's images can be decoded; says file, row, numbers and
            remedy.
    """
    path = Path(path)
    frame = _frame(path)
    _check_columns(frame, path)
    kept = frame[~frame["image"].isna()]
    if len(kept) == 0:
        raise DataError(f"{path}: none of its {len(frame)} rows has an image; fill the column `image`")
    rows = [dict(zip(kept.columns, map(_cell, values), strict=True)) for values in kept.itertuples(index=False)]
    numbers = [int(i) + 1 for i in kept.index]
    indices = _indices(rows, numbers, path)
    images_of = decode_images([str(row["index"]) for row in rows], [str(row["image"]) for row in rows])
    if all(isinstance(images, DataError) for images in images_of):
        raise DataError(f"{path} row {numbers[0]} (index {indices[0]}): {images_of[0]}")
    for row, index, images, number in zip(rows, indices, images_of, numbers, strict=True):
        where = f"row {number} (index {index})"
        row |= {"index": index, "image": () if isinstance(images, DataError) else images}
        if isinstance(images, DataError):
            row[IMAGE_ERROR] = f"{path.name} {where}: {images}"
        if row["question"] is None:
            raise DataError(f"{path} {where}: the question is missing; fill its cell")
    return rows


def _frame(path: Path) -> Any:
    """Read the table with pandas' defaults; raise DataError for what cannot be a table."""
    head = _head(path)
    if not head.strip():
        raise DataError(f"{path}: empty, {path.stat().st_size} bytes; give a table with a header line")
    for start, what in NOT_A_TABLE.items():
        if head.lstrip().lower().startswith(start.lower()):
            raise DataError(f"{path}: not a table but {what}")
    if b"\0" in head:
        raise DataError(f"{path}: binary, byte {head.index(0)} is zero; give tab-separated text in UTF-8")
    pd = pandas()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # DtypeWarning: mixed columns of long files, as upstream
            frame = pd.read_csv(path, sep="\t")
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: byte {error.start} is not UTF-8; save the table as UTF-8") from error
    except (pd.errors.ParserError, pd.errors.EmptyDataError) as error:
        what = str(error).removeprefix("Error tokenizing data. C error: ").strip()
        raise DataError(f"{path}: {what}; check tabs and quotes of that line") from error
    if not isinstance(frame.index, pd.RangeIndex):
        raise DataError(f"{path}: its rows have more cells than the {frame.shape[1]} columns of its header; drop them")
    if len(frame) == 0:
        raise DataError(f"{path}: a header of {frame.shape[1]} columns and 0 rows; give at least 1 row")
    return frame


def _head(path: Path) -> bytes:
    if path.is_dir():
        raise DataError(f"{path}: a folder; name the file in it")
    if not path.exists():
        raise DataError(f"{path}: no such file; give --data the folder that holds it, or the file itself")
    try:
        with path.open("rb") as file:
            return file.read(4096)
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); check its permissions") from error


def _check_columns(frame: Any, path: Path) -> None:
    names = [str(name) for name in frame.columns]
    if len(names) == 1 and "," in names[0]:
        raise DataError(f"{path}: 1 column, with {names[0].count(',')} commas in its name; separate columns by tabs")
    missing = [name for name in ("index", "image", "question") if name not in names]
    if missing:
        found = ", ".join(names[:8]) + (", ..." if len(names) > 8 else "")
        raise DataError(f"{path}: no column {', '.join(missing)} among its {len(names)} ({found}); name it so")
    twice = [name for name in names if name.rpartition(".")[2].isdigit() and name.rpartition(".")[0] in names]
    if twice:
        name = twice[0].rpartition(".")[0]
        raise DataError(f"{path}: {1 + len(twice)} columns are called {name}; keep 1 of them")


def _cell(value: Any) -> Any:
    """Convert a pandas cell to a plain Python value; a missing cell to None."""
    if isinstance(value, str):
        return value
    if value is None or value != value or type(value).__name__ in ("NAType", "NaTType"):
        return None
    return value.item() if hasattr(value, "item") else value


def _indices(rows: Sequence[Row], numbers: Sequence[int], path: Path) -> list[Index]:
    seen: dict[str, int] = {}
    for row, number in zip(rows, numbers, strict=True):
        if row["index"] is None:
            raise DataError(f"{path} row {number}: the index is missing; give every row its own")
        text = str(row["index"])
        if text in seen:
            raise DataError(f"{path} row {number}: index {text} stands in row {seen[text]} too; give every row its own")
        seen[text] = number
    return as_indices(list(seen))


def as_indices(texts: Sequence[str]) -> list[Index]:
    """Convert indices to integers if all of them are integers, else leave all of them strings."""
    return [int(text) for text in texts] if all(map(_is_int, texts)) else list(texts)


def _is_int(text: str) -> bool:
    try:
        return type(ast.literal_eval(text)) is int
    except (ValueError, SyntaxError):
        return False


# -- predictions ------------------------------------------------------------------------------------------------------


def read_predictions(path: str | Path) -> dict[Index, str]:
    """Read predictions as the official evaluation does: .xlsx and .tsv through pandas, .jsonl as written.

    Args:
        path: columns (or keys of every line) `index` and `prediction`; others are ignored.

    Raises:
        DataError: the file is missing, of another kind, or holds no such predictions.
    """
    path = Path(path)
    readers = {".xlsx": _workbook, ".tsv": _frame, ".jsonl": _lines}
    reader = readers.get(path.suffix)
    if reader is None:
        raise DataError(f"{path}: a prediction file ends in one of {', '.join(readers)}, not in {path.suffix!r}")
    if reader is not _lines:
        return _predictions_of_frame(reader(path), path)
    lines = _lines(path)
    texts = [str(line["index"]) for line in lines]
    _check_unique(texts, path)
    return dict(zip(as_indices(texts), (line["prediction"] for line in lines), strict=True))


def _predictions_of_frame(frame: Any, path: Path) -> dict[Index, str]:
    missing = [name for name in ("index", "prediction") if name not in frame.columns]
    if missing:
        names = ", ".join(map(str, list(frame.columns)[:8]))
        raise DataError(f"{path}: no column {', '.join(missing)} among its {frame.shape[1]} ({names}); name it so")
    cells = list(map(_cell, frame["index"].tolist()))
    for number, cell in enumerate(cells, 1):
        if cell is None:
            raise DataError(f"{path} row {number}: the index is missing; give every prediction its own")
    texts = [str(cell) for cell in cells]
    _check_unique(texts, path)
    return dict(zip(as_indices(texts), map(str, frame["prediction"].tolist()), strict=True))


def _check_unique(texts: Sequence[str], path: Path) -> None:
    seen: dict[str, int] = {}
    for number, text in enumerate(texts, 1):
        if text in seen:
            raise DataError(f"{path} row {number}: index {text} was in row {seen[text]} already; keep 1 of them")
        seen[text] = number


def _workbook(path: Path) -> Any:
    head = _head(path)
    if not head:
        raise DataError(f"{path}: empty, 0 bytes; write the predictions again")
    if not head.startswith(b"PK"):
        raise DataError(f"{path}: no workbook, it begins with {head[:4].hex()}; save it as .xlsx")
    pd = pandas()
    try:
        frame = pd.read_excel(path)
    except ImportError as error:
        raise MissingPackageError(
            "reading .xlsx needs openpyxl, which is missing; pip install 'ixc-4khd[eval]'"
        ) from error
    except Exception as error:  # a damaged zip or XML fails in any of five libraries, each with its own kind
        raise DataError(f"{path}: a damaged workbook ({str(error)[:80]}); save it again") from error
    if len(frame) == 0:
        raise DataError(f"{path}: a header of {frame.shape[1]} columns and 0 rows; give at least 1 prediction")
    return frame


def _lines(path: Path) -> list[dict[str, Any]]:
    _head(path)
    try:
        texts = path.read_text(encoding="utf-8").split("\n")  # not splitlines: U+2028 may stand in an answer
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: byte {error.start} is not UTF-8; save it as UTF-8") from error
    lines = [_line(text, f"{path} line {n}") for n, text in enumerate(texts, 1) if text.strip()]
    if not lines:
        raise DataError(f"{path}: 0 predictions; give at least 1 line with index and prediction")
    return lines


def _line(text: str, where: str) -> dict[str, Any]:
    try:
        line = json.loads(text)
    except ValueError as error:
        raise DataError(f"{where}: no JSON ({error}); give one object a line") from error
    if not isinstance(line, dict):
        raise DataError(f'{where}: a {type(line).__name__}; give an object {{"index": ..., "prediction": ...}}')
    missing = [name for name in ("index", "prediction") if name not in line]
    if missing:
        raise DataError(f"{where}: no {', '.join(missing)} among its {len(line)} keys; add it")
    if type(line["index"]) not in (int, str):
        raise DataError(f"{where}: the index is a {type(line['index']).__name__}; give an integer or a string")
    if not isinstance(line["prediction"], str):
        kind = type(line["prediction"]).__name__
        raise DataError(f"{where} (index {line['index']}): the prediction is a {kind}; give a string")
    return line


# -- round trip through a prediction file -----------------------------------------------------------------------------


def round_trip(
    rows: Sequence[Row],
    predictions: Mapping[Index, str],
    *,
    file_format: FileFormat = "xlsx",
    where: str = "the data set",
) -> list[Row]:
    """Return the rows that have a prediction as the official evaluation reads them back from its prediction file.

    The round trip changes scores: pandas turns "None" into a missing cell and "7.0" into a number.

    Args:
        rows: as read by `read_rows`.
        predictions: by index; a subset of the rows is enough, as upstream.
        file_format: format of the official run: xlsx by default, tsv by its PRED_FORMAT; jsonl changes nothing.
        where: file of the rows, for messages.

    Returns:
        Copies with `prediction` (a string: a missing one is "nan") and without `image`.

    Raises:
        DataError: a prediction without a row, or no prediction at all. UsageError: an unknown format.
    """
    if file_format not in get_args(FileFormat):
        raise UsageError(
            f"unknown format {file_format!r} of predictions; take one of {', '.join(get_args(FileFormat))}"
        )
    _check_known(rows, predictions, where)
    kept = [
        {k: v for k, v in row.items() if k not in ("image", IMAGE_ERROR)} for row in rows if row["index"] in predictions
    ]
    if not kept:
        raise DataError(f"0 predictions for the {len(rows)} questions of {where}; give at least 1")
    for row in kept:
        row["prediction"] = predictions[row["index"]]
    if file_format == "jsonl":
        return kept
    columns = list(kept[0])
    read = _as_read(columns, [[row[c] for c in columns] for row in kept], workbook=file_format == "xlsx")
    for row, old in zip(read, kept, strict=True):
        row |= {"prediction": "nan" if row["prediction"] is None else str(row["prediction"]), "index": old["index"]}
    return read


def _check_known(rows: Sequence[Row], predictions: Mapping[Index, str], where: str) -> None:
    known = {row["index"] for row in rows}
    strange = [index for index in predictions if index not in known]
    if strange:
        raise DataError(
            f"{len(strange)} of {len(predictions)} predictions have an index that none of the {len(rows)} questions "
            f"of {where} has, the first is {strange[0]!r}; give the data set they were made on"
        )


def _as_read(columns: list[str], cells: list[list[Any]], *, workbook: bool) -> list[Row]:
    """Return the cells after writing and reading a file: pandas' own parser decides what is missing or a number."""
    from io import StringIO

    pd = pandas()
    if workbook:
        from pandas.io.parsers import TextParser

        texts = [[_workbook_cell(cell) for cell in line] for line in cells]
        frame = TextParser([columns, *texts], header=0).read()
    else:
        text = pd.DataFrame(cells, columns=columns).to_csv(sep="\t", index=False)
        frame = pd.read_csv(StringIO(text), sep="\t")
    return [dict(zip(columns, map(_cell, values), strict=True)) for values in frame.itertuples(index=False)]


def _workbook_cell(cell: Any) -> Any:
    """Return what a workbook gives back: integral floats as integers, an empty cell for a text that is too long."""
    if cell is None or (isinstance(cell, str) and len(cell) > CELL_LENGTH):
        return ""
    if isinstance(cell, float) and cell.is_integer():
        return int(cell)
    return cell
