"""Pictures of a data set: their sizes for Fig. 1b, and small copies for the page. Pillow; nothing is enlarged.

A header gives the size, so counting the pictures of a benchmark decodes none of them. A picture that cannot be read
is None here: a report on a finished run is worth more than an error about one of its pictures.
"""

from __future__ import annotations

import io
from hashlib import blake2b

from PIL import Image

from ixc.errors import IxcError
from ixc.evals.report.result import Picture
from ixc.processing.image_io import open_image, read_size

LONG_SIDE = 640
"""Longest side of a picture on the page, pixels."""

QUALITY = 72
"""Of WebP: small print stays legible in about 30 KB."""


def digest(data: bytes) -> str:
    """Name of the bytes of a picture."""
    return blake2b(data, digest_size=12).hexdigest()


def size_of(data: bytes) -> tuple[int, int] | None:
    """(width, height) in pixels from the header, None if it cannot be read."""
    try:
        return read_size(data)
    except IxcError:
        return None


def small(data: bytes) -> Picture | None:
    """A copy of at most `LONG_SIDE` on its long side, as the model saw it; None if it cannot be read."""
    try:
        copy = open_image(data)
    except IxcError:
        return None
    width, height = copy.size
    copy.thumbnail((LONG_SIDE, LONG_SIDE), Image.Resampling.LANCZOS)
    out = io.BytesIO()
    copy.save(out, format="WEBP", quality=QUALITY)
    return Picture(width=width, height=height, data=out.getvalue())
