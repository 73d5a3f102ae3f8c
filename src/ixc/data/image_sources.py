"""The images of a record: their sizes from the headers, and their pixels; without torch or transformers.

record.images (paths, bytes, data URLs, PIL images) --read_sizes--> (width, height), no pixel decoded
                                                    --open_images--> upright RGB images
"""

from __future__ import annotations

from typing import Any

from PIL import Image

from ixc.data.records import Record, RecordError
from ixc.errors import ImageError, IxcError
from ixc.processing.image_io import open_image, read_size, to_rgb
from ixc.utils.data_url import DataUrlError, decode_data_url


def read_sizes(record: Record) -> list[tuple[int, int]]:
    """Return (width, height) of a record's images in px, from their headers.

    Raises:
        RecordError: an image is missing, broken or far too large.
    """
    return [_size(source, record, number) for number, source in enumerate(record.images, 1)]


def open_images(record: Record) -> list[Image.Image]:
    """Decode the images of a record.

    Raises:
        RecordError: an image that cannot be decoded.
    """
    found = []
    for number, source in enumerate(record.images, 1):
        try:
            data = _file(source)
            found.append(open_image(data) if isinstance(data, str | bytes) else to_rgb(data))
        except IxcError as error:
            raise RecordError("image", record.where, f"image {number}: {error}") from error
    return found


def _size(source: Any, record: Record, number: int) -> tuple[int, int]:
    try:
        data = _file(source)
        return read_size(data) if isinstance(data, str | bytes) else to_rgb(data).size
    except IxcError as error:
        raise RecordError("image", record.where, f"image {number}: {error}") from error


def _file(source: Any) -> Any:
    """Return a path, bytes or a PIL image as they are, and the bytes of a data URL."""
    return _from_data_url(source) if isinstance(source, str) and source.startswith("data:") else source


def _from_data_url(address: str) -> bytes:
    try:
        return decode_data_url(address)
    except DataUrlError as error:
        raise ImageError(f"a data URL of {len(address):,} characters: {error}; encode it again") from error
