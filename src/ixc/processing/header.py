"""The size of a picture from its header alone: no pixel is decoded, nothing but Pillow is imported.

`ixc plan` must answer at once. `picture.open_image` reads whole pictures, under the limits and the check of this file.
"""

import os
import struct
import warnings
import zlib
from pathlib import Path

from PIL import ExifTags, Image, UnidentifiedImageError

from ixc.errors import ImageError

MAX_PIXELS = 178_000_000
"""Most pixels a picture may claim: Pillow decodes no more."""

MAX_SIDE = 60_000
"""Longest side a picture may claim, pixels."""

BROKEN = (
    *(OSError, SyntaxError, ValueError, EOFError, LookupError, OverflowError, TypeError, AttributeError, RuntimeError),
    *(struct.error, zlib.error),
)
"""What Pillow's decoders raise on hostile or damaged files."""

TURNED = (5, 6, 7, 8)
"""EXIF orientations (tag 0x0112) under which width and height change places."""


def read_size(source: str | os.PathLike[str]) -> tuple[int, int]:
    """(width, height) in pixels of the picture as it is meant to be seen, EXIF orientation honoured.

    A PNG may carry its EXIF block behind the pixels; such a block is not seen here.

    Raises:
        ImageError: no such file, not a picture, a broken header, a size of 0, a side above 60,000 px, too many pixels.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow warns at half of its limit, and about odd metadata
        try:
            with Path(source).open("rb") as file, Image.open(file) as image:
                width, height = image.size[::-1] if _is_turned(image) else image.size
        except FileNotFoundError as error:
            raise ImageError(f"no file {source}; check the path") from error
        except Image.DecompressionBombError as error:
            raise ImageError(f"{source}: {error} The limit here is {MAX_PIXELS:,}; reduce the picture first") from error
        except UnidentifiedImageError as error:
            raise ImageError(f"{source} is not a picture Pillow knows; use PNG, JPEG, WebP or TIFF") from error
        except BROKEN as error:
            raise ImageError(f"{source} has a broken header ({error}); save or download it again") from error
    check_size(os.fspath(source), width, height)
    return width, height


def check_size(name: str, width: int, height: int, *, max_pixels: int = MAX_PIXELS) -> None:
    """The limits of a picture, by the size its header claims.

    Args:
        name: of the picture, for the message.

    Raises:
        ImageError: a size of 0, a side above 60,000 px, too many pixels.
    """
    if width < 1 or height < 1:
        raise ImageError(f"{name} claims {width} x {height} px, at least 1 x 1 needed; check the file")
    if max(width, height) > MAX_SIDE:
        raise ImageError(
            f"{name} claims {width:,} x {height:,} px, a side may have {MAX_SIDE:,}; reduce or crop the picture first"
        )
    if width * height > max_pixels:
        raise ImageError(
            f"{name} claims {width:,} x {height:,} = {width * height:,} px, at most {max_pixels:,} are read; "
            "reduce the picture first"
        )


def _is_turned(image: Image.Image) -> bool:
    # Without the block in its info, a PNG would be decoded whole by getexif().
    if image.format == "PNG" and "exif" not in image.info:
        return False
    try:
        return image.getexif().get(ExifTags.Base.Orientation, 1) in TURNED
    except BROKEN:  # an unreadable block counts as none, as in `picture.to_rgb`
        return False
