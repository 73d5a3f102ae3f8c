"""Image cells of a data set -> encoded image files: base64, a list of base64, or the index of another row.

VLMEvalKit's TSV format: a cell of at most 64 characters is the index of another row, before or behind, that holds the
picture; references do not chain, save backwards, where the row referred to has been resolved already.
"""

from __future__ import annotations

import ast
import base64
import binascii
from collections.abc import Mapping, Sequence
from pathlib import Path

from ixc.errors import DataError
from ixc.processing.image_formats import FORMATS, HEAD_BYTES, format_of

REFERENCE_LENGTH = 64
"""An image cell of at most so many characters is the index of another row."""


def pictures(
    indices: Sequence[str], cells: Sequence[str], numbers: Sequence[int], path: Path
) -> list[tuple[bytes, ...]]:
    """Image files of every row; equal cells share theirs.

    Args:
        indices: of the rows that have an image, each different.
        cells: their image cells.
        numbers: their places in the file from 1, for messages.
        path: that file, for messages.

    Raises:
        DataError: a cell that is no image, no list of images and no index of a row with an image.
    """
    whole = dict(zip(indices, cells, strict=True))
    decoded: dict[str, tuple[bytes, ...]] = {}
    found = []
    for index, number in zip(indices, numbers, strict=True):
        where = f"{path} row {number} (index {index})"
        if len(whole[index]) <= REFERENCE_LENGTH:
            whole[index] = _referred(whole[index], whole, where)
        cell = whole[index]
        if cell not in decoded:
            decoded[cell] = tuple(_decode(text, where) for text in _texts(cell, where))
        found.append(decoded[cell])
    return found


def _referred(index: str, whole: Mapping[str, str], where: str) -> str:
    if index not in whole:
        raise DataError(
            f"{where}: its image is {index[:20]!r} ({len(index)} characters, so the index of another row), and no row "
            "with an image has that index; give the image itself"
        )
    if len(whole[index]) <= REFERENCE_LENGTH:
        raise DataError(f"{where}: its image refers to row {index}, which only refers on; refer to a row with an image")
    return whole[index]


def _texts(cell: str, where: str) -> list[str]:
    if not (cell.startswith("[") and cell.endswith("]")):
        return [cell]
    try:
        texts = ast.literal_eval(cell)
    except (ValueError, SyntaxError) as error:
        raise DataError(f"{where}: its list of images cannot be read; write ['base64', 'base64']") from error
    if not texts or not all(isinstance(text, str) for text in texts):
        raise DataError(f"{where}: its list of images has {len(texts)} usable texts; give at least 1, all base64")
    return texts


def _decode(text: str, where: str) -> bytes:
    try:
        data = base64.b64decode("".join(text.split()), validate=True)
    except (binascii.Error, ValueError) as error:
        raise DataError(
            f"{where}: its image is no base64 ({len(text)} characters: {error}); encode it again"
        ) from error
    if format_of(data[:HEAD_BYTES]) is None:
        kinds = ", ".join(each.name for each in FORMATS)
        raise DataError(f"{where}: its {len(data)} bytes begin with {data[:4].hex()}, no image; give one of {kinds}")
    if data.startswith(b"\x89PNG") and data.rfind(b"IEND") < 0:
        raise DataError(f"{where}: its PNG of {len(data)} bytes is cut off (it has no IEND); encode it again")
    return data
