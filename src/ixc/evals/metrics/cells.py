"""Cells of a benchmark's table: the answer cell, which is a text or the text of a Python list."""

from __future__ import annotations

import ast
from typing import Any

from ixc.errors import DataError


def listed(cell: object) -> list[Any] | None:
    """The list that a cell is or spells ("['a', 'b']", "[2002, 2003]"); None where it is neither.

    Upstream evaluates the cell as Python; only literals are read here, so that a data file cannot run code.
    """
    if isinstance(cell, list):
        return cell
    try:
        found = ast.literal_eval(str(cell).lstrip(" \t"))
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return None
    return found if isinstance(found, list) else None


def answers(cell: object) -> list[str]:
    """The accepted answers of a cell: the items of its list, or the cell itself; every one as a text.

    Raises:
        DataError: the list is empty.
    """
    found = listed(cell)
    if found == []:
        raise DataError("the answer cell is an empty list: 0 accepted answers, at least 1 needed")
    return [str(cell)] if found is None else [str(item) for item in found]
