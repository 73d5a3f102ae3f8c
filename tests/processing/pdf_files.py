"""Small PDFs for tests, written here object by object."""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence

FONT = "<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica /Encoding /WinAnsiEncoding >>"


def stream(data: bytes, extra: str = "") -> bytes:
    """A stream object's body."""
    return f"<< /Length {len(data)} {extra}>>\nstream\n".encode() + data + b"\nendstream"


def pdf(objects: Mapping[int, str | bytes], *, root: int = 1, before: bytes = b"") -> bytes:
    """A document of numbered objects with a cross-reference table."""
    data, places = bytearray(b"%PDF-1.7\n"), {}
    for number, body in sorted(objects.items()):
        places[number] = len(data)
        data += f"{number} 0 obj\n".encode() + (body.encode() if isinstance(body, str) else body) + b"\nendobj\n"
    start, count = len(data), max(objects) + 1
    data += f"xref\n0 {count}\n0000000000 65535 f \n".encode()
    for number in range(1, count):
        data += f"{places[number]:010} 00000 n \n".encode() if number in places else b"0000000000 00000 f \n"
    data += f"trailer << /Size {count} /Root {root} 0 R >>\nstartxref\n{start}\n%%EOF\n".encode()
    return before + bytes(data)


def pages(*entries: str, content: bytes = b"", box: str = "0 0 300 200") -> bytes:
    """Pages with entries of their own in their dictionaries."""
    kids = " ".join(f"{10 + place} 0 R" for place in range(len(entries)))
    found: dict[int, str | bytes] = {
        1: "<< /Type /Catalog /Pages 2 0 R >>",
        2: f"<< /Type /Pages /Kids [{kids}] /Count {len(entries)} >>",
        3: FONT,
        4: stream(content),
    }
    for place, entry in enumerate(entries):
        found[10 + place] = (
            f"<< /Type /Page /Parent 2 0 R /MediaBox [{box}] /Contents 4 0 R "
            f"/Resources << /Font << /F1 3 0 R >> >> {entry} >>"
        )
    return pdf(found)


def form(*, appearance: bool) -> bytes:
    """A page with one field that holds the value Tromso; with its appearance drawn, or left to the viewer."""
    looks = "/AP << /N 7 0 R >>" if appearance else ""
    return pdf({
        1: "<< /Type /Catalog /Pages 2 0 R /AcroForm << /Fields [6 0 R] /DR << /Font << /F1 3 0 R >> >> "
           "/DA (/F1 22 Tf 0 g) >> >>",
        2: "<< /Type /Pages /Kids [5 0 R] /Count 1 >>",
        3: FONT,
        4: stream(b""),
        5: "<< /Type /Page /Parent 2 0 R /MediaBox [0 0 300 100] /Contents 4 0 R /Annots [6 0 R] >>",
        6: "<< /Type /Annot /Subtype /Widget /FT /Tx /T (City) /V (Tromso) /DA (/F1 22 Tf 0 g) "
           f"/Rect [20 30 240 62] /F 4 /P 5 0 R {looks} >>",
        7: stream(b"/Tx BMC q BT /F1 22 Tf 2 8 Td (Tromso) Tj ET Q EMC",
                  "/Type /XObject /Subtype /Form /BBox [0 0 220 32] /Resources << /Font << /F1 3 0 R >> >> "),
    })  # fmt: skip


def compressed_unit(unit: int) -> bytes:
    """A page whose dictionary stands in an object stream, with /UserUnit; the table of references is a stream too."""
    inside: dict[int, str] = {
        1: "<< /Type /Catalog /Pages 2 0 R >>",
        2: "<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
        3: f"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 300 200] /UserUnit {unit} >>",
    }
    bodies, head = "", ""
    for number, body in inside.items():
        head += f"{number} {len(bodies)} "
        bodies += body + " "
    packed = zlib.compress((head + bodies).encode())
    data = bytearray(b"%PDF-1.7\n")
    first = len(data)
    kind = f"/Type /ObjStm /N 3 /First {len(head)} /Filter /FlateDecode "
    data += b"4 0 obj\n" + stream(packed, kind) + b"\nendobj\n"
    start = len(data)
    rows: Sequence[tuple[int, int, int]] = ((0, 0, 255), (2, 4, 0), (2, 4, 1), (2, 4, 2), (1, first, 0), (1, start, 0))
    table = b"".join(kind.to_bytes(1) + place.to_bytes(4) + third.to_bytes(1) for kind, place, third in rows)
    data += b"5 0 obj\n" + stream(table, "/Type /XRef /W [1 4 1] /Size 6 /Root 1 0 R ") + b"\nendobj\n"
    return bytes(data) + f"startxref\n{start}\n%%EOF\n".encode()


def unembedded_chinese() -> bytes:
    """Four letters in a font that viewers are expected to bring."""
    return pdf({
        1: "<< /Type /Catalog /Pages 2 0 R >>",
        2: "<< /Type /Pages /Kids [5 0 R] /Count 1 >>",
        3: "<< /Type /Font /Subtype /Type0 /BaseFont /STSong-Light /Encoding /UniGB-UCS2-H /DescendantFonts [6 0 R] >>",
        4: stream(b"BT /F1 18 Tf 20 40 Td <4E2D6587603B8BA1> Tj ET"),
        5: "<< /Type /Page /Parent 2 0 R /MediaBox [0 0 300 100] /Contents 4 0 R "
           "/Resources << /Font << /F1 3 0 R >> >> >>",
        6: "<< /Type /Font /Subtype /CIDFontType0 /BaseFont /STSong-Light /DW 1000 /FontDescriptor 7 0 R "
           "/CIDSystemInfo << /Registry (Adobe) /Ordering (GB1) /Supplement 0 >> >>",
        7: "<< /Type /FontDescriptor /FontName /STSong-Light /Flags 6 /FontBBox [-25 -254 1000 880] /ItalicAngle 0 "
           "/Ascent 880 /Descent -120 /CapHeight 880 /StemV 93 >>",
    })  # fmt: skip
