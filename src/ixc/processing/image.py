"""From a file to tiles: opening a picture safely, the published resize, and the image processor. Spec (a).

    file --open_image--> RGB picture --partition (geometry)--> where it goes
         --resize_to_canvas--> canvas (H, W, 3) uint8 --cut--> tiles (h*w, 3, 336, 336) uint8, row-major

Nothing is normalised here: uint8 travels to the device, where the model normalises and makes the overview.

Shapes: h, w grid of tiles; H = h * 336, W = w * 336 pixels of the canvas; N tiles of all images together; n images.
"""

import os
import struct
import warnings
import zlib
from collections.abc import Iterable, Iterator
from io import BytesIO
from pathlib import Path
from typing import IO, Any, TypedDict, cast

import numpy as np
from PIL import ExifTags, Image, UnidentifiedImageError
from transformers.image_processing_backends import PilBackend
from transformers.image_processing_base import BatchFeature

from ixc.errors import GeometryError, ImageError, UsageError
from ixc.geometry import Partition, partition
from ixc.layout import num_image_tokens

MAX_PIXELS = 178_000_000
"""Most pixels a picture may claim: just under Pillow's own hard limit against decompression bombs (178,956,970)."""

MAX_SIDE = 60_000
"""Longest side a picture may claim, pixels."""

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
        ImageError: greys outside 0 .. 65,535, or a mode Pillow cannot convert.
    """
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


class IxcImagesKwargs(TypedDict, total=False):
    """Options of the image processor; saved with it, and each can be given per call."""

    hd: int | None
    """Most tiles an image: 25 is the published default, 55 the 4K setting."""
    partition: str | None
    """Partition rule: a key of `geometry.RULES`."""
    return_tensors: str | None
    """"pt" (default) or "np"."""


class IxcImageProcessorPil(PilBackend):
    """Pictures to tiles, behind the contract of transformers' image processors.

    `processor(images)` returns a BatchFeature with
        pixel_values  (N, 3, 336, 336) uint8, the tiles of all images, in order, each image row-major; no overview
        image_grids   (n, 2) int64, (grid_h, grid_w) of every image

    An image is a PIL picture, a uint8 array or tensor ((H, W), (H, W, C) or, if the last axis is no C, (C, H, W);
    C = 1 grey, 2 grey + alpha, 3 RGB, 4 RGBA), a path, the bytes of a file or an open file; lists may be nested and
    are flattened.
    Options of other processors (do_resize, size, do_normalize, ...) would have no effect and are refused.
    """

    model_input_names = ["pixel_values", "image_grids"]  # noqa: RUF012  (the contract's attribute is a plain list)
    valid_kwargs = IxcImagesKwargs  # pyright: ignore[reportAssignmentType]

    hd = 25
    partition = "original"
    return_tensors: str | None = None

    def preprocess(self, images: Any, *args: Any, **kwargs: Any) -> BatchFeature:
        """See the class. Keyword options: `IxcImagesKwargs`.

        Raises:
            ImageError, GeometryError: from reading and partitioning. UsageError: an option this processor lacks.
        """
        unknown = sorted(set(kwargs) - set(IxcImagesKwargs.__annotations__))
        if unknown:
            raise UsageError(
                f"{', '.join(unknown)}: no such option of this image processor; it has "
                f"{', '.join(IxcImagesKwargs.__annotations__)}"
            )
        pictures = [_as_picture(image) for image in _flatten(images)]
        if not pictures:
            raise ImageError("0 images given, at least 1 needed; leave the argument out for text alone")
        cut, grids = [], []
        for picture in pictures:
            part = self.partition_of(picture.height, picture.width, kwargs)
            cut.append(tiles(resize_to_canvas(picture, partition=part), tile=part.tile))
            grids.append((part.grid_h, part.grid_w))
        data = {"pixel_values": np.concatenate(cut), "image_grids": np.array(grids, dtype=np.int64)}
        return BatchFeature(data, tensor_type=_given(kwargs, "return_tensors", self.return_tensors) or "pt")

    def get_number_of_image_patches(self, height: int, width: int, images_kwargs: dict[str, Any] | None = None) -> int:
        """Tiles of a height x width image in `pixel_values` (the name is transformers'; serving engines call it)."""
        return self.partition_of(height, width, images_kwargs).tiles

    def get_number_of_image_tokens(
        self,
        height: int,
        width: int,
        images_kwargs: dict[str, Any] | None = None,
        *,
        newline: bool = True,
        overview: bool = True,
    ) -> int:
        """Tokens of a height x width image in the prompt; newline and overview as in the model's config."""
        part = self.partition_of(height, width, images_kwargs)
        return num_image_tokens(part.grid_h, part.grid_w, newline=newline, overview=overview)

    def partition_of(self, height: int, width: int, images_kwargs: dict[str, Any] | None = None) -> Partition:
        """Where the tiles of a height x width image go under this processor's options, or those given."""
        options = images_kwargs or {}
        hd, rule = _given(options, "hd", self.hd), _given(options, "partition", self.partition)
        return partition(width, height, hd=hd, rule=rule)


def _given(options: dict[str, Any], key: str, default: Any) -> Any:
    value = options.get(key)
    return default if value is None else value


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
            _check_size(image, name, max_pixels)
            image.load()
            return to_rgb(image)
        except Image.DecompressionBombError as error:
            raise ImageError(f"{name}: {error} The limit here is {max_pixels:,}; reduce the picture first") from error
        except UnidentifiedImageError as error:
            raise ImageError(f"{name} is not a picture Pillow knows; use PNG, JPEG, WebP or TIFF") from error
        except BROKEN as error:
            raise ImageError(f"{name} is broken or cut short ({error}); save or download it again") from error


BROKEN = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    LookupError,
    OverflowError,
    TypeError,
    AttributeError,
    struct.error,
    zlib.error,
)
"""What Pillow's decoders raise on hostile or damaged files."""


def _check_size(image: Image.Image, name: str, max_pixels: int) -> None:
    width, height = image.size
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


def _flatten(images: Any) -> Iterator[Any]:
    """Single images out of nested lists and 4-d arrays."""
    if isinstance(images, list | tuple) or getattr(images, "ndim", 0) == 4:
        for image in cast(Iterable[Any], images):
            yield from _flatten(image)
    else:
        yield images


def _as_picture(image: Any) -> Image.Image:
    if isinstance(image, Image.Image):
        return to_rgb(image)
    if isinstance(image, str | os.PathLike | bytes) or hasattr(image, "read"):
        return open_image(image)
    if hasattr(image, "detach"):
        image = image.detach().cpu().numpy()
    if isinstance(image, np.ndarray):
        return to_rgb(_array_to_picture(image))
    raise ImageError(f"a {type(image).__name__} is no image; give a PIL picture, a uint8 array, a path or bytes")


_MODES = {1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}
"""Channels of an array -> mode of the picture."""


def _array_to_picture(array: np.ndarray) -> Image.Image:
    if array.dtype != np.uint8:
        raise ImageError(f"an array of {array.dtype} is no image, uint8 (0 .. 255) needed; scale and cast it")
    if array.ndim == 2:
        array = array[:, :, None]
    if array.ndim != 3 or array.size == 0 or not {array.shape[0], array.shape[2]} & set(_MODES):
        raise ImageError(f"an array of shape {array.shape} is no image; use (H, W), (H, W, C) or (C, H, W), C = 1 .. 4")
    if array.shape[2] not in _MODES:  # where both ends could be colour, the last one is, as Pillow has it
        array = array.transpose(1, 2, 0)
    array = np.ascontiguousarray(array)
    return Image.fromarray(array[:, :, 0] if array.shape[2] == 1 else array)
