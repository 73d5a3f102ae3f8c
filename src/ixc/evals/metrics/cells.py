"""Parse the answer cell of a data set: a text, or the text of a Python list."""

from __future__ import annotations

import ast
from typing import Any

from ixc.errors import DataError


def listed(cell: object) -> list[Any] | None:
    """Return the list that a cell is or contains as text ("['a', 'b']", "[2002, 2003]"); None if it is neither.

    Upstream evaluates the cell as Python; here only literals are parsed, so that a data file cannot run code.
    """
    if isinstance(cell, list):
        return cell
    try:
        found = ast.literal_eval(str(cell).lstrip(" \t"))
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return None
    return found if isinstance(found, list) else None


def answers(cell: object) -> list[str]:
    """Return the accepted answers of a cell: the items of its list, or the cell itself, all as strings.

    Raises:
        DataError: the list is empty.
    """
    found = listed(cell)
    if found == []:
        raise DataError("the answer cell is an empty list: 0 accepted answers, at least 1 needed")
    return [str(cell)] if found is None else [str(item) for item in found]
