"""The text layer of a PDF page as glyphs: character, boxes, baseline, size, angle, face. Through pypdfium2.

PDFium reports one entry a character of the text. What it makes up itself (spaces and line breaks between words) is left
out. Hyphens at line ends, reported as U+0002, come back as hyphens, ligatures become their letters side by side,
and an accent set on top of a letter becomes one character with it.

Coordinates: pixels of the rendered page, origin at the top left; n glyphs.
"""

from __future__ import annotations

import ctypes
import unicodedata
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from ixc.nano.data.alphabet import letters_of

MAX_CHARACTERS = 20_000
"""Most characters of a page; a page of more is a table of data, not something to read."""
HYPHEN = 2
"""What PDFium 5.15 reports for a hyphen at the end of a line."""
INVISIBLE = (3, 7)
"""Text render modes of the PDF standard that paint nothing (9.3.6)."""
ACCENTS = {"´": "\u0301", "`": "\u0300", "¨": "\u0308", "ˆ": "\u0302", "˜": "\u0303", "^": "\u0302", "~": "\u0303"}
ACCENTS |= {"¸": "\u0327", "˚": "\u030a", "ˇ": "\u030c", "˝": "\u030b", "¯": "\u0304", "˙": "\u0307", "˘": "\u0306"}
"""Accents that TeX's older encodings set as glyphs of their own -> combining characters."""


@dataclass(frozen=True, kw_only=True)
class Glyphs:
    """Visible characters of a page in the order of its text layer."""

    code: np.ndarray
    """(n,) int64: Unicode code points; U+FFFD where the text layer does not say."""
    tight: np.ndarray
    """(n, 4) float32: left, top, right, bottom of the ink."""
    loose: np.ndarray
    """(n, 4) float32: the same of the advance width and the face's height."""
    origin: np.ndarray
    """(n, 2) float32: where the glyph begins on its baseline."""
    size: np.ndarray
    """(n,) float32: em in pixels."""
    angle: np.ndarray
    """(n,) float32: degrees of the baseline, counterclockwise."""
    face: np.ndarray
    """(n,) int64: index into the list of faces."""
    blank: np.ndarray
    """(n,) bool: the text layer has a space or a line break before the glyph."""

    def __len__(self) -> int:
        return len(self.code)

    def take(self, kept: np.ndarray) -> Glyphs:
        """Those of an index or mask."""
        return Glyphs(**{field.name: getattr(self, field.name)[kept] for field in fields(self)})


@dataclass(frozen=True, kw_only=True)
class TextLayer:
    """What a page's text layer holds, and how far it can be believed."""

    glyphs: Glyphs
    faces: tuple[str, ...]
    """Names of the fonts, without the prefix of a subset."""
    unmapped: float
    """Share of characters without a known Unicode value."""
    hidden: float
    """Share of characters that are painted invisibly."""


class _Reader:
    """One page's calls into PDFium, with the memory that they write into allocated once."""

    def __init__(self, page: Any, textpage: Any, scale: float) -> None:
        import pypdfium2.raw as raw

        self.raw, self.text, self.scale = raw, textpage.raw, scale
        self.left, self.bottom, _, self.top = page.get_bbox()
        self.edges = [ctypes.c_double() for _ in range(4)]
        self.rectangle, self.matrix = raw.FS_RECTF(), raw.FS_MATRIX()
        self.name, self.flags = ctypes.create_string_buffer(128), ctypes.c_int()
        self.faces: dict[str, int] = {}
        self._objects: dict[int, tuple[int, bool]] = {}

    def at(self, x: float, y: float) -> tuple[float, float]:
        """Points from the bottom left -> pixels from the top left."""
        return (x - self.left) * self.scale, (self.top - y) * self.scale

    def boxes(self, i: int) -> tuple[float, ...] | None:
        """Ink box, advance box, origin, em and angle of a character; None where PDFium knows none."""
        raw, (left, right, bottom, top) = self.raw, self.edges
        if not raw.FPDFText_GetCharBox(self.text, i, left, right, bottom, top):
            return None
        if not raw.FPDFText_GetLooseCharBox(self.text, i, self.rectangle):
            return None
        loose = self.rectangle
        numbers = (*self.at(left.value, top.value), *self.at(right.value, bottom.value))
        numbers += (*self.at(loose.left, loose.top), *self.at(loose.right, loose.bottom))
        x, y = left, bottom
        if not raw.FPDFText_GetCharOrigin(self.text, i, x, y) or not raw.FPDFText_GetMatrix(self.text, i, self.matrix):
            return None
        m = self.matrix
        em = raw.FPDFText_GetFontSize(self.text, i) * (m.c**2 + m.d**2) ** 0.5 * self.scale
        return (*numbers, *self.at(x.value, y.value), em, float(np.degrees(np.arctan2(m.b, m.a))))

    def face(self, i: int) -> tuple[int, bool]:
        """Number of a character's font, and whether its text object paints nothing."""
        text_object = self.raw.FPDFText_GetTextObject(self.text, i)
        key = ctypes.cast(text_object, ctypes.c_void_p).value or 0
        if key not in self._objects:
            self.raw.FPDFText_GetFontInfo(self.text, i, self.name, 128, self.flags)
            name = self.name.value.decode("utf-8", "replace")
            name = name[7:] if name[6:7] == "+" else name
            mode = self.raw.FPDFTextObj_GetTextRenderMode(text_object) if key else 0
            self._objects[key] = self.faces.setdefault(name, len(self.faces)), mode in INVISIBLE
        return self._objects[key]


def read_text_layer(page: Any, *, scale: float) -> TextLayer | None:
    """The glyphs of an unrotated pypdfium2 page; None where it has too few or too many characters.

    Args:
        page: a `pypdfium2.PdfPage`.
        scale: pixels a point of the picture that the boxes are for.
    """
    textpage = page.get_textpage()
    try:
        count = textpage.count_chars()
        if not 1 <= count <= MAX_CHARACTERS:
            return None
        return _read(_Reader(page, textpage, scale), count)
    finally:
        textpage.close()


def _read(reader: _Reader, count: int) -> TextLayer:
    raw, rows, codes = reader.raw, [], []
    seen = unmapped = hidden = 0
    blank = True
    for i in range(count):
        code = raw.FPDFText_GetUnicode(reader.text, i)
        if code in (10, 13, 32, 0xA0) or raw.FPDFText_IsGenerated(reader.text, i) == 1:
            blank = True
            continue
        shown = "-" if code == HYPHEN else letters_of(chr(code)) if code else "\ufffd"
        if not shown or (boxes := reader.boxes(i)) is None:
            continue
        face, unseen = reader.face(i)
        seen += 1
        hidden += unseen
        bad = shown == "\ufffd" or raw.FPDFText_HasUnicodeMapError(reader.text, i) == 1
        unmapped += bad
        if unseen or not (boxes[2] > boxes[0] and boxes[3] > boxes[1]):
            continue
        rows.append((*boxes, face, blank))
        blank = False
        codes.append("\ufffd" if bad else shown)
    glyphs = _glyphs(codes, np.array(rows, np.float32).reshape(-1, 14))
    share = max(1, seen)
    return TextLayer(glyphs=glyphs, faces=tuple(reader.faces), unmapped=unmapped / share, hidden=hidden / share)


def _glyphs(codes: list[str], table: np.ndarray) -> Glyphs:
    """Rows of numbers as glyphs: several characters of one box side by side, accents joined to their letters."""
    codes, table = _split_shared_boxes(*_split_ligatures(codes, table))
    codes, table = _joined_accents(codes, table)
    return Glyphs(
        code=np.array([ord(c) for c in codes], np.int64),
        tight=table[:, 0:4],
        loose=table[:, 4:8],
        origin=table[:, 8:10],
        size=table[:, 10],
        angle=table[:, 11],
        face=table[:, 12].astype(np.int64),
        blank=table[:, 13] > 0,
    )


def _parts_of(row: np.ndarray, count: int) -> list[np.ndarray]:
    """A glyph's row for each of so many letters of equal width."""
    parts = []
    for k in range(count):
        part = row.copy()
        for left, right in ((0, 2), (4, 6)):
            width = (row[right] - row[left]) / count
            part[left], part[right] = row[left] + k * width, row[left] + (k + 1) * width
        part[8] = row[8] + k * (row[6] - row[4]) / count
        part[13] = row[13] if k == 0 else 0
        parts.append(part)
    return parts


def _split_ligatures(codes: list[str], table: np.ndarray) -> tuple[list[str], np.ndarray]:
    if all(len(code) == 1 for code in codes):
        return codes, table
    rows = [part for code, row in zip(codes, table, strict=True) for part in _parts_of(row, len(code))]
    return [letter for code in codes for letter in code], np.stack(rows)


def _split_shared_boxes(codes: list[str], table: np.ndarray) -> tuple[list[str], np.ndarray]:
    """A glyph that stands for several characters is reported once for each, with one box for all."""
    if len(codes) < 2:
        return codes, table
    same = (np.abs(table[1:, :4] - table[:-1, :4]) < 1e-3).all(1)
    if not same.any():
        return codes, table
    table, starts = table.copy(), np.flatnonzero(np.r_[True, ~same]).tolist()
    for start, end in zip(starts, [*starts[1:], len(codes)], strict=True):
        if end - start > 1:
            table[start:end] = _parts_of(table[start], end - start)
    return codes, table


def _joined_accents(codes: list[str], table: np.ndarray) -> tuple[list[str], np.ndarray]:
    kept, i = [], 0
    table = table.copy()
    while i < len(codes):
        if i + 1 < len(codes) and codes[i] in ACCENTS:
            whole = unicodedata.normalize("NFC", codes[i + 1] + ACCENTS[codes[i]])
            if len(whole) == 1 and _overlap(table[i], table[i + 1]):
                low, high = table[i].copy(), table[i + 1]
                high[:2], high[2:4] = np.minimum(low[:2], high[:2]), np.maximum(low[2:4], high[2:4])
                high[13] = max(low[13], high[13])
                codes[i + 1] = whole
                i += 1
                continue
        kept.append(i)
        i += 1
    return [codes[k] for k in kept], table[kept]


def _overlap(accent: np.ndarray, letter: np.ndarray) -> bool:
    """An accent stands above, or hangs below, its letter."""
    inside = min(accent[2], letter[2]) - max(accent[0], letter[0])
    return bool(inside > 0.5 * min(accent[2] - accent[0], letter[2] - letter[0]))
