"""Pictures of a data set: their sizes for Fig. 1b, and small copies for the page. Pillow; nothing is enlarged.

A header gives the size, so counting the pictures of a benchmark decodes none of them. A picture that cannot be read
is None here: a report on a finished run is worth more than an error about one of its pictures.
"""

from __future__ import annotations

import io
import warnings
from hashlib import blake2b

from PIL import Image

from ixc.evals.report.result import Picture

LONG_SIDE = 640
"""Longest side of a picture on the page, pixels."""

QUALITY = 72
"""Of WebP: small print stays legible in about 30 KB."""

MOST_PIXELS = 512 * 2**20
"""Largest picture that is decoded; beyond, only its size is used."""


def digest(data: bytes) -> str:
    """Name of the bytes of a picture."""
    return blake2b(data, digest_size=12).hexdigest()


def size_of(data: bytes) -> tuple[int, int] | None:
    """(width, height) in pixels from the header, None if it is no picture."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(data)) as image:
                return image.size
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return None


def small(data: bytes) -> Picture | None:
    """A copy of at most `LONG_SIDE` on its long side, on white; None if it cannot be read."""
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
