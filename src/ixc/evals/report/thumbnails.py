"""Images of a data set: their sizes for Fig. 1b, and thumbnails for the page. Uses Pillow; images are never enlarged.

Sizes come from image headers, so no image is decoded for them. An unreadable image gives None: one broken image must
not prevent the report of a finished run.
"""

from __future__ import annotations

import io
import warnings
from hashlib import blake2b

from PIL import Image

from ixc.evals.report.run_report import Picture

LONG_SIDE = 640
"""Long side of a thumbnail, pixels."""

QUALITY = 72
"""WebP quality: small print stays legible in about 30 KB."""

MOST_PIXELS = 512 * 2**20
"""Largest image that is decoded, pixels; of a larger one only the size is used."""


def digest(data: bytes) -> str:
    """Hash the bytes of an image."""
    return blake2b(data, digest_size=12).hexdigest()


def size_of(data: bytes) -> tuple[int, int] | None:
    """Read (width, height) in pixels from the header; None if it is no image."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(data)) as image:
                return image.size
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return None


def thumbnail(data: bytes) -> Picture | None:
    """Make a thumbnail on white, at most `LONG_SIDE` on its long side; None if the image cannot be read."""
    size = size_of(data)
    if size is None or size[0] * size[1] > MOST_PIXELS:
        return None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(data)) as image:
                image.draft("RGB", (LONG_SIDE, LONG_SIDE))  # JPEG: decode at a fraction of the size
                copy = _on_white(image)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return None
    copy.thumbnail((LONG_SIDE, LONG_SIDE), Image.Resampling.LANCZOS)
    out = io.BytesIO()
    copy.save(out, format="WEBP", quality=QUALITY)
    return Picture(width=size[0], height=size[1], data=out.getvalue())


def _on_white(image: Image.Image) -> Image.Image:
    if not image.has_transparency_data:
        return image.convert("RGB")
    layer = image.convert("RGBA")
    white = Image.new("RGBA", layer.size, "white")
    return Image.alpha_composite(white, layer).convert("RGB")
