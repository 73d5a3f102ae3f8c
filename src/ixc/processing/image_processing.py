"""The image processor: pictures to tiles, behind the contract of transformers' image processors. Spec (a).

    image --open_image / to_rgb--> RGB picture --partition--> where it goes --resize_to_canvas, tiles--> pixel_values

Nothing is normalised here: uint8 travels to the device, where the model normalises and makes the overview.

Shapes: N tiles of all images together, n images, (grid_h, grid_w) tiles of one image.
"""

import os
from collections.abc import Iterable, Iterator
from typing import Any, TypedDict, cast

import numpy as np
from PIL import Image
from transformers.image_processing_backends import PilBackend
from transformers.image_processing_base import BatchFeature

from ixc.core.chat_format import CHAT_DEFAULTS
from ixc.core.tiling import Partition, partition
from ixc.errors import ImageError, UsageError
from ixc.processing.canvas import resize_to_canvas, tiles
from ixc.processing.image_io import open_image, to_rgb


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

    hd = CHAT_DEFAULTS.hd
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
        pictures = [_as_picture(image) for image in flatten(images)]
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

    def partition_of(self, height: int, width: int, images_kwargs: dict[str, Any] | None = None) -> Partition:
        """Where the tiles of a height x width image go under this processor's options, or those given."""
        options = images_kwargs or {}
        hd, rule = _given(options, "hd", self.hd), _given(options, "partition", self.partition)
        return partition(width, height, hd=hd, rule=rule)


def _given(options: dict[str, Any], key: str, default: Any) -> Any:
    value = options.get(key)
    return default if value is None else value


def flatten(images: Any) -> Iterator[Any]:
    """Single images out of nested lists and 4-d arrays."""
    if isinstance(images, list | tuple) or getattr(images, "ndim", 0) == 4:
        for image in cast(Iterable[Any], images):
            yield from flatten(image)
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
