"""Check the cells that scoring needs, before the model is asked.

Every check takes (rows, name of the file) and raises a DataError that names the row. It rejects what upstream would
crash on or silently score as wrong, and accepts what is in the public files on purpose: an answer whose option is
missing ("None" is read as a missing cell).
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Sequence
from string import ascii_uppercase
from typing import Any, NoReturn

from ixc.errors import DataError
from ixc.evals.metrics import mme as mme_rules
from ixc.evals.metrics import ocrbench as ocrbench_rules
from ixc.evals.metrics.circular import ROTATION
from ixc.evals.metrics.hallusion import PARTS
from ixc.evals.metrics.mmvet import CAPABILITIES
from ixc.evals.prompts import IMAGE_TAG, options
from ixc.evals.table import IMAGE_ERROR, Row

QUESTION_TYPES = ("multi_choice", "free_form")
ANSWER_TYPES = ("text", "integer", "float", "list")


def _fail(where: str, row: Row, what: str) -> NoReturn:
    raise DataError(f"{where}, index {row['index']}: {what}")


def _answered(rows: Iterable[Row], where: str) -> None:
    for row in rows:
        if row["answer"] is None:
            _fail(where, row, "the answer is missing; fill its cell (published prompts read None and NA as missing, "
                  "--prompts clean keeps them)")  # fmt: skip


def _among(rows: Iterable[Row], where: str, column: str, known: Sequence[str]) -> None:
    for row in rows:
        if row[column] not in known:
            _fail(where, row, f"{column} is {row[column]!r}; use one of {', '.join(known)}")


def _list(row: Row, where: str, column: str) -> list[Any]:
    try:
        found = ast.literal_eval(str(row[column]))
    except (ValueError, SyntaxError):
        found = None
    if not isinstance(found, list) or not found:
        _fail(where, row, f"{column} is {str(row[column])[:40]!r}, no list of at least 1; write ['one', 'two']")
    return found


def listed_answers(rows: Sequence[Row], where: str) -> None:
    """Require an answer, or a Python list of answers."""
    _answered(rows, where)
    for row in rows:
        if str(row["answer"]).startswith("["):
            _list(row, where, "answer")


def letters(rows: Sequence[Row], where: str) -> None:
    """Require columns of options, and the letter of one of them as answer."""
    columns = [letter for letter in ascii_uppercase if letter in rows[0]]
    if len(columns) < 2:
        raise DataError(f"{where}: {len(columns)} columns of options, at least 2 needed; name them A, B, C, D")
    _answered(rows, where)
    _among(rows, where, "answer", columns)
    for row in rows:
        if not any(row[letter] is not None for letter in columns):
            _fail(where, row, f"all {len(columns)} options are missing; fill at least 2")


def mmmu(rows: Sequence[Row], where: str) -> None:
    """Require an answer, and every `<image n>` that question, hint and options name, if the images can be decoded."""
    _answered(rows, where)
    for row in rows:
        if IMAGE_ERROR in row:
            continue
        texts = " ".join(map(str, (row["question"], row.get("hint"), *options(row).values())))
        most = max(map(int, IMAGE_TAG.findall(texts)), default=0)
        if most > len(row["image"]):
            _fail(where, row, f"the question names <image {most}> and has {len(row['image'])} images; list them all")


def circular(rows: Sequence[Row], where: str) -> None:
    """Require what `letters` does, integer indices, and a base question for every rotation."""
    letters(rows, where)
    known = {row["index"] for row in rows}
    for row in rows:
        if not isinstance(row["index"], int):
            _fail(where, row, "the index is no integer; rotations are index + 1000000, + 2000000, ...")
        if row["index"] % ROTATION not in known:
            _fail(where, row, f"its base question {row['index'] % ROTATION} is not among {len(rows)} rows; add it")


def _yes_no(rows: Sequence[Row], where: str) -> None:
    _answered(rows, where)
    _among(rows, where, "answer", ("Yes", "No"))


def mme(rows: Sequence[Row], where: str) -> None:
    """Require Yes or No, all 14 categories, and two questions per image."""
    _yes_no(rows, where)
    known = (*mme_rules.PERCEPTION, *mme_rules.REASONING)
    _among(rows, where, "category", known)
    missing = [name for name in known if name not in {row["category"] for row in rows}]
    if missing:
        raise DataError(
            f"{where}: {len(missing)} of {len(known)} categories have no rows ({', '.join(missing)}); add them"
        )
    images: dict[tuple[str, str], int] = {}
    for row in rows:
        images[row["category"], row["image_path"]] = images.get((row["category"], row["image_path"]), 0) + 1
    alone = [path for (_, path), count in images.items() if count < 2]
    if alone:
        raise DataError(f"{where}: image {alone[0]} has 1 question, 2 needed; add the other one")


def hallusion(rows: Sequence[Row], where: str) -> None:
    """Require Yes or No, and an index of six parts."""
    _yes_no(rows, where)
    for row in rows:
        parts = len(str(row["index"]).split("_"))
        if parts < PARTS:
            _fail(where, row, f"{parts} parts joined by _, {PARTS} needed; n_category_sub_set_figure_question")


def ocrbench(rows: Sequence[Row], where: str) -> None:
    """Require answers and a known category."""
    listed_answers(rows, where)
    _among(rows, where, "category", [c for names in ocrbench_rules.TASKS.values() for c in names])


def mathvista(rows: Sequence[Row], where: str) -> None:
    """Require known types, a list of skills, and choices for a multiple-choice question."""
    _answered(rows, where)
    _among(rows, where, "question_type", QUESTION_TYPES)
    _among(rows, where, "answer_type", ANSWER_TYPES)
    for row in rows:
        _list(row, where, "skills")
        if row["question_type"] == "multi_choice":
            _list(row, where, "choices")


def mmvet(rows: Sequence[Row], where: str) -> None:
    """Require an answer, and known capabilities joined by commas."""
    _answered(rows, where)
    for row in rows:
        unknown = [name for name in str(row["category"]).split(",") if name not in CAPABILITIES]
        if unknown:
            _fail(where, row, f"capability {unknown[0]!r}; join some of {', '.join(CAPABILITIES)} by commas")
