"""Images of a data set: their sizes for Fig. 1b, and thumbnails for the page. Uses Pillow; images are never enlarged.

Sizes come from image headers, so no image is decoded for them. An unreadable image gives None: one broken image must
not prevent the report of a finished run.
"""

from __future__ import annotations

import io
from hashlib import blake2b

from PIL import Image

from ixc.errors import IxcError
from ixc.evals.report.run_report import Picture
from ixc.processing.image_io import open_image, read_size

LONG_SIDE = 640
"""Long side of a thumbnail, pixels."""

QUALITY = 72
"""WebP quality: small print stays legible in about 30 KB."""


def digest(data: bytes) -> str:
    """Hash the bytes of an image."""
    return blake2b(data, digest_size=12).hexdigest()


def size_of(data: bytes) -> tuple[int, int] | None:
    """Read (width, height) in pixels from the header; None if it cannot be read."""
    try:
        return read_size(data)
    except IxcError:
        return None


def thumbnail(data: bytes) -> Picture | None:
    """Make a thumbnail of the image as the model saw it, at most `LONG_SIDE` on its long side; None if unreadable."""
    try:
        copy = open_image(data)
    except IxcError:
        return None
    width, height = copy.size
    copy.thumbnail((LONG_SIDE, LONG_SIDE), Image.Resampling.LANCZOS)
    out = io.BytesIO()
    copy.save(out, format="WEBP", quality=QUALITY)
    return Picture(width=width, height=height, data=out.getvalue())
