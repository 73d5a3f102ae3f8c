"""Canvases of one tile that letters are learned from: full of text, or tiles of a family's pages.

Both give pixels (336, 336, 3) uint8 and codes, x, y of the characters in canvas pixels.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.random import Generator
from PIL import Image

from ixc.nano.data.glyph_tokens import seen_by
from ixc.processing.canvas import resize_to_canvas
from ixc.synth import values
from ixc.synth.config import FAMILY, PageFamily
from ixc.synth.degradation import maybe_degraded
from ixc.synth.page import DrawnPage, PlacedText, characters
from ixc.synth.page_sampling import colours, compose
from ixc.synth.render import GROUNDS, paint

CANVAS = 336
"""Pixels of a side."""


@dataclass(frozen=True, kw_only=True)
class TextImageConfig:
    """How canvases full of text are set; sizes in pixels as the tower sees them."""

    sizes: tuple[float, float, float] = (18, 27, 38)
    """Smallest, median and largest letters."""
    spread: float = 0.15
    """Deviation of the size's logarithm."""
    others: tuple[float, float] = (26, 48)
    """Smallest and largest letters of the canvases set apart from that."""
    apart: float = 0.12
    """Share of those canvases."""
    shrunk: float = 0.25
    """Share of canvases drawn up to 1.7 times as large and resized."""
    narrowed: float = 0.06
    """Share of canvases narrowed on top of that."""
    scrambled: float = 0.08
    """Share of any printable characters among the words."""
    dark: float = 0.0
    """Share of canvases with light letters on dark ground."""
    textured: float = 0.0
    """Share of canvases on a ground that is not plain."""


LETTERING = TextImageConfig()
"""That of `recipes/nano.py`."""


def line_of_text(rng: Generator, length: int, family: PageFamily, scrambled: float) -> str:
    """Values, keys and scrambled characters up to a length."""
    line = ""
    while len(line) < length:
        r = rng.random()
        if r < scrambled:
            piece = values.scramble(rng)
        elif r < 0.35:
            piece = values.key(rng)
        else:
            piece = values.value(rng, family.values, longest=family.longest)
        line += piece + (":" if rng.random() < 0.1 else "") + " " * int(rng.integers(1, 3))
    return line


Canvas = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]
"""Pixels, codes, x, y."""


def page_canvas(rng: Generator, family: PageFamily = FAMILY) -> Canvas:
    """A tile of a page of the family, white padding and all; of pages of one tile and of four."""
    hd = min(1 if rng.random() < 0.6 else 4, max(family.settings))
    page = compose(int(rng.integers(1 << 39)), hd=hd, family=family)
    place, codes, x, y, _ = seen_by(page, hd=hd)
    canvas = resize_to_canvas(maybe_degraded(paint(page), rng, family.worn), partition=place)
    left, top = (CANVAS * int(rng.integers(n)) for n in (place.grid_w, place.grid_h))
    return canvas[top : top + CANVAS, left : left + CANVAS], codes, x - left, y - top


def _setting(rng: Generator, lettering: TextImageConfig) -> tuple[int, int, int]:
    """Font size, width and height of a canvas before it is resized."""
    least, median, most = lettering.sizes
    seen = float(np.clip(np.exp(rng.normal(np.log(median), lettering.spread)), least, most))
    if rng.random() < lettering.apart:
        seen = float(rng.uniform(*lettering.others))
    sx = sy = float(np.exp(rng.uniform(np.log(0.6), 0.0))) if rng.random() < lettering.shrunk else 1.0
    if rng.random() < lettering.narrowed:
        sx *= float(rng.uniform(0.6, 1.0))
    return max(8, round(seen / sy)), round(CANVAS / sx), round(CANVAS / sy)


def _ground(rng: Generator, page: DrawnPage, lettering: TextImageConfig) -> None:
    """Light on dark, or on something that is not plain; shares of 0 draw nothing from `rng`."""
    if lettering.dark and rng.random() < lettering.dark:
        page.ink, page.paper = page.paper, page.ink
    if lettering.textured and rng.random() < lettering.textured:
        page.number, page.ground = int(rng.integers(1 << 39)), values.pick(rng, GROUNDS[1:])


def text_canvas(rng: Generator, family: PageFamily = FAMILY, lettering: TextImageConfig = LETTERING) -> Canvas:
    """A canvas full of the family's text."""
    size, width, height = _setting(rng, lettering)
    names = family.fonts
    ink, paper = colours(rng, family.coloured)
    page = DrawnPage(
        kind="sight", width=width, height=height, font=names[rng.integers(len(names))], ink=ink, paper=paper
    )
    _ground(rng, page, lettering)
    y = float(rng.uniform(0.2, 1.2)) * size
    while y < height + size * 0.3:
        x = int(rng.integers(-size, 2 * size))
        page.texts.append(
            PlacedText(
                string=line_of_text(rng, int(2.4 * width / size), family, lettering.scrambled),
                x=x,
                y=round(y),
                size=size,
                bold=bool(rng.random() < 0.08),
            )
        )
        if rng.random() < 0.05:
            page.rules.append((0, round(y + size * 0.45), width, round(y + size * 0.45)))
        y += size * rng.uniform(1.1, 1.9)
    image = maybe_degraded(paint(page), rng, family.worn)
    if (width, height) != (CANVAS, CANVAS):
        image = image.resize((CANVAS, CANVAS), Image.Resampling.BILINEAR)
    codes, cx, cy = characters(page)
    return np.asarray(image), codes, cx * CANVAS / width, cy * CANVAS / height
