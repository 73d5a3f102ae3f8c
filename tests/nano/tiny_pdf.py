"""PDFs written by hand: text in the fonts that every reader knows, at given places."""

from pathlib import Path

LATIN = "<< /Type /Font /Subtype /Type1 /BaseFont /{} /Encoding /WinAnsiEncoding >>"


def text(
    string: str, x: float, y: float, *, size: float = 12, font: int = 1, turned: bool = False, mode: int = 0
) -> str:
    """A string at a place in points from the bottom left; `mode` 3 paints nothing."""
    matrix = f"0 1 -1 0 {x} {y}" if turned else f"1 0 0 1 {x} {y}"
    shown = string.encode("cp1252").hex()
    return f"BT /F{font} {size} Tf {mode} Tr {matrix} Tm <{shown}> Tj ET\n"


def pdf(*pages: str, size: tuple[int, int] = (300, 200), rotate: int = 0) -> bytes:
    """A document of content streams."""
    fonts = [LATIN.format(name) for name in ("Helvetica", "Times-Roman", "Courier")]
    kids = " ".join(f"{6 + 2 * i} 0 R" for i in range(len(pages)))
    objects = ["<< /Type /Catalog /Pages 2 0 R >>", f"<< /Type /Pages /Count {len(pages)} /Kids [{kids}] >>", *fonts]
    for i, content in enumerate(pages):
        objects.append(
            f"<< /Type /Page /Parent 2 0 R /Rotate {rotate} /MediaBox [0 0 {size[0]} {size[1]}] "
            f"/Contents {7 + 2 * i} 0 R /Resources << /Font << /F1 3 0 R /F2 4 0 R /F3 5 0 R >> >> >>"
        )
        objects.append(f"<< /Length {len(content)} >>\nstream\n{content}endstream")
    out, offsets = b"%PDF-1.4\n", []
    for number, body in enumerate(objects, 1):
        offsets.append(len(out))
        out += f"{number} 0 obj\n{body}\nendobj\n".encode("latin-1")
    table = "".join(f"{offset:010d} 00000 n \n" for offset in offsets)
    end = f"xref\n0 {len(objects) + 1}\n0000000000 65535 f \n{table}"
    end += f"trailer << /Size {len(objects) + 1} /Root 1 0 R >>\nstartxref\n{len(out)}\n%%EOF\n"
    return out + end.encode()


PROSE = [
    "The quick brown fox jumps over the",
    "lazy dog and is not seen by it again,",
    "as it was for the third time this year.",
]


def prose(number: int = 0) -> str:
    """A content stream: a heading and three lines."""
    lines = [text(f"Heading {number}", 30, 160, size=18, font=2)]
    return "".join([*lines, *(text(line, 30, 130 - 15 * i) for i, line in enumerate(PROSE))])


def write(path: Path, *pages: str) -> Path:
    """A file of pages; without any, of two pages of prose."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(pdf(*(pages or (prose(1), prose(2)))))
    return path
