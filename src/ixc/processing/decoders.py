"""Pixels of an opened file, with work-arounds for what Pillow 13.0 decodes wrongly. Each has a test.

Pillow 13.0.0                                                       here
JPEG 2000 of 9 to 16 bits: rounding overflows, white becomes 0      decoded again at one bit more, zeros compared
JPEG 2000: its colour profile is not read                           read from the file, see `jpeg2000`
TIFF, 16 bits, planes stored apart, not compressed: garbled         read plane by plane with numpy
TIFF, big-endian 16-bit WhiteIsZero, 12 bits WhiteIsZero: refused   entered into Pillow's table of layouts
TIFF: turned by an orientation in XMP, the size before is not       XMP is put aside (viewers do not look at it)
APNG: a default image that is no part of the animation comes first  the animation's first frame
GIF: what the first frame leaves open is colour 0                   transparent
PNG: the transparent grey of 2 and 4 bits, colour of 16 bits        scaled as the pixels are
"""

from __future__ import annotations

from io import BytesIO
from typing import Any, cast

import numpy as np
from PIL import Image, ImageChops, ImageFile, TiffImagePlugin

from ixc.processing import jpeg2000

BITS_PER_SAMPLE, COMPRESSION, PHOTOMETRIC, STRIP_OFFSETS, SAMPLES = 258, 259, 262, 273, 277
ROWS_PER_STRIP, PLANAR, TILE_WIDTH, TILE_LENGTH, TILE_OFFSETS, EXTRA_SAMPLES = 278, 284, 322, 323, 324, 338
"""Tags of TIFF 6.0."""

STRIP_PIXELS = 4_000_000
"""Pixels converted at a time."""

for _prefix in (TiffImagePlugin.II, TiffImagePlugin.MM):
    # Pillow 13.0 knows WhiteIsZero of 16 bits in little-endian files alone, and 12 bits BlackIsZero in those alone;
    # the bits of 12-bit samples are packed from the highest on in either order of bytes. `color` does the inversion.
    _sixteen = "I;16" if _prefix == TiffImagePlugin.II else "I;16B"
    TiffImagePlugin.OPEN_INFO.setdefault((_prefix, 0, (1,), 1, (16,), ()), (_sixteen, _sixteen))
    for _photometric in (0, 1):
        TiffImagePlugin.OPEN_INFO.setdefault((_prefix, _photometric, (1,), 1, (12,), ()), ("I;16", "I;12"))


def load(image: Image.Image) -> Image.Image:
    """The pixels of the frame an image stands at; an image that is loaded already comes back as it is.

    Raises:
        Whatever Pillow's decoders raise: `image_formats.BROKEN`.
    """
    if image.format == "PNG" and image.info.get("default_image") and cast(Any, image).tell() == 0:
        cast(Any, image).seek(1)
    if not isinstance(image, ImageFile.ImageFile) or not getattr(image, "tile", None):
        image.load()
        return _with_open_border(image)
    if image.format == "TIFF":
        return _load_tiff(image)
    if image.format == "JPEG2000":
        return _load_jpeg2000(image)
    scale = _transparency_scale(image)
    image.load()
    if scale is not None and "transparency" in image.info:
        image.info["transparency"] = scale(image.info["transparency"])
    return _with_open_border(image)


# -- GIF and PNG ------------------------------------------------------------------------------------------------------


def _with_open_border(image: Image.Image) -> Image.Image:
    """A GIF whose first frame is smaller than its screen: viewers leave the rest transparent."""
    extent = getattr(image, "dispose_extent", None) if image.format == "GIF" else None
    if extent is None or extent == (0, 0, *image.size) or cast(Any, image).tell() != 0:
        return image
    found = Image.new("RGBA", image.size, (0, 0, 0, 0))
    left, top, right, bottom = extent
    rows = max(1, STRIP_PIXELS // max(right - left, 1))
    for row in range(top, bottom, rows):
        strip = image.crop((left, row, right, min(row + rows, bottom)))
        found.paste(strip.convert("RGBA"), (left, row))
    return found


def _transparency_scale(image: ImageFile.ImageFile) -> Any:
    """How the transparent colour of a PNG is scaled to the pixels Pillow makes; None where it is not."""
    layout = image.tile[0].args if image.format == "PNG" and image.tile else None
    if layout in ("L;2", "L;4"):
        step = 255 // (2 ** int(str(layout)[-1]) - 1)
        return lambda grey: grey * step if isinstance(grey, int) else grey
    if layout == "RGB;16B":
        return lambda colour: tuple(value >> 8 for value in colour) if isinstance(colour, tuple) else colour
    return None


# -- TIFF -------------------------------------------------------------------------------------------------------------


def _load_tiff(image: ImageFile.ImageFile) -> Image.Image:
    image.info.pop("xmp", None)
    tags = cast(Any, image).tag_v2
    bits = set(tags.get(BITS_PER_SAMPLE, (1,)))
    if tags.get(PLANAR, 1) == 2 and tags.get(COMPRESSION, 1) == 1 and bits == {16} and tags.get(SAMPLES, 1) > 1:
        return _planar_16(image, tags)
    image.load()
    return image


def _planar_16(image: ImageFile.ImageFile, tags: Any) -> Image.Image:
    """8-bit pixels of an uncompressed TIFF whose 16-bit planes stand one after the other; turned as Pillow would."""
    width, height = tags[256], tags[257]
    number = np.dtype(">u2" if tags.prefix == TiffImagePlugin.MM else "<u2")
    tiled = TILE_OFFSETS in tags
    block = (tags[TILE_LENGTH], tags[TILE_WIDTH]) if tiled else (min(tags.get(ROWS_PER_STRIP, height), height), width)
    offsets = tags[TILE_OFFSETS if tiled else STRIP_OFFSETS]
    corners = [(y, x) for y in range(0, height, block[0]) for x in range(0, width, block[1])]
    bands = {"RGB": 3, "CMYK": 4, "RGBA": 4}[image.mode]
    planes = []
    for band in range(bands):
        plane = np.empty((height, width), dtype=np.uint8)
        for (y, x), offset in zip(corners, offsets[band * len(corners) :], strict=False):
            rows = block[0] if tiled else min(block[0], height - y)
            found = _block(image, offset, rows * block[1] * 2, number).reshape(rows, block[1])
            part = plane[y : y + rows, x : x + block[1]]
            part[...] = (found[: part.shape[0], : part.shape[1]] >> 8).astype(np.uint8)
        planes.append(Image.fromarray(plane))
    premultiplied = image.mode == "RGBA" and 1 in tags.get(EXTRA_SAMPLES, ())
    merged = Image.merge(image.mode, planes)
    if premultiplied:
        merged = Image.frombuffer("RGBa", merged.size, merged.tobytes()).convert("RGBA")
    merged.info = {key: image.info[key] for key in ("icc_profile",) if key in image.info}
    exif = Image.Exif()
    exif[274] = tags.get(274, 1)
    merged.info["exif"] = exif.tobytes()
    return merged


def _block(image: ImageFile.ImageFile, offset: int, size: int, number: np.dtype[Any]) -> np.ndarray:
    assert image.fp is not None
    image.fp.seek(offset)
    data = image.fp.read(size)
    if len(data) < size:
        raise OSError(f"{size - len(data):,} bytes of a plane are missing")
    return np.frombuffer(data, dtype=number)


# -- JPEG 2000 --------------------------------------------------------------------------------------------------------


def _load_jpeg2000(image: ImageFile.ImageFile) -> Image.Image:
    assert image.fp is not None
    image.fp.seek(0)
    data = image.fp.read()
    deeper = None if image.mode == "I;16" else one_bit_deeper(data)
    if profile := jpeg2000.read_header(BytesIO(data)).profile:
        image.info.setdefault("icc_profile", profile)
    reduction = jpeg2000.reduction_of(image)
    image.load()
    if deeper is None or 0 not in (low for low, _ in _extrema(image)):
        return image
    with Image.open(BytesIO(deeper), formats=("JPEG2000",)) as coarse:
        jpeg2000.set_reduction(cast(ImageFile.ImageFile, coarse), reduction, image.size)
        # The same picture, its values between 64 (black) and 192 (white).
        white = [band.point([0] * 129 + [255] * 127) for band in coarse.split()]
    bands = [_overflow_to_white(band, where) for band, where in zip(image.split(), white, strict=True)]
    fixed = Image.merge(image.mode, bands)
    fixed.info = image.info
    return fixed


def _overflow_to_white(band: Image.Image, high: Image.Image) -> Image.Image:
    zero = band.point([255] + [0] * 255)
    return ImageChops.lighter(band, ImageChops.darker(zero, high))


def _extrema(image: Image.Image) -> list[tuple[int, int]]:
    found: Any = image.getextrema()
    return list(found) if isinstance(found[0], tuple) else [found]


def one_bit_deeper(data: bytes) -> bytes | None:
    """The same JPEG 2000 file, declared with one bit a sample more; None unless it has 9 to 16 bits.

    Pillow rounds a sample of p bits to 8 by adding half a step and shifting: the highest half step overflows to 0. With
    p + 1 bits declared, the same samples decode to the middle half of the range, where nothing overflows: 7 bits of
    resolution, enough to tell an overflowed white from a black. Reversible wavelets need no further change; for the
    irreversible one the exponents of the quantiser grow by one, and the guard bits shrink by one, so that step sizes
    and bit planes stay (ISO/IEC 15444-1, A.5.1, A.6.4, E.1).
    """
    start = data.find(b"\xff\x4f\xff\x51")
    if start < 0 or len(data) < start + 45:
        return None
    found = bytearray(data)
    count = int.from_bytes(data[start + 40 : start + 42], "big")
    depths = {(data[at] & 0x7F) + 1 for at in range(start + 42, min(start + 42 + 3 * count, len(data)), 3)}
    if not depths or not all(8 < depth <= 16 for depth in depths):
        return None
    for at in range(start + 42, start + 42 + 3 * count, 3):
        found[at] += 1
    at = start + 4 + int.from_bytes(data[start + 4 : start + 6], "big")
    while at + 4 <= len(data) and data[at] == 0xFF and data[at + 1] not in (0x90, 0xD9):
        size = int.from_bytes(data[at + 2 : at + 4], "big")
        if data[at + 1] in (0x5C, 0x5D):
            first = at + 4 + (0 if data[at + 1] == 0x5C else 1 if count < 257 else 2)
            if not _deepen_quantiser(found, first, at + 2 + size):
                return None
        at += 2 + size
    return bytes(found)


def _deepen_quantiser(data: bytearray, first: int, end: int) -> bool:
    """Exponents of a QCD or QCC segment plus one, guard bits minus one. False where they have no room."""
    if data[first] & 0x1F == 0:
        return True
    if data[first] < 0x20:
        return False
    data[first] -= 0x20
    for at in range(first + 1, end - 1, 2):
        if data[at] >= 0xF8:
            return False
        data[at] += 0x08
    return True
