"""The files of dev/picture_comparison.py: one drawn scene stored in many formats, and pages of PDFs, all made here.

    samples() -> Drawn(name, format, done, data), ...

Small files of the tests (tests/processing/picture_files.py) that hold a special case are among them.
"""

from __future__ import annotations

import io
import struct
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageCms, ImageDraw, ImageFont

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests"))

import pdf_samples  # noqa: E402
from processing import picture_files  # noqa: E402
from processing.picture_files import encoded, exif, png, stored, tags, tiff  # noqa: E402

WIDTH, HEIGHT = 192, 128
"""Pixels of the scene."""


@dataclass(frozen=True, kw_only=True)
class Drawn:
    """A file."""

    name: str
    format: str
    """As in `image_formats.FORMATS`, or PDF."""
    done: str
    """What is done with files of this kind: a row of the documents' table."""
    data: bytes


def scene() -> Image.Image:
    """A photograph's kinds of parts: smooth colours, hard edges, saturated patches, text; no symmetry."""
    x, y = np.meshgrid(np.linspace(0, 1, WIDTH), np.linspace(0, 1, HEIGHT))
    waves = np.stack([0.25 + 0.7 * x, 0.35 + 0.5 * y, 0.9 - 0.6 * x * y], axis=-1)
    image = Image.fromarray(np.round(255 * waves).astype(np.uint8))
    draw = ImageDraw.Draw(image)
    for number, colour in enumerate(("red", "lime", "blue", "white", "black", "yellow", "cyan", "magenta")):
        draw.rectangle((8 + 14 * number, 100, 20 + 14 * number, 118), fill=colour)
    draw.ellipse((130, 20, 180, 70), fill=(200, 40, 40), outline="black")
    draw.rectangle((8, 8, 110, 44), fill="white", outline="black")
    draw.text((14, 14), "Invoice 4207", fill="black", font=ImageFont.load_default(15))
    return image


SCENE = scene()
GREY = SCENE.convert("L")
PIXELS, GREYS = np.asarray(SCENE), np.asarray(GREY)
DEEP, DEEP_GREY = PIXELS.astype(np.int64) * 257, GREYS.astype(np.int64) * 257


def with_alpha(image: Image.Image) -> Image.Image:
    """Alpha that grows from left to right, nothing at the top left corner."""
    alpha = np.tile(np.round(np.linspace(0, 255, WIDTH)).astype(np.uint8), (HEIGHT, 1))
    alpha[:20, :20] = 0
    found = image.copy()
    found.putalpha(Image.fromarray(alpha))
    return found


ALPHA = with_alpha(SCENE)
ADOBE = picture_files.rgb_profile(picture_files.ADOBE_D50, 2.19921875)
SWAPPED = picture_files.rgb_profile(picture_files.SRGB_D50[::-1], None)
Maker = Callable[[], bytes]


def small(name: str) -> Maker:
    """A file of the tests."""
    return lambda: picture_files.sample(name).data


def saved(image: Image.Image, kind: str, **options: Any) -> Maker:
    """A file of Pillow's."""
    return lambda: encoded(image, kind, **options)


def turned(kind: str, orientation: int, **options: Any) -> Maker:
    """The scene as a camera stores it."""
    return lambda: encoded(stored(orientation, SCENE), kind, exif=exif(orientation), **options)


# -- PNG --------------------------------------------------------------------------------------------------------------


def deep_png(colour: int, values: np.ndarray, *extra: tuple[bytes, bytes]) -> bytes:
    """16 bits a sample."""
    rows = [row.astype(">u2").tobytes() for row in values]
    return png(rows, width=WIDTH, depth=16, colour=colour, extra=extra)


def deep_alpha() -> bytes:
    alpha = np.asarray(ALPHA)[:, :, 3:].astype(np.int64) * 257
    return deep_png(6, np.concatenate([DEEP, alpha], axis=2))


def interlaced() -> bytes:
    """Adam7 (PNG 3rd edition, 8.1)."""
    passes = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
    rows = [row.tobytes() for x, y, right, down in passes for row in PIXELS[y::down, x::right]]
    whole = bytearray(png(rows, width=WIDTH, depth=8, colour=2))
    header = struct.pack(">IIBBBBB", WIDTH, HEIGHT, 8, 2, 0, 0, 1)
    whole[8 : 8 + 25] = picture_files.chunk(b"IHDR", header)
    return bytes(whole)


def clear_palette() -> bytes:
    image = SCENE.quantize(64)
    return encoded(image, "PNG", transparency=bytes(range(0, 256, 4)))


def rgb_png(*extra: tuple[bytes, bytes]) -> bytes:
    return picture_files.rgb_png(PIXELS, *extra)


def apng(*, apart: bool) -> bytes:
    others = {"save_all": True, "duration": 500, "default_image": apart}
    first = Image.new("RGB", SCENE.size, "red") if apart else SCENE
    return encoded(first, "PNG", append_images=[SCENE, stored(3, SCENE)], **others)


def pngs() -> Iterator[tuple[str, str, Maker]]:
    plain = "8-bit colours, palettes, greys of 1 to 8 bits, interlaced"
    yield "rgb", plain, saved(SCENE, "PNG")
    yield "grey", plain, saved(GREY, "PNG")
    yield "1 bit", plain, saved(GREY.convert("1"), "PNG")
    yield "2-bit grey", plain, lambda: picture_files.grey_png(2).data
    yield "4-bit grey", plain, lambda: picture_files.grey_png(4).data
    yield "palette of 200", plain, saved(SCENE.quantize(200), "PNG")
    yield "palette of 4", plain, saved(SCENE.quantize(4), "PNG", bits=2)
    yield "interlaced", plain, interlaced
    deep = "16 bits a sample: scaled by the range"
    yield "16-bit rgb", deep, lambda: deep_png(2, DEEP)
    yield "16-bit grey", deep, lambda: deep_png(0, DEEP_GREY)
    clear = "transparent parts: on white"
    yield "rgba", clear, saved(ALPHA, "PNG")
    yield "grey and alpha", clear, saved(ALPHA.convert("LA"), "PNG")
    yield "16-bit rgba", clear, deep_alpha
    yield "palette with alpha", clear, clear_palette
    yield "one clear colour", clear, lambda: rgb_png((b"tRNS", struct.pack(">3H", *SCENE.getpixel((100, 110)))))
    for name in ("grey 2 png, one clear", "grey 4 png, one clear", "grey 16 png, one clear"):
        yield name.replace(" png", ""), clear, small(name)
    colour = "profiles, gAMA and cHRM: to sRGB"
    yield "Adobe RGB", colour, saved(SCENE, "PNG", icc_profile=ADOBE)
    yield "red and blue exchanged by a profile", colour, saved(SCENE, "PNG", icc_profile=SWAPPED)
    yield "grey profile", colour, saved(GREY, "PNG", icc_profile=picture_files.grey_profile(1.0))
    yield "gAMA 1.0", colour, lambda: rgb_png((b"gAMA", struct.pack(">I", 100_000)))
    yield "gAMA 1.8", colour, lambda: rgb_png((b"gAMA", struct.pack(">I", 55_556)))
    yield (
        "gAMA and cHRM",
        colour,
        lambda: rgb_png(
            (b"gAMA", struct.pack(">I", 45_455)),
            (b"cHRM", struct.pack(">8I", 31_270, 32_900, 64_000, 33_000, 21_000, 71_000, 15_000, 6_000)),
        ),
    )
    yield "orientation 6", "orientation of EXIF: upright", turned("PNG", 6)
    yield "orientation 8 behind the pixels", "orientation of EXIF: upright", small("png exif 8 behind the pixels")
    yield "animated", "animations: the first frame", lambda: apng(apart=False)
    yield "animated, default image apart", "animations: the first frame", lambda: apng(apart=True)


# -- JPEG -------------------------------------------------------------------------------------------------------------


def jpegs() -> Iterator[tuple[str, str, Maker]]:
    plain = "greys, colours of any subsampling, baseline and progressive"
    yield "4:4:4", plain, saved(SCENE, "JPEG", quality=92, subsampling=0)
    yield "4:2:0", plain, saved(SCENE, "JPEG", quality=80, subsampling=2)
    yield "4:2:2", plain, saved(SCENE, "JPEG", quality=80, subsampling=1)
    yield "progressive", plain, saved(SCENE, "JPEG", quality=85, progressive=True)
    yield "grey", plain, saved(GREY, "JPEG", quality=85)
    yield "stored as RGB", plain, saved(SCENE, "JPEG", quality=90, keep_rgb=True)
    yield "restart markers", plain, saved(SCENE, "JPEG", quality=85, restart_marker_rows=1)
    for orientation in range(1, 9):
        upright = "orientation of EXIF: upright"
        yield f"orientation {orientation}", upright, turned("JPEG", orientation, quality=95, subsampling=0)
    yield (
        "CMYK",
        "CMYK: inverted where Adobe's, through a profile where one is there",
        saved(SCENE.convert("CMYK"), "JPEG", quality=95),
    )
    yield (
        "CMYK with a profile",
        "CMYK: inverted where Adobe's, through a profile where one is there",
        saved(SCENE.convert("CMYK"), "JPEG", quality=95, icc_profile=picture_files.ink_profile()),
    )
    yield "Adobe RGB", "profiles: to sRGB", saved(SCENE, "JPEG", quality=95, subsampling=0, icc_profile=ADOBE)
    yield (
        "grey profile",
        "profiles: to sRGB",
        saved(GREY, "JPEG", quality=95, icc_profile=picture_files.grey_profile(1.0)),
    )
    yield (
        "several pictures (MPO)",
        "several pictures: the first",
        saved(SCENE, "MPO", save_all=True, append_images=[stored(3, SCENE)], quality=90),
    )


# -- WebP, AVIF, HEIC, GIF --------------------------------------------------------------------------------------------


def webps() -> Iterator[tuple[str, str, Maker]]:
    yield "lossless", "lossy and lossless", saved(SCENE, "WEBP", lossless=True)
    yield "lossy", "lossy and lossless", saved(SCENE, "WEBP", quality=85)
    yield "alpha", "transparent parts: on white", saved(ALPHA, "WEBP", lossless=True, exact=True)
    yield "lossy alpha", "transparent parts: on white", saved(ALPHA, "WEBP", quality=90)
    yield "orientation 5", "orientation of EXIF: upright", turned("WEBP", 5, lossless=True)
    yield (
        "red and blue exchanged by a profile",
        "profiles: to sRGB",
        saved(SCENE, "WEBP", lossless=True, icc_profile=SWAPPED),
    )
    yield (
        "animated",
        "animations: the first frame",
        saved(SCENE, "WEBP", save_all=True, append_images=[stored(3, SCENE)], lossless=True),
    )


def avifs() -> Iterator[tuple[str, str, Maker]]:
    full = {"quality": 95, "subsampling": "4:4:4"}
    yield "4:4:4", "any subsampling", saved(SCENE, "AVIF", **full)
    yield "4:2:0", "any subsampling", saved(SCENE, "AVIF", quality=85, subsampling="4:2:0")
    yield "grey", "any subsampling", saved(GREY, "AVIF", quality=90)
    yield "alpha", "transparent parts: on white", saved(ALPHA, "AVIF", **full)
    for orientation in (3, 6):
        yield f"orientation {orientation}", "irot and imir: upright", turned("AVIF", orientation, **full)
    yield "red and blue exchanged by a profile", "profiles: to sRGB", saved(SCENE, "AVIF", icc_profile=SWAPPED, **full)
    yield (
        "animated",
        "animations: the first frame",
        saved(SCENE, "AVIF", save_all=True, append_images=[stored(3, SCENE)], **full),
    )


def heic(image: Image.Image, **options: Any) -> bytes:
    from pillow_heif import from_pillow

    file = io.BytesIO()
    from_pillow(image).save(file, **options)
    return file.getvalue()


def heics() -> Iterator[tuple[str, str, Maker]]:
    done = "with the extra `heic`: upright, transparent parts on white"
    yield "quality 90", done, lambda: heic(SCENE, quality=90)
    yield "orientation 6", done, lambda: heic(stored(6, SCENE), quality=90, exif=exif(6))
    yield "alpha", done, lambda: heic(ALPHA, quality=90)


def gifs() -> Iterator[tuple[str, str, Maker]]:
    plain = "palettes, interlaced, a frame smaller than the screen"
    small_palette = SCENE.quantize(128)
    yield "palette", plain, saved(small_palette, "GIF", interlace=0)
    yield "interlaced", plain, saved(small_palette, "GIF", interlace=1)
    yield "small first frame", plain, small("gif, small first frame")
    yield "one clear colour", "transparent parts: on white", saved(small_palette, "GIF", transparency=5)
    yield (
        "animated",
        "animations: the first frame",
        saved(small_palette, "GIF", save_all=True, append_images=[stored(3, SCENE).quantize(128)], duration=500),
    )


# -- BMP --------------------------------------------------------------------------------------------------------------


def bmp(
    rows: bytes, *, bits: int, compression: int = 0, masks: bytes = b"", palette: bytes = b"", down: bool = False
) -> bytes:
    """A BMP with a 40-byte header (BITMAPINFOHEADER)."""
    height = -HEIGHT if down else HEIGHT
    header = struct.pack("<IiiHHIIiiII", 40, WIDTH, height, 1, bits, compression, len(rows), 0, 0, len(palette) // 4, 0)
    start = 14 + len(header) + len(masks) + len(palette)
    return struct.pack("<2sIHHI", b"BM", start + len(rows), 0, 0, start) + header + masks + palette + rows


def bmp_palette() -> tuple[np.ndarray, bytes]:
    image = SCENE.quantize(200)
    colours = np.array(image.getpalette()[:600]).reshape(-1, 3)
    entries = np.concatenate([colours[:, ::-1], np.zeros((len(colours), 1))], axis=1).astype(np.uint8)
    return np.asarray(image), entries.tobytes()


def bmp_runs() -> bytes:
    """Run-length encoded, 8 bits."""
    pixels, palette = bmp_palette()
    rows = bytearray()
    for row in pixels[::-1]:
        at = 0
        while at < WIDTH:
            run = next((n for n in range(1, min(255, WIDTH - at)) if row[at + n] != row[at]), min(255, WIDTH - at))
            rows += bytes([run, row[at]])
            at += run
        rows += b"\0\0"
    return bmp(bytes(rows + b"\0\1"), bits=8, compression=1, palette=palette)


def bmp_sixteen(*, green_bits: int) -> bytes:
    """16 bits a pixel: 5-6-5 by masks, or 5-5-5."""
    red, green, blue = (PIXELS[::-1, :, band].astype(np.uint16) for band in range(3))
    values = (red >> 3) << (5 + green_bits) | (green >> (8 - green_bits)) << 5 | blue >> 3
    masks = struct.pack("<3I", 0xF800, 0x07E0, 0x1F) if green_bits == 6 else b""
    return bmp(values.astype("<u2").tobytes(), bits=16, compression=3 if masks else 0, masks=masks)


def bmp_core() -> bytes:
    """OS/2 1.x: a header of 12 bytes."""
    rows = PIXELS[::-1, :, ::-1].tobytes()
    header = struct.pack("<IHHHH", 12, WIDTH, HEIGHT, 1, 24)
    return struct.pack("<2sIHHI", b"BM", 26 + len(rows), 0, 0, 26) + header + rows


def bmps() -> Iterator[tuple[str, str, Maker]]:
    done = "1 to 24 bits, palettes, masks, runs, from the top down"
    yield "24 bits", done, saved(SCENE, "BMP")
    yield "grey", done, saved(GREY, "BMP")
    yield "1 bit", done, saved(GREY.convert("1"), "BMP")
    yield "palette", done, saved(SCENE.quantize(200), "BMP")
    yield "runs", done, bmp_runs
    yield "5-6-5", done, lambda: bmp_sixteen(green_bits=6)
    yield "5-5-5", done, lambda: bmp_sixteen(green_bits=5)
    yield "from the top down", done, lambda: bmp(PIXELS[:, :, ::-1].tobytes(), bits=24, down=True)
    yield "OS/2", done, bmp_core


# -- TIFF -------------------------------------------------------------------------------------------------------------


def grey_tiff(order: str, *, white_is_zero: bool) -> bytes:
    values = 65_535 - DEEP_GREY if white_is_zero else DEEP_GREY
    frame = tags(WIDTH, HEIGHT, bits=(16,), photometric=0 if white_is_zero else 1)
    return tiff([(frame, [values.astype(order + "u2").tobytes()])], order=order)


def rgb_tiff(order: str, *, planar: bool, bits: int) -> bytes:
    """RGB, planes together or one after the other."""
    values = (PIXELS if bits == 8 else DEEP).astype(f"{order}u{bits // 8}")
    strips = [values[:, :, band].tobytes() for band in range(3)] if planar else [values.tobytes()]
    frame = tags(WIDTH, HEIGHT, bits=(bits,) * 3, photometric=2) | {284: ("H", [2 if planar else 1])}
    return tiff([(frame, strips)], order=order)


def tiled_tiff() -> bytes:
    """Tiles of 64 x 64, the last ones filled up."""
    padded = np.zeros((128, 192, 3), dtype=np.uint8)
    padded[:HEIGHT, :WIDTH] = PIXELS
    blocks = [padded[y : y + 64, x : x + 64].tobytes() for y in range(0, 128, 64) for x in range(0, 192, 64)]
    frame = tags(WIDTH, HEIGHT, bits=(8, 8, 8), photometric=2)
    del frame[278]
    return tiff([(frame | {322: ("H", [64]), 323: ("H", [64])}, blocks)], places_tags=(324, 325))


def tiffs() -> Iterator[tuple[str, str, Maker]]:
    plain = "compressions, strips, tiles, planes, orders of bytes, BigTIFF"
    yield "uncompressed", plain, saved(SCENE, "TIFF")
    for name in ("lzw", "adobe_deflate", "deflate"):
        yield name, plain, saved(SCENE, "TIFF", compression=f"tiff_{name}")
    yield "packbits", plain, saved(SCENE, "TIFF", compression="packbits")
    yield "zstd", plain, saved(SCENE, "TIFF", compression="zstd")
    yield "lzma", plain, saved(SCENE, "TIFF", compression="lzma")
    yield "jpeg", plain, saved(SCENE, "TIFF", compression="jpeg", quality=90)
    yield "group 3", plain, saved(GREY.convert("1"), "TIFF", compression="group3")
    yield "group 4", plain, saved(GREY.convert("1"), "TIFF", compression="group4")
    yield "lzw, predictor 2", plain, saved(SCENE, "TIFF", compression="tiff_lzw", tiffinfo={317: 2})
    yield "palette", plain, saved(SCENE.quantize(100), "TIFF")
    yield "big-endian", plain, lambda: rgb_tiff(">", planar=False, bits=8)
    yield "planes", plain, lambda: rgb_tiff("<", planar=True, bits=8)
    yield "tiles", plain, tiled_tiff
    yield "BigTIFF", plain, saved(SCENE, "TIFF", big_tiff=True)
    deep = "12 and 16 bits a sample, both polarities of grey: scaled by the range"
    for order, said in (("<", ""), (">", ", big-endian")):
        yield f"16-bit grey{said}", deep, lambda order=order: grey_tiff(order, white_is_zero=False)
        yield f"16-bit grey, white is 0{said}", deep, lambda order=order: grey_tiff(order, white_is_zero=True)
        yield f"16-bit rgb{said}", deep, lambda order=order: rgb_tiff(order, planar=False, bits=16)
        yield f"16-bit planes{said}", deep, lambda order=order: rgb_tiff(order, planar=True, bits=16)
    yield "12-bit grey", deep, small("grey 12 tiff")
    yield "12-bit grey, white is 0", deep, small("grey 12 tiff, white is 0")
    yield (
        "8-bit grey, white is 0",
        deep,
        lambda: tiff([(tags(WIDTH, HEIGHT, bits=(8,), photometric=0), [(255 - GREYS).tobytes()])]),
    )
    colour = "CMYK, Lab, profiles: to sRGB"
    yield "CMYK", colour, saved(SCENE.convert("CMYK"), "TIFF")
    yield "CMYK with a profile", colour, small("cmyk profile")
    yield "Adobe RGB", colour, saved(SCENE, "TIFF", icc_profile=ADOBE)
    yield "Lab", colour, lambda: encoded(to_lab(SCENE), "TIFF")
    yield "alpha", "transparent parts: on white", saved(ALPHA, "TIFF")
    for orientation in range(2, 9):
        turn = stored(orientation, SCENE)
        yield (
            f"orientation {orientation}",
            "orientation: upright",
            lambda turn=turn, orientation=orientation: tiff([picture_files.rgb_frame(turn, tag274=orientation)]),
        )
    yield (
        "pages",
        "several pages: each one a page of a document",
        lambda: tiff([picture_files.rgb_frame(stored(each, SCENE)) for each in (1, 3, 2)]),
    )
    yield (
        "thumbnail first",
        "thumbnails: passed over",
        lambda: tiff([picture_files.rgb_frame(SCENE.resize((48, 32)), tag254=1), picture_files.rgb_frame(SCENE)]),
    )


def to_lab(image: Image.Image) -> Image.Image:
    srgb, lab = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
    found = ImageCms.applyTransform(image, ImageCms.buildTransform(srgb, lab, "RGB", "LAB"))
    assert found is not None
    found.info.pop("icc_profile")  # that of Lab, which viewers take for one of RGB
    return found


# -- JPEG 2000, PNM ---------------------------------------------------------------------------------------------------


def jpeg_2000s() -> Iterator[tuple[str, str, Maker]]:
    plain = "reversible and irreversible, tiles, files and bare codestreams"
    yield "reversible", plain, saved(SCENE, "JPEG2000")
    yield "irreversible", plain, saved(SCENE, "JPEG2000", irreversible=True, quality_mode="rates", quality_layers=[8])
    yield "grey", plain, saved(GREY, "JPEG2000")
    yield "tiles", plain, saved(SCENE, "JPEG2000", tile_size=(64, 64))
    yield "codestream", plain, saved(SCENE, "JPEG2000", no_jp2=True)
    yield "alpha", "transparent parts: on white", saved(ALPHA, "JPEG2000")
    yield (
        "16-bit grey",
        "9 to 16 bits a sample: scaled by the range",
        lambda: encoded(Image.fromarray(DEEP_GREY.astype(np.uint16)), "JPEG2000"),
    )
    yield "16-bit rgb", "9 to 16 bits a sample: scaled by the range", small("16-bit jpeg 2000")


def pnm(kind: int, head: str, body: bytes) -> bytes:
    return f"P{kind}\n# drawn\n{head}\n".encode() + body


def lines(values: np.ndarray) -> bytes:
    """Numbers as text, 12 a line."""
    return "".join(" ".join(map(str, row)) + "\n" for row in values.astype(int).reshape(-1, 12)).encode()


def pnms() -> Iterator[tuple[str, str, Maker]]:
    size, done = f"{WIDTH} {HEIGHT}", "P1 to P6, 1 to 16 bits: scaled by the largest value"
    yield "P1", done, lambda: pnm(1, size, lines(GREYS < 128))
    yield "P2", done, lambda: pnm(2, f"{size}\n255", lines(GREYS))
    yield "P3", done, lambda: pnm(3, f"{size}\n255", lines(PIXELS))
    yield "P4", done, lambda: pnm(4, size, np.packbits(GREYS < 128, axis=1).tobytes())
    yield "P5", done, lambda: pnm(5, f"{size}\n255", GREYS.tobytes())
    yield "P5, 16 bits", done, lambda: pnm(5, f"{size}\n65535", DEEP_GREY.astype(">u2").tobytes())
    yield (
        "P5, largest value 100",
        done,
        lambda: pnm(5, f"{size}\n100", np.round(GREYS * (100 / 255)).astype(np.uint8).tobytes()),
    )
    yield "P6", done, lambda: pnm(6, f"{size}\n255", PIXELS.tobytes())
    yield "P6, 16 bits", done, lambda: pnm(6, f"{size}\n65535", DEEP.astype(">u2").tobytes())


# -- all --------------------------------------------------------------------------------------------------------------

FORMATS: dict[str, Callable[[], Iterator[tuple[str, str, Maker]]]] = {
    "PNG": pngs,
    "JPEG": jpegs,
    "WebP": webps,
    "GIF": gifs,
    "BMP": bmps,
    "TIFF": tiffs,
    "AVIF": avifs,
    "HEIC": heics,
    "JPEG 2000": jpeg_2000s,
    "PNM": pnms,
}


def samples() -> Iterator[Drawn]:
    """All files."""
    for name, makers in FORMATS.items():
        for feature, done, make in makers():
            yield Drawn(name=f"{name}, {feature}", format=name, done=done, data=make())
    yield from (
        Drawn(name=f"PDF, {name}", format="PDF", done=done, data=data) for name, done, data in pdf_samples.all_(SCENE)
    )
