"""From a file to a canvas: opening a picture safely, and the published resize. Spec (a). Pillow and numpy only.

    file --open_image--> RGB picture --resize_to_canvas--> canvas (H, W, 3) uint8 --tiles--> (h*w, 3, 336, 336) uint8

Shapes: h, w grid of tiles, row-major; H = h * 336, W = w * 336 pixels of the canvas.
"""

import os
import warnings
from io import BytesIO
from pathlib import Path
from typing import IO

import numpy as np
from PIL import ExifTags, Image, UnidentifiedImageError

from ixc.errors import GeometryError, ImageError, UsageError
from ixc.geometry import Partition
from ixc.processing.header import BROKEN, MAX_PIXELS, check_size

WHITE = 255
"""Value of the padding and of the paper under transparent pictures (spec (a) 6)."""

EIGHT_BIT, SIXTEEN_BIT = 255, 65_535
"""Largest values of 8 and 16 bit channels."""

Source = str | os.PathLike[str] | bytes | IO[bytes]
"""What `open_image` reads: a path, the bytes of a file, or an open binary file."""


def open_image(source: Source, *, max_pixels: int = MAX_PIXELS) -> Image.Image:
    """Reads one picture as RGB, upright; looks at its claimed size before decoding a single pixel.

    Of animations and documents of several pages the first is taken. Modes are turned to RGB by `to_rgb`.

    Args:
        source: path, bytes or open binary file (read from its position, not closed).
        max_pixels: most pixels the header may claim, 1 .. 178,000,000.

    Raises:
        ImageError: no such file, not a picture, broken or cut short, size 0, a side above 60,000 px, too many pixels.
        UsageError: max_pixels out of range.
    """
    if not 1 <= max_pixels <= MAX_PIXELS:
        raise UsageError(f"max_pixels is {max_pixels:,}; use 1 .. {MAX_PIXELS:,}, Pillow decodes no more")
    name = _name(source)
    if isinstance(source, bytes):
        return _decode(BytesIO(source), name, max_pixels)
    if not isinstance(source, str | os.PathLike):
        return _decode(source, name, max_pixels)
    try:
        with Path(source).open("rb") as file:
            return _decode(file, name, max_pixels)
    except FileNotFoundError as error:
        raise ImageError(f"no file {name}; check the path") from error
    except OSError as error:
        raise ImageError(
            f"{name} cannot be opened: {error.strerror or error}; check the path and its rights"
        ) from error


def to_rgb(image: Image.Image) -> Image.Image:
    """Any mode to upright 8 bit RGB.

    The published code calls `convert("RGB")` and nothing else. This does the same, except where that crashes or
    drops data:

    - the EXIF orientation, which it ignores, is honoured (an unreadable EXIF block counts as none);
    - transparency (RGBA, LA, PA, a transparent colour), which it drops, is laid on white;
    - 16 bit and 32 bit greys, which it clips at 255, are scaled from 0 .. 65,535 if a value is above 255;
    - float greys, of which it drops the fraction, are scaled if they lie in 0 .. 1.

    Raises:
        ImageError: greys outside 0 .. 65,535, a mode Pillow cannot convert, or a file opened lazily that turns out to
            be broken or closed.
    """
    try:
        image.load()
    except BROKEN as error:
        name = getattr(image, "filename", "") or "the picture"
        raise ImageError(f"{name} is broken or cut short ({error}); save or download it again") from error
    image = _upright(image)
    if image.mode == "RGB" and "transparency" not in image.info:
        return image
    if image.mode == "F" or image.mode.startswith("I"):
        return _grey_to_8_bit(image).convert("RGB")
    try:
        if not image.has_transparency_data:
            return image.convert("RGB")
        # "La" and "RGBa" carry colours already multiplied by alpha; Pillow converts the first only by way of "LA".
        ink = image.convert("LA") if image.mode == "La" else image
        ink = ink.convert("RGBA")
    except ValueError as error:
        raise ImageError(f"mode {image.mode} cannot be turned into RGB ({error}); save the picture as RGB") from error
    paper = Image.new("RGBA", ink.size, (WHITE, WHITE, WHITE, WHITE))
    return Image.alpha_composite(paper, ink).convert("RGB")


def resize_to_canvas(image: Image.Image, *, partition: Partition) -> np.ndarray:
    """The picture resized and padded with white, bit-equal to the published transform under rule "original".

    Args:
        image: RGB, of the size the partition was made for.
        partition: where the picture goes.

    Returns:
        (H, W, 3) uint8, a new array.

    Raises:
        GeometryError: the partition was made for another size.

    Source: spec (a) 2, 5, 6. Pillow resizes the width first and rounds to 8 bit in between, so a portrait picture is
    resized transposed: resizing it directly differs by 1 in about 6 % of the values.
    """
    if image.size != (partition.width, partition.height):
        raise GeometryError(
            f"the picture is {image.width} x {image.height} px but its partition was made for "
            f"{partition.width} x {partition.height}; call partition() with the picture's own size"
        )
    width, height = partition.resized_width, partition.resized_height
    if partition.transposed:
        flipped = image.transpose(Image.Transpose.TRANSPOSE)
        picture = np.asarray(flipped.resize((height, width), Image.Resampling.BILINEAR)).transpose(1, 0, 2)
    else:
        picture = np.asarray(image.resize((width, height), Image.Resampling.BILINEAR))
    canvas = np.full((partition.canvas_height, partition.canvas_width, 3), WHITE, dtype=np.uint8)
    x0, y0, x1, y1 = partition.picture_box
    canvas[y0:y1, x0:x1] = picture
    return canvas


def tiles(canvas: np.ndarray, *, tile: int) -> np.ndarray:
    """Cuts a canvas (H, W, 3) into (h*w, 3, tile, tile), row-major, contiguous. Source: spec (a) 10."""
    height, width, channels = canvas.shape
    cut = canvas.reshape(height // tile, tile, width // tile, tile, channels)  # (h, tile, w, tile, 3)
    return np.ascontiguousarray(cut.transpose(0, 2, 4, 1, 3)).reshape(-1, channels, tile, tile)  # (h*w, 3, tile, tile)


def _name(source: Source) -> str:
    if isinstance(source, bytes):
        return f"the picture ({len(source):,} bytes)"
    if isinstance(source, str | os.PathLike):
        return os.fspath(source)
    return str(getattr(source, "name", "the picture"))


def _decode(file: IO[bytes], name: str, max_pixels: int) -> Image.Image:
    with warnings.catch_warnings():
        # Pillow warns at half of our limit and about odd metadata; the size is checked here, from the same header.
        warnings.simplefilter("ignore")
        try:
            image = Image.open(file)
            check_size(name, *image.size, max_pixels=max_pixels)
            image.load()  # here and not in to_rgb: only here is the name known
            return to_rgb(image)
        except Image.DecompressionBombError as error:
            raise ImageError(
                f"{name} claims more than {max_pixels:,} px ({error}); reduce the picture first"
            ) from error
        except UnidentifiedImageError as error:
            raise ImageError(f"{name} is not a picture Pillow knows; use PNG, JPEG, WebP or TIFF") from error
        except BROKEN as error:
            raise ImageError(f"{name} is broken or cut short ({error}); save or download it again") from error


_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""EXIF orientation -> the operation that makes the picture upright (EXIF 2.32, tag 0x0112)."""


def _upright(image: Image.Image) -> Image.Image:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # an unreadable block is no news: the original never looked
        try:
            turn = _TURNS.get(image.getexif().get(ExifTags.Base.Orientation, 1))
        except BROKEN:
            return image
    return image if turn is None else image.transpose(turn)


def _grey_to_8_bit(image: Image.Image) -> Image.Image:
    """Modes I;16*, I and F to L: values up to 255 as Pillow does, up to 65,535 as 16 bit, floats up to 1 as 0 .. 1."""
    grey = np.array(image, dtype=np.float32)
    low, high = float(grey.min()), float(grey.max())
    if not (low >= 0 and high <= SIXTEEN_BIT):  # also true for NaN
        raise ImageError(
            f"grey values run from {low:g} to {high:g}, only 0 to {SIXTEEN_BIT:,} are understood; scale them to 8 bit"
        )
    if image.mode == "F" and high <= 1:
        grey = np.round(grey * EIGHT_BIT)
    elif high > EIGHT_BIT:
        grey = np.round(grey * (EIGHT_BIT / SIXTEEN_BIT))
    clear = image.info.get("transparency")  # PNG: one grey value means paper
    if isinstance(clear, int):
        grey[np.asarray(image) == clear] = WHITE
    return Image.fromarray(grey.astype(np.uint8))
