"""From a picture to tiles: the published resize and padding. Spec (a). Pillow and numpy only.

    RGB picture --resize_to_canvas--> canvas (H, W, 3) uint8 --tiles--> (h*w, 3, 336, 336) uint8

Shapes: h, w grid of tiles, row-major; H = h * 336, W = w * 336 pixels of the canvas.
"""

from __future__ import annotations

import numpy as np
from PIL import Image

from ixc.core.tiling import Partition
from ixc.errors import GeometryError

WHITE = 255
"""Value of the padding (spec (a) 6)."""

STRIP_PIXELS = 4_000_000
"""Pixels of a portrait picture transposed at a time."""


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
        picture = np.asarray(_resized_transposed(image, height, width)).transpose(1, 0, 2)
    else:
        picture = np.asarray(image.resize((width, height), Image.Resampling.BILINEAR))
    canvas = np.full((partition.canvas_height, partition.canvas_width, 3), WHITE, dtype=np.uint8)
    x0, y0, x1, y1 = partition.picture_box
    canvas[y0:y1, x0:x1] = picture
    return canvas


def _resized_transposed(image: Image.Image, width: int, height: int) -> Image.Image:
    """`image` transposed, then resized to width x height; without a transposed copy of a large picture in memory.

    Rows of the transposed picture are resized independently of each other, so that strips of them give the same bits.
    """
    columns = max(1, STRIP_PIXELS // image.height)
    transpose, bilinear = Image.Transpose.TRANSPOSE, Image.Resampling.BILINEAR
    if columns >= image.width:
        return image.transpose(transpose).resize((width, height), bilinear)
    narrow = Image.new(image.mode, (width, image.width))
    for left in range(0, image.width, columns):
        strip = image.crop((left, 0, min(left + columns, image.width), image.height)).transpose(transpose)
        narrow.paste(strip.resize((width, strip.height), bilinear), (0, left))
    return narrow.resize((width, height), bilinear)


def tiles(canvas: np.ndarray, *, tile: int) -> np.ndarray:
    """Cuts a canvas (H, W, 3) into (h*w, 3, tile, tile), row-major, contiguous. Source: spec (a) 10."""
    height, width, channels = canvas.shape
    cut = canvas.reshape(height // tile, tile, width // tile, tile, channels)  # (h, tile, w, tile, 3)
    return np.ascontiguousarray(cut.transpose(0, 2, 4, 1, 3)).reshape(-1, channels, tile, tile)  # (h*w, 3, tile, tile)
