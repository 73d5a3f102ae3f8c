"""Pages of PDFs for dev/picture_comparison.py, written object by object; fonts are embedded."""

from __future__ import annotations

import sys
import zlib
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image, ImageFont

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests"))

from processing.pdf_files import pdf, stream  # noqa: E402

FONT = ROOT / "src/ixc/synth/fonts/DejaVuSans.ttf"
FIRST, LAST = 32, 126
"""Letters of the font that are used."""

BOX = "0 0 300 200"

LINES = ("Invoice 4207", "Oslo, 3 May 2026", "12 chairs   480.00", "1 table   161.57", "Total   641.57")
TEXT = "".join(
    f"BT /F1 {18 if not number else 12} Tf 24 {160 - 26 * number} Td ({line}) Tj ET\n"
    for number, line in enumerate(LINES)
)
DRAWING = """
0.9 0.95 1 rg 170 20 110 60 re f
1 0 0 RG 3 w 180 30 m 220 75 l 270 35 l S
0 0.5 0 rg 250 120 m 280 120 280 160 250 160 c 220 160 220 120 250 120 c f
0 g 24 20 80 8 re f
"""
FIELD = "/FT /Tx /V (Tromso) /DA (/F1 14 Tf 0 g) /Rect [170 170 280 192] /F 4"


def font() -> dict[int, str | bytes]:
    """Objects 3, 5 and 6: an embedded TrueType font."""
    drawn, data = ImageFont.truetype(FONT, 1000), FONT.read_bytes()
    widths = " ".join(str(round(drawn.getlength(chr(code)))) for code in range(FIRST, LAST + 1))
    return {
        3: f"<< /Type /Font /Subtype /TrueType /BaseFont /DejaVuSans /Encoding /WinAnsiEncoding /FirstChar {FIRST} "
           f"/LastChar {LAST} /Widths [{widths}] /FontDescriptor 5 0 R >>",
        5: "<< /Type /FontDescriptor /FontName /DejaVuSans /Flags 32 /FontBBox [-1021 -463 1793 1232] /ItalicAngle 0 "
           "/Ascent 928 /Descent -236 /CapHeight 729 /StemV 90 /FontFile2 6 0 R >>",
        6: stream(zlib.compress(data), f"/Filter /FlateDecode /Length1 {len(data)} "),
    }  # fmt: skip


def page(content: str, entry: str = "", *, more: dict[int, str | bytes] | None = None, resources: str = "") -> bytes:
    """A page of 300 x 200 points with entries of its own; `more` are objects from 10 on."""
    extra = more or {}
    form = " /AcroForm << /Fields [10 0 R] /DR << /Font << /F1 3 0 R >> >> /DA (/F1 14 Tf 0 g) >>"
    return pdf({
        1: f"<< /Type /Catalog /Pages 2 0 R{form if '/Annots' in entry and '/Tx' in str(extra.get(10)) else ''} >>",
        2: "<< /Type /Pages /Kids [7 0 R] /Count 1 >>",
        4: stream(content.encode()),
        7: f"<< /Type /Page /Parent 2 0 R {'' if '/MediaBox' in entry else f'/MediaBox [{BOX}]'} /Contents 4 0 R "
           f"/Resources << /Font << /F1 3 0 R >> {resources} >> {entry} >>",
        **font(),
        **extra,
    })  # fmt: skip


def picture(image: Image.Image, *, jpeg: bool) -> bytes:
    """A page with a picture of 240 x 160 points, as JPEG or as compressed samples."""
    space = {"RGB": "DeviceRGB", "L": "DeviceGray", "CMYK": "DeviceCMYK"}[image.mode]
    file = BytesIO()
    if jpeg:
        image.save(file, "JPEG", quality=92, subsampling=0)
    data = file.getvalue() if jpeg else zlib.compress(image.tobytes())
    entry = (
        f"/Type /XObject /Subtype /Image /Width {image.width} /Height {image.height} /ColorSpace /{space} "
        f"/BitsPerComponent 8 /Filter /{'DCTDecode' if jpeg else 'FlateDecode'} "
    )
    place = "q 240 0 0 160 30 20 cm /P Do Q"
    return page(place, more={10: stream(data, entry)}, resources="/XObject << /P 10 0 R >>")


def soft_mask(image: Image.Image) -> bytes:
    """A picture whose alpha stands in a picture of its own, over text."""
    alpha = np.tile(np.linspace(0, 255, image.width).astype(np.uint8), (image.height, 1))
    entry = f"/Type /XObject /Subtype /Image /Width {image.width} /Height {image.height} /BitsPerComponent 8 "
    entry += "/Filter /FlateDecode "
    whole = stream(zlib.compress(image.tobytes()), entry + "/ColorSpace /DeviceRGB /SMask 11 0 R ")
    mask = stream(zlib.compress(alpha.tobytes()), entry + "/ColorSpace /DeviceGray ")
    content = TEXT + "q 200 0 0 130 60 30 cm /P Do Q"
    return page(content, more={10: whole, 11: mask}, resources="/XObject << /P 10 0 R >>")


def form(*, appearance: bool) -> bytes:
    """A page with a filled field."""
    looks = stream(b"/Tx BMC q BT /F1 14 Tf 2 6 Td (Tromso) Tj ET Q EMC",
                   "/Type /XObject /Subtype /Form /BBox [0 0 110 22] "
                   "/Resources << /Font << /F1 3 0 R >> >> ")  # fmt: skip
    drawn = "/AP << /N 11 0 R >>" if appearance else ""
    field = f"<< /Type /Annot /Subtype /Widget /T (City) {FIELD} /P 7 0 R {drawn} >>"
    return page(TEXT, "/Annots [10 0 R]", more={10: field, 11: looks})


def highlight() -> bytes:
    """A text marked in yellow, with the mark's own appearance."""
    looks = stream(b"/G gs 1 1 0 rg 0 0 130 22 re f",
                   "/Type /XObject /Subtype /Form /BBox [0 0 130 22] /Group << /S /Transparency >> "
                   "/Resources << /ExtGState << /G << /BM /Multiply >> >> >> ")  # fmt: skip
    mark = (
        "<< /Type /Annot /Subtype /Highlight /Rect [22 154 152 176] /QuadPoints [22 176 152 176 22 154 152 154] "
        "/C [1 1 0] /F 4 /AP << /N 11 0 R >> >>"
    )
    return page(TEXT, "/Annots [10 0 R]", more={10: mark, 11: looks})


def clear_layers() -> bytes:
    """Half transparent rectangles over text, and a shading."""
    content = TEXT + "/H gs 1 0 0 rg 20 60 120 60 re f 0 0 1 rg 80 90 120 60 re f q 220 20 60 160 re W n /S sh Q"
    resources = (
        "/ExtGState << /H << /ca 0.5 >> >> /Shading << /S << /ShadingType 2 /ColorSpace /DeviceRGB "
        "/Coords [220 20 220 180] /Function << /FunctionType 2 /Domain [0 1] /C0 [1 1 0] /C1 [0 0.2 0.6] /N 1 >> >> >>"
    )
    return page(content, resources=resources)


def all_(scene: Image.Image) -> Iterator[tuple[str, str, bytes]]:
    """Name, what is done, the document."""
    plain = "drawn by PDFium at 200 dpi: text, lines, pictures, transparency"
    yield "text", plain, page(TEXT)
    yield "text and drawing", plain, page(TEXT + DRAWING)
    yield "layers and a shading", plain, clear_layers()
    yield "JPEG", plain, picture(scene, jpeg=True)
    yield "grey samples", plain, picture(scene.convert("L"), jpeg=False)
    yield "samples", plain, picture(scene, jpeg=False)
    yield "CMYK samples", plain, picture(scene.convert("CMYK"), jpeg=False)
    yield "soft mask", plain, soft_mask(scene)
    fields = "values of forms, marks: drawn as in a viewer"
    yield "form", fields, form(appearance=True)
    yield "form without appearance", fields, form(appearance=False)
    yield "highlight", fields, highlight()
    boxes = "rotation, crop box, /UserUnit: as in a viewer"
    for turn in (90, 180, 270):
        yield f"rotated by {turn}", boxes, page(TEXT + DRAWING, f"/Rotate {turn}")
    yield "crop box", boxes, page(TEXT + DRAWING, "/CropBox [20 10 220 180]")
    yield "crop box, rotated", boxes, page(TEXT + DRAWING, "/CropBox [20 10 220 180] /Rotate 90")
    yield "box that begins elsewhere", boxes, page(TEXT + DRAWING, "/MediaBox [-30 -20 290 190]")
    yield "UserUnit 2", boxes, page(TEXT + DRAWING, "/UserUnit 2")
