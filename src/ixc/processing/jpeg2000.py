"""JPEG 2000: what Pillow 13.0 does not tell of a file (ISO/IEC 15444-1), and decoding at a smaller resolution.

    bytes or open file --read_header--> Header: smaller resolutions there are, the colour profile
    opened image --shrink--> the same image, to be decoded at 1 / 2**n of its size

A wavelet codestream holds its picture at halves, quarters, ... of its size. Pillow's own `reduce` is not used: it
rounds sizes half up where the format rounds up, and tells them only after decoding.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO, Any, cast

from PIL import ImageFile

from ixc.errors import ImageSizeError

CODESTREAM = b"\xff\x4f\xff\x51"
"""Markers SOC and SIZ, with which a codestream begins."""

MAX_BOXES = 1_000
"""Most boxes of a file that are looked at."""

MAX_PROFILE_BYTES = 16 << 20
"""Largest colour profile that is read."""

_SIZ, _COD, _COC, _SOT = 0x51, 0x52, 0x53, 0x90
"""Markers: size, coding style, coding style of a component, start of a tile (Table A.2)."""


@dataclass(frozen=True, kw_only=True)
class Header:
    """What stands before the pixels."""

    box: tuple[int, int, int, int] = (0, 0, 0, 0)
    """Left, top, right, bottom of the picture on the reference grid."""
    levels: int = 0
    """Smaller resolutions that every component has, 0 .. 32."""
    profile: bytes | None = None
    """ICC profile of the `colr` box."""

    def size(self, reduction: int) -> tuple[int, int]:
        """(width, height) at 1 / 2**reduction (B-15)."""
        left, top, right, bottom = (-(-edge >> reduction) for edge in self.box)
        return right - left, bottom - top


def read_header(file: IO[bytes]) -> Header:
    """Of a file or a bare codestream; what is damaged counts as not there. The file's position is moved."""
    profile, start = None, 0
    file.seek(0)
    if file.read(4) != CODESTREAM:
        found = {kind: (at, size) for kind, at, size in _boxes(file, 0, None)}
        at, size = found.get(b"jp2h", (0, 0))
        profile = _profile(file, at, at + size) if size else None
        if b"jp2c" not in found:
            return Header(profile=profile)
        start = found[b"jp2c"][0]
    box, levels = _codestream(file, start)
    return Header(box=box, levels=levels, profile=profile)


def _boxes(file: IO[bytes], at: int, end: int | None) -> Iterator[tuple[bytes, int, int]]:
    """Kind, place and size of the contents of each box (I.4); the last one may have no end, its size is 0 then."""
    for _ in range(MAX_BOXES):
        file.seek(at)
        head = file.read(16)
        if len(head) < 8 or (end is not None and at + 8 > end):
            return
        size, kind = int.from_bytes(head[:4], "big"), head[4:8]
        begin = 16 if size == 1 else 8
        size = int.from_bytes(head[8:16], "big") if size == 1 else size
        if kind == b"jp2c" or size == 0:
            yield kind, at + begin, 0
            return
        if size < begin or size > 1 << 40:
            return
        yield kind, at + begin, size - begin
        at += size


def _profile(file: IO[bytes], at: int, end: int) -> bytes | None:
    """The first profile among the colour boxes (I.5.3.3): method 2 or 3, precedence, approximation, profile."""
    for kind, place, size in _boxes(file, at, end):
        if kind == b"colr" and 3 < size <= MAX_PROFILE_BYTES:
            file.seek(place)
            data = file.read(size)
            if data[0] in (2, 3):
                return data[3:]
    return None


def _codestream(file: IO[bytes], start: int) -> tuple[tuple[int, int, int, int], int]:
    """Box and levels of a codestream's main header (A.5.1, A.6.1, A.6.2)."""
    box, components, levels = (0, 0, 0, 0), 1, [0]
    file.seek(start + 2)
    while len(head := file.read(4)) == 4 and head[0] == 0xFF and head[1] != _SOT:
        data = file.read(max(int.from_bytes(head[2:], "big") - 2, 0))
        if head[1] == _SIZ and len(data) >= 36:
            right, bottom, left, top = struct.unpack_from(">4I", data, 2)
            box, components = (left, top, right, bottom), int.from_bytes(data[34:36], "big")
        elif head[1] == _COD and len(data) > 5:
            levels = [data[5]]
        elif head[1] == _COC and len(data) > (4 if components > 256 else 3):
            levels.append(data[3 if components > 256 else 2])
    return box, min(*levels, 32)


def shrink(image: ImageFile.ImageFile, header: Header, *, most: int, name: str) -> None:
    """Tells an opened image to decode at the first resolution of at most `most` pixels; its size is that at once.

    Raises:
        ImageSizeError: no resolution of the file is so small. OpenJPEG takes four bytes a sample beside the picture.
    """
    # Pillow 13.0 refuses to decode a smaller resolution of a picture that begins elsewhere than at (0, 0).
    levels = header.levels if header.box == (0, 0, *image.size) else 0
    reduction = 0
    while image.width * image.height > most << 2 * reduction:
        reduction += 1
    if reduction > levels:
        raise ImageSizeError(
            f"{name} has {image.width:,} x {image.height:,} px and {levels} smaller resolutions, of JPEG 2000 at "
            f"most {most:,} px are decoded; save it as PNG or reduce it first"
        )
    if reduction:
        set_reduction(image, reduction, header.size(reduction))


def set_reduction(image: ImageFile.ImageFile, reduction: int, size: tuple[int, int]) -> None:
    """Decode at 1 / 2**reduction, which is `size`."""
    opened = cast(Any, image)
    codec, _, layers, *others = opened.tile[0].args
    opened._size = size
    opened.tile = [opened.tile[0]._replace(extents=(0, 0, *size), args=(codec, reduction, layers, *others))]


def reduction_of(image: ImageFile.ImageFile) -> int:
    """The one that was set, 0 if none."""
    return int(cast(Any, image).tile[0].args[1])
