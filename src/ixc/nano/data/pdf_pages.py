"""A page of a PDF as training data: its picture at a chosen size, every glyph's box, lines and reading order.

    PDF page --PDFium--> picture (H, W) or (H, W, 3) uint8, Glyphs --find_lines--> TypesetPage, or the reason why not

A page is left out where its text layer disagrees with what is drawn: too many characters without a Unicode value, too
many that are invisible or stand where the picture has no ink. Single glyphs of that kind are left out of a good page.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ixc.nano.data.alphabet import OTHER, classes_of
from ixc.nano.data.languages import language_of
from ixc.nano.data.pdf_text import Glyphs, TextLayer, read_text_layer
from ixc.nano.data.text_lines import TextLines, find_lines, line_text


@dataclass(frozen=True, kw_only=True)
class PageConfig:
    """How pages are drawn and which are left out."""

    em: tuple[float, float] = (8.0, 48.0)
    """Pixels that a page's median em is drawn at: least and most, drawn uniformly in the logarithm."""
    max_side: int = 4200
    """Longest side of a picture in pixels; a page is drawn smaller where it would be larger."""
    max_points: float = 3500.0
    """Longest side of a page in points; larger ones are posters of which little is text."""
    min_characters: int = 30
    """Fewest glyphs of a page."""
    max_unmapped: float = 0.08
    """Most characters without a known Unicode value, as a share."""
    max_hidden: float = 0.05
    """Most invisible characters, as a share."""
    max_inkless: float = 0.06
    """Most glyphs whose box holds no ink, as a share."""
    max_other: float = 0.45
    """Most glyphs outside the alphabet, as a share."""
    min_contrast: int = 24
    """Least difference of grey levels inside the box of a visible glyph, of 255."""


@dataclass(frozen=True, kw_only=True)
class TypesetPage:
    """A page's picture and what stands on it."""

    picture: np.ndarray
    """(H, W) uint8 grey or (H, W, 3) uint8 RGB."""
    glyphs: Glyphs
    lines: TextLines
    faces: tuple[str, ...]
    em: float
    """Median em in pixels."""
    scale: float
    """Pixels a point."""
    language: str
    """ISO 639-1, or "" where it is not told from the words."""
    unmapped: float
    """Share of characters without a known Unicode value; they are in `glyphs` as U+FFFD."""

    def text(self) -> list[str]:
        """Lines in reading order."""
        return [line_text(self.glyphs, self.lines, i) for i in range(int(self.lines.line.max(initial=-1)) + 1)]


class LeftOut(Exception):
    """A page is no training data; the message names the reason in a word or two."""


def read_page(page: Any, rng: np.random.Generator, config: PageConfig) -> TypesetPage:
    """Draw a page of an open document and read its text layer.

    Args:
        page: a `pypdfium2.PdfPage`.
        rng: draws the size.

    Raises:
        LeftOut: the page is no training data.
    """
    if page.get_rotation():
        raise LeftOut("rotated")
    if max(page.get_size()) > config.max_points:
        raise LeftOut("too large")
    layer = read_text_layer(page, scale=1.0)
    if layer is None or len(layer.glyphs) < config.min_characters:
        raise LeftOut("too little or too much text")
    _believe(layer, config)
    em = float(np.median(layer.glyphs.size))
    if not 1.5 < em < 150:
        raise LeftOut("no plausible size of type")
    wanted = float(np.exp(rng.uniform(*np.log(config.em))))
    scale = min(wanted / em, config.max_side / max(page.get_size()))
    picture = draw(page, scale)
    glyphs = _on_picture(_scaled(layer.glyphs, scale), picture, config)
    lines = find_lines(glyphs)
    return TypesetPage(
        picture=picture,
        glyphs=glyphs,
        lines=lines,
        faces=layer.faces,
        em=em * scale,
        scale=scale,
        language=language_of(_running_text(glyphs, lines)),
        unmapped=layer.unmapped,
    )


def draw(page: Any, scale: float) -> np.ndarray:
    """The picture of a page on white: (H, W) where it is grey, else (H, W, 3)."""
    picture = page.render(scale=scale, rev_byteorder=True).to_numpy()[:, :, :3]
    if (picture[..., 0] == picture[..., 1]).all() and (picture[..., 1] == picture[..., 2]).all():
        return np.ascontiguousarray(picture[..., 0])
    return np.ascontiguousarray(picture)


def _believe(layer: TextLayer, config: PageConfig) -> None:
    if layer.unmapped > config.max_unmapped:
        raise LeftOut("unmapped characters")
    if layer.hidden > config.max_hidden:
        raise LeftOut("hidden text")
    if (classes_of(layer.glyphs.code) == OTHER).mean() > config.max_other:
        raise LeftOut("another script")


def _scaled(glyphs: Glyphs, scale: float) -> Glyphs:
    return Glyphs(
        code=glyphs.code,
        tight=glyphs.tight * scale,
        loose=glyphs.loose * scale,
        origin=glyphs.origin * scale,
        size=glyphs.size * scale,
        angle=glyphs.angle,
        face=glyphs.face,
        blank=glyphs.blank,
    )


def _on_picture(glyphs: Glyphs, picture: np.ndarray, config: PageConfig) -> Glyphs:
    """Glyphs whose box lies on the picture and holds ink."""
    height, width = picture.shape[:2]
    grey = picture if picture.ndim == 2 else picture.min(-1)
    x0, y0 = np.floor(glyphs.tight[:, 0]).astype(int), np.floor(glyphs.tight[:, 1]).astype(int)
    x1, y1 = np.ceil(glyphs.tight[:, 2]).astype(int), np.ceil(glyphs.tight[:, 3]).astype(int)
    inside = np.flatnonzero((x1 > 0) & (y1 > 0) & (x0 < width) & (y0 < height))
    inked = np.zeros(len(glyphs), bool)
    for i in inside.tolist():
        box = grey[max(0, y0[i] - 1) : y1[i] + 1, max(0, x0[i] - 1) : x1[i] + 1]
        inked[i] = int(box.max()) - int(box.min()) >= config.min_contrast
    if (~inked[inside]).mean() > config.max_inkless if len(inside) else True:
        raise LeftOut("text without ink")
    return glyphs.take(inked)


def _running_text(glyphs: Glyphs, lines: TextLines) -> str:
    order = lines.order[:4000]
    words = lines.word[order]
    new = np.r_[True, words[1:] != words[:-1]]
    return "".join((" " if n else "") + chr(int(c)) for n, c in zip(new, glyphs.code[order], strict=True))
