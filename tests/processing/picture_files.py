"""Small picture files for tests, drawn here: one scene, stored in every way that viewers show the same.

SAMPLES  name -> Sample: the bytes of a file, the picture a person sees, how far a decoder may be from it
"""

from __future__ import annotations

import base64
import io
import struct
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from PIL import Image

RED, GREEN, BLUE, GREY = (200, 40, 40), (40, 160, 60), (40, 60, 200), (128, 128, 128)
WIDTH, HEIGHT = 96, 48

SIXTEEN = 257
"""Step of a 16-bit grey for a step of an 8-bit one."""

JPEG_2000 = base64.b64decode(
    "/0//UQAvAAAAAAAQAAAADAAAAAAAAAAAAAAAEAAAAAwAAAAAAAAAAAADDwEBDwEBDwEB/1IADAAAAAEBAAQEAAH/XAAEQID/ZAAlAAFDcmVhdGVk"
    "IGJ5IE9wZW5KUEVHIHZlcnNpb24gMi41LjT/kAAKAAAAAAE7AAH/k9/4mgIRUEJP4CiTrXdEtSGzHzULxQ6TaeSr4JCIR9ymhgWoJSBMAYExOtjC"
    "AYR5inDAtQSkCYAwRbWES4j7lNDAtQSkCYAwcyRLWEfcpoYFqCUgTAGEg/sTEfcpoYFqCUgTAGEg3a+I+5TQwLUEpAmAMCTDFty7gBH3KaGBaglI"
    "EwBgf9MrCPuU0MC1BL/m1aAwQeasxH3KaGBYjlsqqqqsinufhgv6SIEfcpoYFiOWyqqqqyKe5+GDPpPgR9ymhgWI5bKqqqrIp7n4YSCKARH3KaGB"
    "YjlsqqqqsinufhhIGX9EfcpoYFiOWyqqqqyKe5+GCAWMXwCM+pRIRZ5T7xqUnOdEw9/4kICMRQIe3IlA0Y3/du//f/9/3/iQgFA9DQa3HWDDZx//"
    "f/9//3//2Q=="
)
"""16 x 12 px of 16 bits, reversible: the corners of `jpeg_2000_scene` on white. Written by OpenJPEG 2.5.4 from it."""


@dataclass(frozen=True, kw_only=True)
class Sample:
    """A file and what it shows."""

    data: bytes
    seen: Image.Image
    """RGB."""
    most: int = 0
    """Largest difference of any value: rounding, or a lossy format."""


def scene() -> Image.Image:
    """No symmetry: red, green, blue and grey corners, a black bar above the middle, white between."""
    image = Image.new("RGB", (WIDTH, HEIGHT), "white")
    for colour, corner in ((RED, (0, 0)), (GREEN, (72, 0)), (BLUE, (0, 32)), (GREY, (72, 32))):
        image.paste(colour, (*corner, corner[0] + 24, corner[1] + 16))
    image.paste("black", (32, 16, 64, 24))
    return image


def grey_scene() -> Image.Image:
    """The same in greys."""
    return scene().convert("L").convert("RGB")


def jpeg_2000_scene() -> Image.Image:
    """What `JPEG_2000` shows."""
    found = np.full((12, 16, 3), 255, dtype=np.uint8)
    found[0:4, 0:4], found[0:4, 12:16] = 0, (255, 0, 0)
    found[8:12, 0:4], found[8:12, 12:16] = (0, 255, 0), (0, 0, 255)
    found[5:7, 2:14] = 128
    return Image.fromarray(found)


def encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    """A file of Pillow's."""
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


# -- orientation ------------------------------------------------------------------------------------------------------

STORED = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}
"""EXIF orientation -> the operation of Pillow that makes the stored picture of the upright one."""


def stored(orientation: int, upright: Image.Image | None = None) -> Image.Image:
    """The scene as a camera stores it that writes this orientation."""
    upright = upright or scene()
    return upright if orientation == 1 else upright.transpose(Image.Transpose(STORED[orientation]))


def exif(orientation: int) -> bytes:
    """An EXIF block."""
    block = Image.Exif()
    block[0x0112] = orientation
    return block.tobytes()


def late_exif(orientation: int) -> bytes:
    """A PNG whose EXIF block stands behind the pixels."""
    whole = encoded(stored(orientation), "PNG")
    at = whole.index(b"IEND") - 4
    return whole[:at] + chunk(b"eXIf", exif(orientation).removeprefix(b"Exif\0\0")) + whole[at:]


# -- PNG --------------------------------------------------------------------------------------------------------------


def chunk(kind: bytes, data: bytes) -> bytes:
    """A chunk of a PNG."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


Chunks = Sequence[tuple[bytes, bytes]]


def png(rows: Sequence[bytes], *, width: int, depth: int, colour: int, extra: Chunks = ()) -> bytes:
    """A PNG of any depth, with chunks before its pixels."""
    header = struct.pack(">IIBBBBB", width, len(rows), depth, colour, 0, 0, 0)
    pixels = zlib.compress(b"".join(b"\0" + row for row in rows))
    middle = b"".join(chunk(*each) for each in extra)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + middle + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


def rgb_png(pixels: np.ndarray, *extra: tuple[bytes, bytes]) -> bytes:
    """8 bits, RGB, with chunks."""
    return png([row.tobytes() for row in pixels], width=pixels.shape[1], depth=8, colour=2, extra=extra)


def linear() -> Sample:
    """gAMA 1.0: the file holds light, of greys that 8 bits of light can tell apart."""
    seen = np.full((8, 12, 3), 255, dtype=np.uint8)
    seen[:, :4], seen[:, 4:8] = 0, 188
    light = np.round(255 * _light(seen / 255)).astype(np.uint8)
    data = rgb_png(light, (b"gAMA", struct.pack(">I", 100_000)))
    return Sample(data=data, seen=Image.fromarray(seen), most=1)


def swapped_primaries() -> Sample:
    """gAMA and cHRM that call red what sRGB calls blue: the file's channels stand the other way round."""
    chromaticities = (31_270, 32_900, 15_000, 6_000, 30_000, 60_000, 64_000, 33_000)
    extra = ((b"gAMA", struct.pack(">I", 45_455)), (b"cHRM", struct.pack(">8I", *chromaticities)))
    return Sample(data=rgb_png(np.asarray(scene())[:, :, ::-1], *extra), seen=scene(), most=1)


def grey_png(bits: int, *, clear: int | None = None) -> Sample:
    """Greys of 2, 4 or 16 bits; the value `clear` is transparent."""
    steps = 2**bits - 1
    values = (np.arange(16)[None] % (steps + 1) if bits < 8 else np.linspace(0, steps, 16)[None]).astype(np.int64)
    seen = np.round(values * 255 / steps).astype(np.uint8)
    if clear is not None:
        seen[values == clear] = 255
    if bits == 16:
        row = values.astype(">u2").tobytes()
    else:
        row = int("".join(f"{value:0{bits}b}" for value in values[0]), 2).to_bytes(16 * bits // 8, "big")
    extra = [] if clear is None else [(b"tRNS", struct.pack(">H", clear))]
    data = png([row], width=16, depth=bits, colour=0, extra=extra)
    return Sample(data=data, seen=Image.fromarray(seen).convert("RGB"))


def deep_png_clear_colour() -> Sample:
    """16 bits a channel, one colour of which is transparent."""
    values = np.array([[[1000, 2000, 3000], [65_535, 0, 0]]], dtype=">u2")
    data = png([values.tobytes()], width=2, depth=16, colour=2, extra=[(b"tRNS", values[0, 0].tobytes())])
    return Sample(data=data, seen=Image.fromarray(np.array([[[255, 255, 255], [255, 0, 0]]], dtype=np.uint8)))


def apng_with_default() -> bytes:
    """An APNG whose default image, all red, is no part of the animation."""
    options = {"save_all": True, "default_image": True, "duration": 500}
    return encoded(Image.new("RGB", (WIDTH, HEIGHT), "red"), "PNG", append_images=[scene(), stored(3)], **options)


# -- GIF --------------------------------------------------------------------------------------------------------------


def gif_small_first() -> Sample:
    """GIF87a: the only frame stands at (16, 8) of a screen of 64 x 40, which viewers leave transparent around it."""
    frame = Image.new("P", (24, 16), 1)
    frame.putpalette([0, 0, 0, 255, 0, 0, 0, 0, 255] + [0] * 759)
    data = bytearray(encoded(frame, "GIF"))
    data[:6], data[6:10] = b"GIF87a", struct.pack("<HH", 64, 40)
    at = data.index(b"," + struct.pack("<HHHH", 0, 0, 24, 16))
    data[at + 1 : at + 5] = struct.pack("<HH", 16, 8)
    seen = Image.new("RGB", (64, 40), "white")
    seen.paste("red", (16, 8, 40, 24))
    return Sample(data=bytes(data), seen=seen)


# -- TIFF -------------------------------------------------------------------------------------------------------------


def tiff(
    frames: Sequence[tuple[dict[int, tuple[str, Sequence[int]]], Sequence[bytes]]],
    *,
    order: str = "<",
    places_tags: tuple[int, int] = (273, 279),
) -> bytes:
    """A TIFF of frames: tags (number -> format of `struct`, values) and strips; offsets and counts are filled in.

    Args:
        places_tags: where these two stand: strips, or 324 and 325 for tiles.
    """
    data = bytearray(({"<": b"II", ">": b"MM"}[order]) + struct.pack(order + "HI", 42, 0))
    pointer = 4
    for tags, strips in frames:
        places = []
        for strip in strips:
            places.append(len(data))
            data += strip + b"\0" * (len(strip) % 2)
        whole = {**tags, places_tags[0]: ("I", places), places_tags[1]: ("I", [len(strip) for strip in strips])}
        entries = []
        for number, (kind, values) in sorted(whole.items()):
            packed = struct.pack(f"{order}{len(values)}{kind}", *values)
            if len(packed) > 4:
                packed, at = struct.pack(order + "I", len(data)), packed
                data += at + b"\0" * (len(at) % 2)
            code = {"H": 3, "I": 4}[kind]
            entries.append(struct.pack(order + "HHI", number, code, len(values)) + packed.ljust(4, b"\0"))
        struct.pack_into(order + "I", data, pointer, len(data))
        data += struct.pack(order + "H", len(entries)) + b"".join(entries)
        pointer = len(data)
        data += b"\0" * 4
    return bytes(data)


def tags(width: int, height: int, *, bits: Sequence[int], photometric: int, **others: int) -> dict[int, Any]:
    """The usual tags of a frame without compression, one strip a plane."""
    found = {256: ("I", [width]), 257: ("I", [height]), 258: ("H", list(bits)), 259: ("H", [1])}
    found |= {262: ("H", [photometric]), 277: ("H", [len(bits)]), 278: ("I", [height])}
    return found | {int(name.removeprefix("tag")): ("I", [value]) for name, value in others.items()}


def rgb_frame(image: Image.Image, **others: int) -> tuple[dict[int, Any], list[bytes]]:
    """A frame of 8-bit RGB."""
    return tags(*image.size, bits=(8, 8, 8), photometric=2, **others), [image.tobytes()]


def grey_tiff(*, order: str, white_is_zero: bool, bits: int = 16) -> Sample:
    """Greys of 16 or 12 bits."""
    grey = np.asarray(scene().convert("L")).astype(np.int64)
    values = grey * SIXTEEN if bits == 16 else np.round(grey * 4095 / 255).astype(np.int64)
    if white_is_zero:
        values = 2**bits - 1 - values
    if bits == 16:
        strip = values.astype(order + "u2").tobytes()
    else:  # two samples in three bytes, from the highest bit on
        pairs = values.reshape(-1, 2)
        packed = np.stack([pairs[:, 0] >> 4, (pairs[:, 0] & 15) << 4 | pairs[:, 1] >> 8, pairs[:, 1] & 255], axis=1)
        strip = packed.astype(np.uint8).tobytes()
    frame = tags(WIDTH, HEIGHT, bits=(bits,), photometric=0 if white_is_zero else 1)
    return Sample(data=tiff([(frame, [strip])], order=order), seen=grey_scene())


def planar_tiff(order: str) -> Sample:
    """RGB of 16 bits, one plane after the other, not compressed, stored sideways."""
    turned = stored(6)
    values = np.asarray(turned).astype(np.int64) * SIXTEEN
    strips = [values[:, :, band].astype(order + "u2").tobytes() for band in range(3)]
    frame = tags(*turned.size, bits=(16, 16, 16), photometric=2) | {284: ("H", [2]), 274: ("H", [6])}
    return Sample(data=tiff([(frame, strips)], order=order), seen=scene())


def pages_tiff() -> bytes:
    """Three pages: the scene, upside down, mirrored."""
    return tiff([rgb_frame(stored(orientation)) for orientation in (1, 3, 2)])


# -- profiles ---------------------------------------------------------------------------------------------------------


def _light(values: np.ndarray) -> np.ndarray:
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)


def _s15(value: float) -> bytes:
    return struct.pack(">i", round(value * 65_536))


def icc(space: bytes, kind: bytes, connection: bytes, elements: dict[bytes, bytes]) -> bytes:
    """An ICC profile, version 2.1 (ICC.1:2001-04)."""
    name = b"desc\0\0\0\0" + struct.pack(">I", 5) + b"test\0" + b"\0" * 78
    elements = {b"desc": name, b"wtpt": _xyz(0.9642, 1, 0.8249)} | elements
    at, table, body = 128 + 4 + 12 * len(elements), b"", b""
    for name, data in elements.items():
        data = data.ljust(-(-len(data) // 4) * 4, b"\0")
        table += name + struct.pack(">II", at + len(body), len(data))
        body += data
    whole = struct.pack(">I", len(elements)) + table + body
    header = struct.pack(">I4sI4s4s4s", 128 + len(whole), b"test", 0x02100000, kind, space, connection)
    header += struct.pack(">6H", 2026, 1, 1, 0, 0, 0) + b"acsp" + b"\0" * 28 + _s15(0.9642) + _s15(1) + _s15(0.8249)
    return header.ljust(128, b"\0") + whole


def _xyz(x: float, y: float, z: float) -> bytes:
    return b"XYZ \0\0\0\0" + _s15(x) + _s15(y) + _s15(z)


SRGB_D50 = ((0.4361, 0.2225, 0.0139), (0.3851, 0.7169, 0.0971), (0.1431, 0.0606, 0.7141))
"""Columns of sRGB's matrix under D50: X, Y, Z of red, green and blue."""

ADOBE_D50 = ((0.6097, 0.3111, 0.0195), (0.2053, 0.6257, 0.0609), (0.1492, 0.0632, 0.7446))
"""The same of Adobe RGB (1998)."""


def rgb_profile(columns: Sequence[Sequence[float]], gamma: float | None) -> bytes:
    """A matrix profile; gamma None: the curve of sRGB."""
    if gamma is None:
        curve = np.round(65_535 * _light(np.linspace(0, 1, 1024))).astype(">u2").tobytes()
        trc = b"curv\0\0\0\0" + struct.pack(">I", 1024) + curve
    else:
        trc = b"curv\0\0\0\0" + struct.pack(">IH", 1, round(gamma * 256))
    elements = {b"%cXYZ" % name: _xyz(*column) for name, column in zip(b"rgb", columns, strict=True)}
    return icc(b"RGB ", b"mntr", b"XYZ ", elements | {b"%cTRC" % name: trc for name in b"rgb"})


def grey_profile(gamma: float) -> bytes:
    """Of a grey scanner."""
    return icc(b"GRAY", b"scnr", b"XYZ ", {b"kTRC": b"curv\0\0\0\0" + struct.pack(">IH", 1, round(gamma * 256))})


def ink_profile() -> bytes:
    """A press whose cyan ink is black, and whose other inks print nothing."""
    grid = [(0 if number & 8 else 255, 128, 128) for number in range(16)]  # cyan varies slowest
    same = bytes(range(256))
    identity = b"".join(_s15(float(row == column)) for row in range(3) for column in range(3))
    table = b"mft1\0\0\0\0" + bytes([4, 3, 2, 0]) + identity + same * 4 + bytes(sum(grid, ())) + same * 3
    return icc(b"CMYK", b"prtr", b"Lab ", {b"A2B0": table})


def adobe_rgb() -> Sample:
    """The scene's colours in the numbers of Adobe RGB."""
    light = _light(np.asarray(scene()) / 255) @ np.array(SRGB_D50) @ np.linalg.inv(np.array(ADOBE_D50))
    values = np.round(255 * np.clip(light, 0, 1) ** (1 / 2.19921875)).astype(np.uint8)
    data = encoded(Image.fromarray(values), "PNG", icc_profile=rgb_profile(ADOBE_D50, 2.19921875))
    return Sample(data=data, seen=scene(), most=3)


def swapped_profile(kind: str) -> Sample:
    """A profile that calls red what sRGB calls blue; pixels stored the other way round, and sideways."""
    turned = Image.fromarray(np.asarray(stored(6))[:, :, ::-1].copy())
    lossless = {"WEBP": {"lossless": True}, "AVIF": {"quality": 100, "subsampling": "4:4:4"}}
    options: dict[str, Any] = lossless.get(kind, {})
    data = encoded(turned, kind, icc_profile=rgb_profile(SRGB_D50[::-1], None), exif=exif(6), **options)
    return Sample(data=data, seen=scene(), most=12 if kind == "AVIF" else 2)


def jpeg_2000_profile() -> Sample:
    """A JPEG 2000 whose colour box holds a profile that calls red what sRGB calls blue (I.5.3.3, method 2)."""
    data = encoded(Image.fromarray(np.asarray(scene())[:, :, ::-1].copy()), "JPEG2000")
    header, colour = data.index(b"jp2h") - 4, data.index(b"colr") - 4
    size, old = struct.unpack_from(">I", data, header)[0], struct.unpack_from(">I", data, colour)[0]
    box = b"colr\2\0\0" + rgb_profile(SRGB_D50[::-1], None)
    box = struct.pack(">I", len(box) + 4) + box
    whole = data[:colour] + box + data[colour + old :]
    whole = whole[:header] + struct.pack(">I", size + len(box) - old) + whole[header + 4 :]
    return Sample(data=whole, seen=scene(), most=2)


def cmyk_profile() -> Sample:
    """Cyan under a profile that prints it black; the other inks nothing."""
    inks = np.zeros((16, 32, 4), dtype=np.uint8)
    inks[:, :16, 0], inks[:, 16:, 1] = 255, 255
    seen = np.full((16, 32, 3), 255, dtype=np.uint8)
    seen[:, :16] = 0
    data = encoded(Image.frombytes("CMYK", (32, 16), inks.tobytes()), "TIFF", icc_profile=ink_profile())
    return Sample(data=data, seen=Image.fromarray(seen), most=2)


def dark_scanner() -> Sample:
    """Greys of a scanner with gamma 1: light."""
    seen = np.array([[0, 188, 255]], dtype=np.uint8)
    light = np.round(255 * _light(seen / 255)).astype(np.uint8)
    data = encoded(Image.fromarray(light), "PNG", icc_profile=grey_profile(1.0))
    return Sample(data=data, seen=Image.fromarray(seen).convert("RGB"), most=2)


# -- transparency -----------------------------------------------------------------------------------------------------


def half_clear(kind: str, **options: Any) -> Sample:
    """The scene, its left half at half strength on white."""
    image = scene().convert("RGBA")
    alpha = Image.new("L", image.size, 255)
    alpha.paste(128, (0, 0, WIDTH // 2, HEIGHT))
    image.putalpha(alpha)
    seen = Image.composite(scene(), Image.new("RGB", scene().size, "white"), alpha)
    return Sample(data=encoded(image, kind, **options), seen=seen, most=1)


# -- all --------------------------------------------------------------------------------------------------------------


def _plain(kind: str, most: int = 0, **options: Any) -> Sample:
    return Sample(data=encoded(scene(), kind, **options), seen=scene(), most=most)


def _with_exif(kind: str, orientation: int, most: int = 0, **options: Any) -> Sample:
    data = encoded(stored(orientation), kind, exif=exif(orientation), **options)
    return Sample(data=data, seen=scene(), most=most)


SAMPLES: dict[str, Callable[[], Sample]] = {
    "png": lambda: _plain("PNG"),
    "bmp": lambda: _plain("BMP"),
    "ppm": lambda: _plain("PPM"),
    "webp": lambda: _plain("WEBP", lossless=True),
    "jpeg 2000": lambda: _plain("JPEG2000"),
    **{
        f"jpeg exif {each}": lambda each=each: _with_exif("JPEG", each, 40, quality=95, subsampling=0)
        for each in range(1, 9)
    },
    "png exif 6": lambda: _with_exif("PNG", 6),
    "png exif 8 behind the pixels": lambda: Sample(data=late_exif(8), seen=scene()),
    "webp exif 5": lambda: _with_exif("WEBP", 5, lossless=True),
    "avif exif 6": lambda: _with_exif("AVIF", 6, 12, quality=100, subsampling="4:4:4"),
    "tiff orientation 6": lambda: Sample(data=tiff([rgb_frame(stored(6), tag274=6)]), seen=scene()),
    "tiff orientation 8, lzw": lambda: Sample(
        data=encoded(stored(8), "TIFF", compression="tiff_lzw", tiffinfo={274: 8}), seen=scene()
    ),
    "png profile": lambda: swapped_profile("PNG"),
    "webp profile": lambda: swapped_profile("WEBP"),
    "avif profile": lambda: swapped_profile("AVIF"),
    "jpeg 2000 profile": jpeg_2000_profile,
    "adobe rgb": adobe_rgb,
    "cmyk profile": cmyk_profile,
    "grey profile": dark_scanner,
    "png gamma": linear,
    "png gamma and primaries": swapped_primaries,
    "grey 16 png": lambda: grey_png(16),
    "grey 16 tiff": lambda: grey_tiff(order="<", white_is_zero=False),
    "grey 16 tiff, big-endian": lambda: grey_tiff(order=">", white_is_zero=False),
    "grey 16 tiff, white is 0": lambda: grey_tiff(order="<", white_is_zero=True),
    "grey 16 tiff, white is 0, big-endian": lambda: grey_tiff(order=">", white_is_zero=True),
    "grey 12 tiff": lambda: grey_tiff(order="<", white_is_zero=False, bits=12),
    "grey 12 tiff, white is 0": lambda: grey_tiff(order="<", white_is_zero=True, bits=12),
    "planar 16 tiff": lambda: planar_tiff("<"),
    "planar 16 tiff, big-endian": lambda: planar_tiff(">"),
    "16-bit jpeg 2000": lambda: Sample(data=JPEG_2000, seen=jpeg_2000_scene(), most=1),
    "thumbnail first": lambda: Sample(
        data=tiff([rgb_frame(scene().resize((12, 6)), tag254=1), rgb_frame(scene())]), seen=scene()
    ),
    "thumbnail that does not say so": lambda: Sample(
        data=tiff([rgb_frame(scene().resize((24, 12))), rgb_frame(scene())]), seen=scene()
    ),
    "pages": lambda: Sample(data=pages_tiff(), seen=scene()),
    "png alpha": lambda: half_clear("PNG"),
    "webp alpha": lambda: half_clear("WEBP", lossless=True, exact=True),
    "tiff alpha": lambda: half_clear("TIFF"),
    "grey 2 png, one clear": lambda: grey_png(2, clear=1),
    "grey 4 png, one clear": lambda: grey_png(4, clear=3),
    "grey 16 png, one clear": lambda: grey_png(16, clear=0),
    "16-bit png, one clear": deep_png_clear_colour,
    "gif, small first frame": gif_small_first,
    "apng, default image apart": lambda: Sample(data=apng_with_default(), seen=scene()),
}
"""Name -> what makes the sample."""


@cache
def sample(name: str) -> Sample:
    """Made once."""
    return SAMPLES[name]()
