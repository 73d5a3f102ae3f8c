"""File formats: which ones are read, how a file is recognised by its first bytes, and the limits of every picture.

Every way in (command line, data sets, training, benchmarks, server) reads the formats of `FORMATS` and no others.
Pillow knows 40 more; some of them start another program (EPS starts Ghostscript) and some are drawings without pixels
(WMF). A file that is refused is named by what it is, not by its suffix. Pure Python, so that a refusal costs no import.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass

from ixc.errors import ImageSizeError

MAX_PIXELS = 178_000_000
"""Most pixels a picture may claim: Pillow decodes no more."""

MAX_SIDE = 60_000
"""Longest side a picture may claim, pixels."""

HEAD_BYTES = 4096
"""Bytes `format_of` and `refusal` look at: a PDF may begin behind other bytes (ISO 32000-1, 7.5.2: up to 1,024)."""

BROKEN = (
    *(OSError, SyntaxError, ValueError, EOFError, LookupError, ArithmeticError, TypeError, AttributeError),
    *(RuntimeError, AssertionError, MemoryError, struct.error, zlib.error),
)
"""What Pillow's decoders raise on hostile or damaged files. Pillow 13.0: ZeroDivisionError for an AVIF whose time scale
is 0, MemoryError for a JPEG 2000 box of 2**62 bytes, AssertionError for a JP2 file without a header box."""


@dataclass(frozen=True, kw_only=True)
class ImageFormat:
    """A format that is read."""

    name: str
    """For messages and documents."""
    mime: str
    """In a data: address."""
    pillow: tuple[str, ...]
    """Names of Pillow's plugins that may read it."""
    suffixes: tuple[str, ...]
    """Usual suffixes of its files, with their dots; nothing is decided by them."""


FORMATS = (
    ImageFormat(name="PNG", mime="image/png", pillow=("PNG",), suffixes=(".png", ".apng")),
    # MPO, what phones and stereo cameras write, is a JPEG followed by further JPEGs; Pillow's JPEG plugin opens it.
    ImageFormat(name="JPEG", mime="image/jpeg", pillow=("JPEG",), suffixes=(".jpg", ".jpeg", ".jpe", ".jfif", ".mpo")),
    ImageFormat(name="WebP", mime="image/webp", pillow=("WEBP",), suffixes=(".webp",)),
    ImageFormat(name="GIF", mime="image/gif", pillow=("GIF",), suffixes=(".gif",)),
    ImageFormat(name="BMP", mime="image/bmp", pillow=("BMP",), suffixes=(".bmp",)),
    ImageFormat(name="TIFF", mime="image/tiff", pillow=("TIFF",), suffixes=(".tif", ".tiff")),
    ImageFormat(name="AVIF", mime="image/avif", pillow=("AVIF",), suffixes=(".avif",)),
    ImageFormat(name="JPEG 2000", mime="image/jp2", pillow=("JPEG2000",), suffixes=(".jp2", ".j2k", ".jpx")),
    ImageFormat(name="PNM", mime="image/x-portable-anymap", pillow=("PPM",), suffixes=(".ppm", ".pgm", ".pbm", ".pnm")),
    ImageFormat(name="HEIC", mime="image/heic", pillow=("HEIF",), suffixes=(".heic", ".heif", ".hif")),
)
"""Formats that are read; HEIC needs the extra `heic`."""

_BY_NAME = {each.name: each for each in FORMATS}

_MAGIC = (
    (b"\x89PNG\r\n\x1a\n", "PNG"),
    (b"\xff\xd8\xff", "JPEG"),
    (b"GIF87a", "GIF"),
    (b"GIF89a", "GIF"),
    (b"BM", "BMP"),
    (b"II*\0", "TIFF"),
    (b"MM\0*", "TIFF"),
    (b"II+\0", "TIFF"),
    (b"MM\0+", "TIFF"),
    (b"\0\0\0\x0cjP  \r\n\x87\n", "JPEG 2000"),
    (b"\xff\x4f\xff\x51", "JPEG 2000"),
)

_HEIC_BRANDS = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs", b"mif1", b"msf1", b"heif"}

_EXPORT = "open it where it was made and export it as PNG"

_OTHERS = (
    (b"%!PS", "a PostScript drawing", _EXPORT),
    (b"\xc5\xd0\xd3\xc6", "an EPS drawing", _EXPORT),
    (b"\xd7\xcd\xc6\x9a", "a WMF drawing", _EXPORT),
    (b"AT&TFORM", "a DjVu document", "convert it to PDF first: ddjvu -format=pdf FILE out.pdf"),
    (b"8BPS", "a Photoshop document", _EXPORT),
    (b"\xff\x0a", "a JPEG XL picture", "save it as PNG"),
    (b"\0\0\0\x0cJXL \r\n\x87\n", "a JPEG XL picture", "save it as PNG"),
    (b"II\xbc\x01", "a JPEG XR picture", "save it as PNG"),
    (b"\0\0\1\0", "an icon", "save it as PNG"),
    (b"\0\0\2\0", "a cursor", "save it as PNG"),
    (b"icns", "an icon", "save it as PNG"),
    (b"qoif", "a QOI picture", "save it as PNG"),
    (b"\x0a\x05\x01", "a PCX picture", "save it as PNG"),
    (b"\x3a\xde\x68\xb1", "a DCX document", "save it as TIFF or PDF"),
    (b"DDS ", "a DDS texture", "save it as PNG"),
    (b"\x76\x2f\x31\x01", "an OpenEXR picture", "save it as PNG"),
    (b"#?RADIANCE", "a Radiance HDR picture", "save it as PNG"),
    (b"SIMPLE  =", "a FITS file", "save its picture as PNG"),
    (b"gimp xcf", "a GIMP document", _EXPORT),
    (b"FUJIFILMCCD-RAW", "a camera's raw file", "develop it to JPEG"),
    (b"PK\x03\x04", "a ZIP archive or an office document", "unpack it, or print the document to PDF"),
    (b"\xd0\xcf\x11\xe0", "an office document", "print it to PDF"),
    (b"{\\rtf", "an RTF document", "print it to PDF"),
    (b"\x1f\x8b", "compressed with gzip", "unpack it first"),
    (b"BZh", "compressed with bzip2", "unpack it first"),
    (b"\xfd7zXZ\0", "compressed with xz", "unpack it first"),
    (b"\x28\xb5\x2f\xfd", "compressed with zstd", "unpack it first"),
    (b"7z\xbc\xaf\x27\x1c", "a 7-Zip archive", "unpack it first"),
    (b"Rar!\x1a\x07", "a RAR archive", "unpack it first"),
    (b"version https://git-lfs", "a pointer of Git LFS", "fetch the file itself: git lfs pull"),
    (b"\x1aE\xdf\xa3", "a video", "save one of its pictures as PNG"),
    (b"OggS", "a video or sound", "save one of its pictures as PNG"),
)
"""First bytes -> what a file is that is no picture this package reads, and what to do about it."""


def format_of(head: bytes) -> ImageFormat | None:
    """The format of a file by its first `HEAD_BYTES` bytes; None where it is none of `FORMATS`."""
    for magic, name in _MAGIC:
        if head.startswith(magic):
            return _BY_NAME[name]
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return _BY_NAME["WebP"]
    if head[:1] == b"P" and head[1:2] in b"123456" and head[2:3].isspace():
        return _BY_NAME["PNM"]
    brands = _brands(head)
    if brands & {b"avif", b"avis"}:
        return _BY_NAME["AVIF"]
    return _BY_NAME["HEIC"] if brands & _HEIC_BRANDS else None


def _brands(head: bytes) -> set[bytes]:
    """Major and compatible brands of an ISO media file (ISO/IEC 14496-12, box `ftyp`)."""
    if head[4:8] != b"ftyp":
        return set()
    size = min(int.from_bytes(head[:4], "big"), len(head))
    return {head[8:12], *(head[at : at + 4] for at in range(16, size - 3, 4))}


READ = f"{', '.join(each.name for each in FORMATS[:-1])} or {FORMATS[-1].name}"
"""Formats named in a refusal."""


def is_pdf(head: bytes) -> bool:
    """Whether a file is a PDF, by its first `HEAD_BYTES` bytes; whatever its name."""
    return b"%PDF-" in head[:HEAD_BYTES] and format_of(head) is None


def refusal(head: bytes, name: str) -> str:
    """The line for a file that is none of `FORMATS`: what it is, and what to do."""
    if not head:
        return f"{name} is empty (0 bytes); use {READ}"
    if is_pdf(head):
        return (
            f"{name} is a PDF, not a picture; ask about a page of it with FILE#1, read all with ixc read, or save "
            "a page as PNG"
        )
    kind, remedy = _kind(head)
    return f"{name} is {kind}; {remedy}"


def _kind(head: bytes) -> tuple[str, str]:
    for magic, kind, remedy in _OTHERS:
        if head.startswith(magic):
            return kind, remedy
    if head[:4] == b"\x01\0\0\0" and head[40:44] == b" EMF":
        return "an EMF drawing", _EXPORT
    if head[128:132] == b"DICM":
        return "a DICOM file", "export its picture as PNG"
    if head[4:8] == b"ftyp" or head[:4] == b"RIFF":
        kind = "a camera's raw file" if head[8:11] == b"crx" else "a video or sound"
        return kind, "develop it to JPEG" if kind.startswith("a camera") else "save one of its pictures as PNG"
    return _text_kind(head)


def _text_kind(head: bytes) -> tuple[str, str]:
    start = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if start.startswith(b"<svg") or (start.startswith(b"<?xml") and b"<svg" in start):
        return "an SVG drawing", _EXPORT
    if start.startswith((b"<!doctype html", b"<html")):
        return "a web page", "download the picture itself"
    remedy = f"use {READ}"
    if all(byte >= 32 or byte in b"\t\r\n\f\x1b" for byte in head):
        return (
            f"text (it begins {head[:20].decode('utf-8', 'replace')!r}), not a picture in a format that is read",
            remedy,
        )
    return f"data that begins with {head[:4].hex(' ')}, not a picture in a format that is read", remedy


def check_size(name: str, width: int, height: int, *, max_pixels: int = MAX_PIXELS) -> None:
    """The limits of a picture, by the size its header claims.

    Args:
        name: of the picture, for the message.

    Raises:
        ImageSizeError: a size of 0, a side above 60,000 px, too many pixels.
    """
    if width < 1 or height < 1:
        raise ImageSizeError(f"{name} claims {width} x {height} px, at least 1 x 1 needed; check the file")
    if max(width, height) > MAX_SIDE:
        raise ImageSizeError(
            f"{name} claims {width:,} x {height:,} px, a side may have {MAX_SIDE:,}; reduce or crop the picture first"
        )
    if width * height > max_pixels:
        raise ImageSizeError(
            f"{name} claims {width:,} x {height:,} = {width * height:,} px, at most {max_pixels:,} are read; "
            "reduce the picture first"
        )
