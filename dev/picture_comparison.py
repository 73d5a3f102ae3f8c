"""What this package shows of a file beside what independent renderers show; writes benchmarks/pictures_202611.json.

    python dev/picture_comparison.py [--only WORDS]

Every file of dev/picture_samples.py is opened through `open_image` (a PDF's page through `open_page`, 200 dpi) and by
each of the renderers that are installed and know its format:

    chromium      its own decoders (Skia, libavif, ...); a canvas over white; not for PDF, which it draws with PDFium
    imagemagick   libpng, libjpeg, libtiff, OpenJPEG, ...; profiles by -profile, -auto-orient, alpha on white
    mutool        MuPDF's decoders of pictures and PDF
    pdftoppm      poppler, for PDF
    avifdec       libavif of Debian, older than Pillow's

Debian's packages: chromium imagemagick libavif-bin mupdf-tools poppler-utils. Two renderers differ where a file
leaves something open; what differs by more than `MOST` on average must be explained in `EXPLAINED`, or the exit code is
1.
"""

from __future__ import annotations

import argparse
import base64
import contextlib
import json
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from datetime import date
from functools import cache
from importlib.metadata import version
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageCms

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests"))

import devtools  # noqa: E402
import picture_samples  # noqa: E402

from ixc.processing.image_formats import FORMATS, format_of  # noqa: E402
from ixc.processing.image_io import open_image  # noqa: E402
from ixc.processing.pages import PageReference, open_page  # noqa: E402

RESULT = ROOT / "benchmarks" / "pictures_202611.json"

MOST = 2.0
"""Mean absolute difference, of 255, up to which two renderers count as agreeing."""

SECONDS = 60
"""Longest time of a renderer for a file."""

EXPLAINED: dict[tuple[str, str], str] = {
    **dict.fromkeys(
        [(f"{kind}, {name}", "mutool") for kind in ("PNG", "JPEG") for name in ("Adobe RGB", "grey profile")]
        + [("PNG, red and blue exchanged", "mutool"), ("JPEG, CMYK with a profile", "mutool")]
        + [("TIFF, CMYK with a profile", "mutool"), ("TIFF, Adobe RGB", "mutool"), ("TIFF, Lab", "mutool")],
        "is built without ICC profiles by Debian",
    ),
    **dict.fromkeys(
        [("PNG, gAMA", "mutool"), ("PNG, gAMA 1.8", "imagemagick"), ("PNG, gAMA and cHRM", "imagemagick")],
        "does not apply gAMA (ImageMagick: 1.0 alone) and cHRM",
    ),
    **dict.fromkeys(
        [("PNG, orientation", "imagemagick"), ("PNG, orientation", "mutool")], "does not read a PNG's EXIF"
    ),
    ("PNG, orientation 8", "chromium"): "does not read a PNG's EXIF that stands behind the pixels",
    ("WebP, orientation", "chromium"): "does not read a WebP's EXIF",
    ("WebP, orientation", "imagemagick"): "does not read a WebP's EXIF",
    ("TIFF, orientation", "mutool"): "does not read a TIFF's orientation",
    **dict.fromkeys(
        [("PNG, animated, default", "imagemagick"), ("PNG, animated, default", "mutool")],
        "does not know animations: the default image",
    ),
    ("GIF, small first frame", "imagemagick"): "shows the frame without its screen",
    ("GIF, small first frame", "mutool"): "shows black where the frame leaves the screen open",
    ("GIF, animated", "mutool"): "shows the last frame",
    **dict.fromkeys([("TIFF, zstd", "mutool"), ("TIFF, lzma", "mutool")], "does not know the compression"),
    **dict.fromkeys([("TIFF, planes", "mutool"), ("TIFF, 16-bit planes", "mutool")], "does not read planes"),
    ("TIFF, BigTIFF", "mutool"): "does not read BigTIFF",
    ("TIFF, Lab", "imagemagick"): "takes D65 for the white of Lab; it is D50 as in Photoshop's files",
    ("TIFF, palette", "mutool"): "shows every colour of a TIFF's palette black",
    ("TIFF, 12-bit", "mutool"): "does not read 12 bits",
    ("TIFF, 12-bit grey, white is 0", "imagemagick"): "does not invert 12 bits; it does 8 and 16",
    ("TIFF, thumbnail first", "imagemagick"): "shows the thumbnail",
    ("TIFF, thumbnail first", "mutool"): "shows the thumbnail",
    ("AVIF, alpha", "chromium"): "takes the alpha, which is of full range, for the range of video",
    ("AVIF, animated", "chromium"): "takes the frames, which are declared full range, for the range of video",
    ("AVIF", "imagemagick"): "decodes to halved chroma (ImageMagick 6)",
    ("AVIF, alpha", "imagemagick"): "version 6 drops alpha",
    ("AVIF, red and blue exchanged", "imagemagick"): "version 6 drops the profile of an AVIF",
    ("AVIF, red and blue exchanged", "avifdec"): "hands the profile on and does not apply it",
    ("AVIF, orientation", "avifdec"): "hands the orientation on and does not apply it",
    ("HEIC, alpha", "imagemagick"): "version 6 drops alpha",
    (
        "PDF, CMYK samples",
        "mutool",
    ): "converts DeviceCMYK by a formula, PDFium by a table of Adobe's; the format leaves it open",
    (
        "PDF, CMYK samples",
        "pdftoppm",
    ): "converts DeviceCMYK by a formula, PDFium by a table of Adobe's; the format leaves it open",
    ("PDF", "mutool"): "smooths the edges of letters in another way; the page is small",
    ("PDF", "pdftoppm"): "smooths the edges of letters in another way; the page is small",
    **dict.fromkeys(
        [(f"PDF, {name}", "pdftoppm") for name in ("JPEG", "grey samples", "samples", "soft mask")],
        "enlarges a picture smoothly, PDFium and mutool pixel by pixel",
    ),
}
"""(beginning of a file's name, renderer) -> why they differ."""

CHROMIUM = {"PNG", "JPEG", "WebP", "GIF", "BMP", "AVIF"}
IMAGEMAGICK = CHROMIUM | {"TIFF", "HEIC", "JPEG 2000", "PNM"}
MUTOOL = {"PNG", "JPEG", "GIF", "BMP", "TIFF", "JPEG 2000", "PNM", "PDF"}

SUFFIXES = {"PDF": ".pdf", **{each.name: each.suffixes[0] for each in FORMATS}}

ON_WHITE = """(async () => {
  const image = new Image();
  image.src = "data:%s;base64,%s";
  await image.decode();
  const canvas = document.createElement("canvas");
  canvas.width = image.naturalWidth; canvas.height = image.naturalHeight;
  const paper = canvas.getContext("2d", {colorSpace: "srgb"});
  paper.fillStyle = "white"; paper.fillRect(0, 0, canvas.width, canvas.height);
  paper.drawImage(image, 0, 0);
  return canvas.toDataURL("image/png");
})()"""

Render = Callable[[Path, tuple[int, int]], Image.Image]
"""A file and the size this package gives it -> what a renderer shows."""


class Refused(Exception):
    """A renderer does not read a file; the text says how."""


# -- renderers --------------------------------------------------------------------------------------------------------


def command(*arguments: str | Path) -> bytes:
    """What a program writes."""
    try:
        done = subprocess.run(arguments, capture_output=True, timeout=SECONDS, check=False)
    except subprocess.TimeoutExpired:
        raise Refused(f"no end within {SECONDS} s") from None
    if done.returncode:
        raise Refused(" ".join(done.stderr.decode(errors="replace").split())[-200:] or f"exit code {done.returncode}")
    return done.stdout


def opened(data: bytes) -> Image.Image:
    """A PNG or PPM of a renderer."""
    with Image.open(BytesIO(data)) as image:
        return image.convert("RGB")


@cache
def srgb() -> Path:
    """A profile of sRGB."""
    path = Path(tempfile.mkdtemp()) / "srgb.icc"
    path.write_bytes(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    return path


def imagemagick(path: Path, size: tuple[int, int]) -> Image.Image:
    del size
    first = f"{path}[0]"
    profiled = command("identify", "-format", "%[profile:icc]", first).strip()
    colours = ("-profile", srgb()) if profiled else ()  # without one, it would name the file's colours sRGB
    fixed = ("-colorspace", "sRGB", "-background", "white", "-alpha", "remove", "-alpha", "off", "-depth", "8")
    return opened(command("convert", first, "-auto-orient", *colours, *fixed, "-type", "TrueColor", "ppm:-"))


def mutool(path: Path, size: tuple[int, int]) -> Image.Image:
    """MuPDF sizes pictures by their resolution: it is told the size, which is that of the pixels."""
    width, height = map(str, size)
    return opened(command("mutool", "draw", "-q", "-F", "pnm", "-o", "-", "-c", "rgb", "-W", width, "-H", height,
                          "-w", width, "-h", height, path, "1"))  # fmt: skip


def pdftoppm(path: Path, size: tuple[int, int]) -> Image.Image:
    """Poppler turns the page after it has scaled it."""
    for width, height in (size, size[::-1]):
        scale = ("-scale-to-x", str(width), "-scale-to-y", str(height))
        found = opened(command("pdftoppm", "-cropbox", "-singlefile", *scale, path))
        if found.size == size:
            break
    return found


def avifdec(path: Path, size: tuple[int, int]) -> Image.Image:
    """libavif's own program; it puts nothing under transparent parts."""
    del size
    png = path.with_suffix(".png")
    command("avifdec", path, png)
    with Image.open(png) as image:
        return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image.convert("RGBA")).convert("RGB")


def chromium(tab: devtools.Page) -> Render:
    """Shows files in a tab."""

    def render(path: Path, size: tuple[int, int]) -> Image.Image:
        del size
        data = path.read_bytes()
        found = format_of(data[:4096])
        assert found is not None
        code = ON_WHITE % (found.mime, base64.b64encode(data).decode())
        got = tab.send("Runtime.evaluate", expression=code, awaitPromise=True, returnByValue=True)
        if "exceptionDetails" in got:
            raise Refused(got["exceptionDetails"]["exception"].get("description", "an error").splitlines()[0])
        return opened(base64.b64decode(got["result"]["value"].partition(",")[2]))

    return render


@contextlib.contextmanager
def renderers() -> Iterator[dict[str, tuple[set[str], Render]]]:
    """Name -> formats, and what draws them; those that are installed."""
    found: dict[str, tuple[set[str], Render]] = {}
    for name, formats, render, program in (
        ("imagemagick", IMAGEMAGICK, imagemagick, "convert"),
        ("mutool", MUTOOL, mutool, "mutool"),
        ("pdftoppm", {"PDF"}, pdftoppm, "pdftoppm"),
        ("avifdec", {"AVIF"}, avifdec, "avifdec"),
    ):
        if shutil.which(program):
            found[name] = formats, render
    path = devtools.found()
    if path is None:
        yield found
        return
    with tempfile.TemporaryDirectory() as profile, devtools.browser(path, Path(profile)) as tab:
        yield {"chromium": (CHROMIUM, chromium(tab)), **found}


def versions() -> dict[str, str]:
    """Of what was compared."""
    found = {name: version(name) for name in ("pillow", "pypdfium2", "pillow-heif")}
    for name, call, pattern in (
        ("chromium", ("chromium", "--version"), r"Chromium (\S+)"),
        ("imagemagick", ("convert", "--version"), r"ImageMagick (\S+)"),
        ("mutool", ("mutool", "-v"), r"version (\S+)"),
        ("pdftoppm", ("pdftoppm", "-v"), r"version (\S+)"),
        ("avifdec", ("avifdec", "--version"), r"Version: (\S+)"),
    ):
        if shutil.which(call[0]):
            done = subprocess.run(call, capture_output=True, text=True, check=False)
            match = re.search(pattern, done.stdout + done.stderr)
            found[name] = match[1] if match else "unknown"
    return found


# -- comparison -------------------------------------------------------------------------------------------------------


def shown(path: Path, kind: str) -> Image.Image:
    """What this package makes of a file."""
    return open_page(PageReference(source=path)).image if kind == "PDF" else open_image(path)


def compared(ours: Image.Image, render: Render, path: Path) -> dict[str, Any]:
    """Mean absolute and largest difference, or why there is none."""
    try:
        theirs = render(path, ours.size)
    except Refused as error:
        return {"refused": str(error).replace(str(path), "FILE")}
    if theirs.size != ours.size:
        return {"size": theirs.size}
    difference = np.abs(np.asarray(ours).astype(int) - np.asarray(theirs))
    return {"mean": round(float(difference.mean()), 3), "largest": int(difference.max())}


def rows(only: str) -> Iterator[dict[str, Any]]:
    """One a file."""
    with renderers() as found, tempfile.TemporaryDirectory() as folder:
        for each in picture_samples.samples():
            if only not in each.name:
                continue
            path = Path(folder) / f"file{SUFFIXES[each.format]}"  # mutool goes by it
            path.write_bytes(each.data)
            ours = shown(path, each.format)
            beside = {
                name: compared(ours, render, path)
                for name, (formats, render) in found.items()
                if each.format in formats
            }
            row = {"name": each.name, "format": each.format, "done": each.done, "size": ours.size, "renderers": beside}
            print(each.name, *(f"{name} {' '.join(map(str, d.values()))}" for name, d in beside.items()), sep=" | ")
            yield row


def explanation(name: str, renderer: str) -> str | None:
    """Why a file differs, the longest beginning of its name counts."""
    found = [begin for begin, who in EXPLAINED if who == renderer and name.startswith(begin)]
    return EXPLAINED[max(found, key=len), renderer] if found else None


def main() -> int:
    """Compares all files and writes the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="files whose name has these words; nothing is written then")
    arguments = parser.parse_args()
    files = list(rows(arguments.only))
    unexplained = 0
    for row in files:
        for renderer, found in row["renderers"].items():
            if found.get("mean", MOST + 1) > MOST:
                found["why"] = explanation(row["name"], renderer)
                unexplained += found["why"] is None
    agreed = sum(any(each.get("mean", 255) <= MOST for each in row["renderers"].values()) for row in files)
    print(
        f"{agreed} of {len(files)} files within {MOST:g} of 255 of an independent renderer, {unexplained} unexplained"
    )
    if not arguments.only:
        found = {"date": date.today().isoformat(), "most": MOST, "versions": versions(), "files": files}
        RESULT.write_text(json.dumps(found, indent=1) + "\n")
    return 1 if unexplained else 0


if __name__ == "__main__":
    raise SystemExit(main())
