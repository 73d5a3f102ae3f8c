"""Decode the image cells of a data set: base64, a list of base64 strings, or the index of another row.

VLMEvalKit's TSV format: a cell of at most 64 characters is the index of another row, before or behind, that holds the
image; references do not chain, except backwards, where the row referred to is already resolved.
"""

from __future__ import annotations

import ast
from collections.abc import Mapping, Sequence

from ixc.errors import DataError
from ixc.processing.image_formats import FORMATS, HEAD_BYTES, format_of
from ixc.utils.data_url import DataUrlError, decode_base64

REFERENCE_LENGTH = 64
"""Longest image cell that is read as the index of another row, characters."""


def decode_images(indices: Sequence[str], cells: Sequence[str]) -> list[tuple[bytes, ...] | DataError]:
    """Decode the image files of every row; equal cells share one tuple.

    Args:
        indices: indices of the rows that have an image, all different.
        cells: their image cells.

    Returns:
        For every row its image files, or why they cannot be read: a cell that is no image, no list of images and no
        index of a row with an image.
    """
    resolved = dict(zip(indices, cells, strict=True))
    decoded: dict[str, tuple[bytes, ...] | DataError] = {}
    found: list[tuple[bytes, ...] | DataError] = []
    for index in indices:
        try:
            if len(resolved[index]) <= REFERENCE_LENGTH:
                resolved[index] = _referred(resolved[index], resolved)
        except DataError as error:
            found.append(error)
            continue
        cell = resolved[index]
        if cell not in decoded:
            decoded[cell] = _files(cell)
        found.append(decoded[cell])
    return found


def _referred(index: str, resolved: Mapping[str, str]) -> str:
    if index not in resolved:
        raise DataError(
            f"its image is {index[:20]!r} ({len(index)} characters, so the index of another row), and no row "
            "with an image has that index; give the image itself"
        )
    if len(resolved[index]) <= REFERENCE_LENGTH:
        raise DataError(f"its image refers to row {index}, which only refers on; refer to a row with an image")
    return resolved[index]


def _files(cell: str) -> tuple[bytes, ...] | DataError:
    try:
        return tuple(map(_decode, _texts(cell)))
    except DataError as error:
        return error


def _texts(cell: str) -> list[str]:
    if not (cell.startswith("[") and cell.endswith("]")):
        return [cell]
    try:
        texts = ast.literal_eval(cell)
    except (ValueError, SyntaxError) as error:
        raise DataError("its list of images cannot be read; write ['base64', 'base64']") from error
    if not texts or not all(isinstance(text, str) for text in texts):
        raise DataError(f"its list of images has {len(texts)} usable texts; give at least 1, all base64")
    return texts


def _decode(text: str) -> bytes:
    try:
        data = decode_base64(text)
    except DataUrlError as error:
        raise DataError(f"its image is no base64 ({len(text)} characters: {error}); encode it again") from error
    if format_of(data[:HEAD_BYTES]) is None:
        kinds = ", ".join(each.name for each in FORMATS)
        raise DataError(f"its {len(data)} bytes begin with {data[:4].hex()}, no image; give one of {kinds}")
    if data.startswith(b"\x89PNG") and data.rfind(b"IEND") < 0:
        raise DataError(f"its PNG of {len(data)} bytes is cut off (it has no IEND); encode it again")
    return data
