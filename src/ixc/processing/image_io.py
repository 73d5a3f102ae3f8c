"""From a file to the picture a person sees: the one place where pictures are opened, for every way in.

    path, bytes, open file --open_image--|
    PIL image              --to_rgb------+--> upright, 8-bit sRGB on white, RGB
    path, bytes, open file --read_size------> (width, height) of that picture, no pixel decoded

The published code calls `Image.open(file).convert("RGB")` and nothing else. `open_image(..., published=True)` is that
path, with this package's limits and allow-list; use it to compare with published pixels. By default pictures differ
from it wherever a viewer shows something else:

- orientation of EXIF, TIFF and AVIF is applied, once: the result carries none (the original ignores EXIF's);
- ICC profiles, and gAMA and cHRM of PNG, are converted to sRGB; profiles within 2 of 255 of sRGB change nothing;
- CMYK with a profile goes through it; without one it is converted as by the original;
- transparency (RGBA, LA, PA, a transparent colour, the part of a GIF's screen that its first frame leaves open) is laid
  on white (the original drops it);
- greys of 9 to 16 bits are scaled from their range, WhiteIsZero is inverted (the original clips at 255);
- floats in 0 .. 1 are scaled (the original drops the fraction); Lab is converted (the original crashes);
- of an APNG whose default image is no part of the animation, the animation's first frame is taken;
- of a TIFF the first page that is no thumbnail is taken, or the page asked for;
- JPEGs and JPEG 2000 above 64 megapixels are decoded at half their size, above 256 at a quarter: no partition up to
  HD-55 uses more. A PIL image is the caller's and stays as large as it is;
- what Pillow decodes wrongly is worked around, see `decoders`.

Not honoured, as by browsers: an orientation in XMP, EXIF's colour space without a profile.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import IO, Any, cast

from PIL import ExifTags, Image, ImageFile, UnidentifiedImageError

from ixc.errors import ImageError, ImageSizeError, MissingPackageError, UsageError
from ixc.processing import jpeg2000
from ixc.processing.image_formats import (
    BROKEN,
    HEAD_BYTES,
    MAX_PIXELS,
    READ,
    ImageFormat,
    check_size,
    format_of,
    refusal,
)

HALVED_ABOVE = 64_000_000
"""Pixels above which JPEG and JPEG 2000 are decoded at half their size, and again: ten times a canvas of HD-55."""

THUMBNAIL_SIDE = 320
"""Longest side of a TIFF's page that can be a thumbnail without saying so, pixels."""

Source = str | os.PathLike[str] | bytes | IO[bytes]
"""What `open_image` reads: a path, the bytes of a file, or an open binary file."""

SAME_SHAPE = 0.05
"""Largest difference of its aspect ratio from that of the largest page."""

MAX_PAGES = 10_000
"""Most pages of a TIFF."""

_SUBFILE, _OLD_SUBFILE, _SUBIFDS = 254, 255, 330
"""TIFF tags: NewSubfileType (bit 0: a reduced version, bit 2: a mask), SubfileType (2: reduced), SubIFDs."""

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

_SIDEWAYS = (5, 6, 7, 8)
"""Orientations under which width and height change places."""


def open_image(
    source: Source, *, page: int | None = None, max_pixels: int = MAX_PIXELS, published: bool = False
) -> Image.Image:
    """Reads one picture as a person sees it: RGB, upright, sRGB; looks at its claimed size before decoding a pixel.

    Args:
        source: path, bytes or open binary file (read from its beginning, not closed).
        page: of a TIFF, from 1, thumbnails not counted; None: the first.
        max_pixels: most pixels the header may claim, 1 .. 178,000,000.
        published: the pixels of the original's `convert("RGB")` instead, see the top of this file.

    Raises:
        ImageError: no such file, not a picture, broken or cut short, size 0, a side above 60,000 px, too many pixels.
        UsageError: max_pixels out of range, no such page, a HEIC file without the extra `heic`.
    """
    if not 1 <= max_pixels <= MAX_PIXELS:
        raise UsageError(f"max_pixels is {max_pixels:,}; use 1 .. {MAX_PIXELS:,}, Pillow decodes no more")
    with _opened(source, max_pixels) as (image, name):
        if published:
            return _bare(image.convert("RGB"))
        _select(image, name, page)
        check_size(name, *image.size, max_pixels=max_pixels)
        return _seen(image)


def read_size(source: Source, *, page: int | None = None, max_pixels: int = MAX_PIXELS) -> tuple[int, int]:
    """(width, height) in pixels of what `open_image` returns, from the header alone.

    Args:
        source, page, max_pixels: as `open_image`.

    Raises:
        ImageError: no such file, not a picture, a broken header, a size of 0, a side above 60,000 px, too many pixels.
        UsageError: no such page, a HEIC file without the extra `heic`.
    """
    with _opened(source, max_pixels) as (image, name):
        _select(image, name, page)
        check_size(name, *image.size, max_pixels=max_pixels)
        return image.size[::-1] if _orientation(image) in _SIDEWAYS else image.size


def page_count(source: Source) -> int:
    """Pages of a picture: those of a TIFF without its thumbnails; 1 of any other.

    Raises:
        As `read_size`.
    """
    with _opened(source, MAX_PIXELS) as (image, name):
        return len(_pages(image, name))


def to_rgb(image: Image.Image) -> Image.Image:
    """A PIL image as a person sees it: upright, RGB, sRGB, on white. Its result given again comes back the same.

    An image that `Image.open` left at its first frame is treated as its file is by `open_image`; one that was moved to
    another frame stays there. Orientation and profile are read from what the image carries: `rotate`, `convert` and
    `resize` of Pillow keep an EXIF block, `ImageOps.exif_transpose` takes the orientation out.

    Raises:
        ImageError: greys outside 0 .. 65,535, a mode Pillow cannot convert, or a file opened lazily that turns out to
            be broken or closed.
    """
    name = os.fsdecode(getattr(image, "filename", "") or "the picture")
    with _one_line(name):
        first = getattr(image, "fp", None) is not None and image.tell() == 0
        if first:
            _select(image, name, None)
        seen = _seen(image)
        if first and image.tell() != 0:
            image.seek(0)  # the caller's object stays where it was
        return seen


def _seen(image: Image.Image) -> Image.Image:
    """Decodes the selected frame."""
    from ixc.processing import color, decoders  # numpy and littleCMS, which a refusal does not need

    loaded = decoders.load(image)
    return _bare(color.to_white_paper(loaded, _TURNS.get(_orientation(loaded))))


def _bare(image: Image.Image) -> Image.Image:
    """The same pixels, not copied, without EXIF and profile: nothing is applied to them again."""
    found = image._new(image.im)
    found.info = {}
    return found


# -- pages and orientation --------------------------------------------------------------------------------------------


def _select(image: Any, name: str, page: int | None) -> None:
    """Moves to a page of a TIFF; of other formats there is one."""
    pages = _pages(image, name)
    if page is not None and not 1 <= page <= len(pages):
        there = f"use 1 to {len(pages)}" if len(pages) > 1 else "it has one"
        raise UsageError(f"{name} has no page {page}; {there}")
    if pages[(page or 1) - 1] != image.tell():
        image.seek(pages[(page or 1) - 1])


def _pages(image: Any, name: str) -> list[int]:
    """Frames of a TIFF that are pages; of other formats the one that viewers show first."""
    if image.format != "TIFF":
        return [image.tell()]
    at, count = image.tell(), image.n_frames
    if count > MAX_PAGES:
        raise ImageError(f"{name} has {count:,} pages, at most {MAX_PAGES:,} are read; split it")
    frames = [_frame(image, number) for number in range(count)]
    image.seek(at)
    whole = max(frames, key=lambda frame: frame.pixels)
    pages = [frame.number for frame in frames if not frame.reduced and not _is_thumbnail(frame, whole)]
    if not pages and any(frame.has_others for frame in frames):
        raise ImageError(f"{name} is a camera's raw file with a preview; develop it to JPEG")
    return pages or [whole.number]


@dataclass(frozen=True, kw_only=True)
class _Frame:
    """A frame of a TIFF by its tags."""

    number: int
    width: int = 0
    height: int = 0
    reduced: bool = False
    """It says itself that it is a smaller version of another one, or a mask."""
    has_others: bool = False
    """It refers to further frames outside the list of pages."""

    @property
    def pixels(self) -> int:
        return self.width * self.height


def _frame(image: Any, number: int) -> _Frame:
    try:
        image.seek(number)
    except BROKEN:  # a page like any other, told when it is asked for
        return _Frame(number=number)
    tags = image.tag_v2
    reduced = bool(tags.get(_SUBFILE, 0) & 5) or tags.get(_OLD_SUBFILE) == 2
    return _Frame(number=number, width=image.width, height=image.height, reduced=reduced, has_others=_SUBIFDS in tags)


def _is_thumbnail(frame: _Frame, whole: _Frame) -> bool:
    """A small copy that does not say so: at most 320 px and a third of the largest page, in the same shape."""
    longest = max(frame.width, frame.height)
    if not 0 < longest <= THUMBNAIL_SIDE or 3 * longest > max(whole.width, whole.height):
        return False
    return abs(frame.width * whole.height / (frame.height * whole.width) - 1) < SAME_SHAPE


def _orientation(image: Any) -> int:
    """That of EXIF, 1 where there is none or an unreadable one. Pillow turns a TIFF itself, its size at once."""
    if image.format == "TIFF":
        return 1
    data = image.info.get("exif") or (_late_exif(image) if image.format == "PNG" else None)
    if not isinstance(data, bytes):
        return 1
    try:
        exif = Image.Exif()
        exif.load(data)
        return int(exif.get(ExifTags.Base.Orientation, 1))
    except BROKEN:
        return 1


def _late_exif(image: Any) -> bytes | None:
    """The EXIF block of a PNG that stands behind its pixels, which Pillow has not reached before they are decoded."""
    file = image.fp if getattr(image, "tile", None) else None
    if file is None:
        return None
    at = file.tell()
    try:
        file.seek(len(b"\x89PNG\r\n\x1a\n"))
        while len(header := file.read(8)) == 8 and header[4:] != b"IEND":
            size = int.from_bytes(header[:4], "big")
            if header[4:] == b"eXIf":
                return file.read(size)
            file.seek(size + 4, os.SEEK_CUR)
        return None
    finally:
        file.seek(at)


# -- opening ----------------------------------------------------------------------------------------------------------


@contextmanager
def _opened(source: Source, max_pixels: int) -> Iterator[tuple[Any, str]]:
    """The image, its header read, and its name for messages; whatever goes wrong inside becomes one line."""
    name = _name(source)
    with _stream(source, name) as file, _one_line(name):
        found = _format(file, name)
        try:
            image = _heic(file, name) if found.name == "HEIC" else Image.open(file, formats=found.pillow)
        except UnidentifiedImageError as error:
            raise ImageError(_unreadable(file, name, found)) from error
        check_size(name, *image.size, max_pixels=max_pixels)
        if found.name == "JPEG":
            _halve(image)
        if found.name == "JPEG 2000":
            jpeg2000.shrink(cast(ImageFile.ImageFile, image), jpeg2000.read_header(file), most=HALVED_ABOVE, name=name)
        yield image, name


@contextmanager
def _one_line(name: str) -> Iterator[None]:
    """Pillow's errors as ours; its warnings (about metadata, and sizes that are checked here) unheard."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            yield
        except Image.DecompressionBombError as error:
            raise ImageSizeError(
                f"{name} claims more than {MAX_PIXELS:,} px ({error}); reduce the picture first"
            ) from error
        except BROKEN as error:
            words = " ".join(str(error).split())[:200] or type(error).__name__
            raise ImageError(f"{name} is broken or cut short ({words}); save or download it again") from error


@contextmanager
def _stream(source: Source, name: str) -> Iterator[IO[bytes]]:
    if isinstance(source, bytes):
        yield BytesIO(source)
        return
    if not isinstance(source, str | os.PathLike):
        yield source if source.seekable() else BytesIO(source.read())
        return
    try:
        file = Path(source).open("rb")  # noqa: SIM115 - closed below, where errors are not those of opening
    except FileNotFoundError as error:
        raise ImageError(f"no file {name}; check the path") from error
    except OSError as error:
        raise ImageError(
            f"{name} cannot be opened: {error.strerror or error}; check the path and its rights"
        ) from error
    with file:
        yield file


def _name(source: Source) -> str:
    if isinstance(source, bytes):
        return f"the picture ({len(source):,} bytes)"
    if isinstance(source, str | os.PathLike):
        return os.fspath(source)
    return str(getattr(source, "name", "the picture"))


def _format(file: IO[bytes], name: str) -> ImageFormat:
    file.seek(0)
    head = file.read(HEAD_BYTES)
    file.seek(0)
    found = format_of(head)
    if found is None:
        raise ImageError(refusal(head, name))
    return found


def _heic(file: IO[bytes], name: str) -> Image.Image:
    try:
        from pillow_heif import HeifImageFile  # pyright: ignore[reportMissingImports]  # of the extra heic
    except ImportError as error:
        raise MissingPackageError(
            f"{name} is a HEIC picture, which {error.name} reads; pip install 'ixc-4khd[heic]', or save it as JPEG"
        ) from error
    return HeifImageFile(file)


def _halve(image: Any) -> None:
    """Tells a large JPEG to decode at a half, a quarter or an eighth."""
    scale = 1
    while scale < 8 and image.width * image.height > HALVED_ABOVE * scale * scale:
        scale *= 2
    if scale > 1:
        image.draft(None, (image.width // scale, image.height // scale))


def _unreadable(file: IO[bytes], name: str, found: ImageFormat) -> str:
    """The line for a file of a known format that Pillow does not open."""
    depth = _jpeg_depth(file) if found.name == "JPEG" else 8
    if depth != 8:
        return f"{name} is a JPEG of {depth} bits a sample, 8 are read; save it as PNG"
    what = f"a {found.name} file with a broken header, or of an unusual kind"
    return f"{name} is not a picture that can be read ({what}); use {READ}"


def _jpeg_depth(file: IO[bytes]) -> int:
    """Bits a sample, from the start of frame (ITU-T T.81, B.2.2); 8 where there is none."""
    file.seek(2)
    while len(marker := file.read(4)) == 4 and marker[0] == 0xFF:
        if 0xC0 <= marker[1] <= 0xCF and marker[1] not in (0xC4, 0xC8, 0xCC):
            return (file.read(1) or b"\x08")[0]
        file.seek(int.from_bytes(marker[2:], "big") - 2, os.SEEK_CUR)
    return 8
