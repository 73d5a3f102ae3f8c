"""Images of one tile to learn characters from: filled with text, or tiles of a family's pages.

Both give pixels (336, 336, 3) uint8, and code, x and y of every character in pixels of the image.
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

IMAGE_SIDE = 336
"""Side of an image, pixels."""


@dataclass(frozen=True, kw_only=True)
class CharacterImageConfig:
    """Layout of images filled with text; sizes in pixels as the tower sees them."""

    sizes: tuple[float, float, float] = (18, 27, 38)
    """Smallest, median and largest font size."""
    spread: float = 0.15
    """Standard deviation of the logarithm of the size."""
    others: tuple[float, float] = (26, 48)
    """Smallest and largest font size of the images that do not follow `sizes`."""
    apart: float = 0.12
    """Share of the images that do not follow `sizes`."""
    shrunk: float = 0.25
    """Share of images drawn up to 1.7 times as large and resized."""
    narrowed: float = 0.06
    """Share of images narrowed on top of that."""
    scrambled: float = 0.08
    """Share of any printable characters among the words."""
    dark: float = 0.0
    """Share of images with light text on dark paper."""
    textured: float = 0.0
    """Share of images on a ground that is not plain."""


TEXT_IMAGES = CharacterImageConfig()
"""The layout of `recipes/nano.py`."""


def line_of_text(rng: Generator, length: int, family: PageFamily, scrambled: float) -> str:
    """Draw values, keys and scrambled characters up to a length."""
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


LabelledImage = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]
"""Pixels, codes, x, y."""


def page_image(rng: Generator, family: PageFamily = FAMILY) -> LabelledImage:
    """Draw a tile of a page of the family, its white padding included; from pages of one tile and of four."""
    hd = min(1 if rng.random() < 0.6 else 4, max(family.settings))
    page = compose(int(rng.integers(1 << 39)), hd=hd, family=family)
    place, codes, x, y, _ = seen_by(page, hd=hd)
    canvas = resize_to_canvas(maybe_degraded(paint(page), rng, family.degraded), partition=place)
    left, top = (IMAGE_SIDE * int(rng.integers(n)) for n in (place.grid_w, place.grid_h))
    return canvas[top : top + IMAGE_SIDE, left : left + IMAGE_SIDE], codes, x - left, y - top


def _setting(rng: Generator, text_images: CharacterImageConfig) -> tuple[int, int, int]:
    """Draw font size, width and height of an image before it is resized."""
    least, median, most = text_images.sizes
    seen = float(np.clip(np.exp(rng.normal(np.log(median), text_images.spread)), least, most))
    if rng.random() < text_images.apart:
        seen = float(rng.uniform(*text_images.others))
    sx = sy = float(np.exp(rng.uniform(np.log(0.6), 0.0))) if rng.random() < text_images.shrunk else 1.0
    if rng.random() < text_images.narrowed:
        sx *= float(rng.uniform(0.6, 1.0))
    return max(8, round(seen / sy)), round(IMAGE_SIDE / sx), round(IMAGE_SIDE / sy)


def _ground(rng: Generator, page: DrawnPage, text_images: CharacterImageConfig) -> None:
    """Choose light text on dark paper, or a textured ground; shares of 0 draw nothing from `rng`."""
    if text_images.dark and rng.random() < text_images.dark:
        page.ink, page.paper = page.paper, page.ink
    if text_images.textured and rng.random() < text_images.textured:
        page.number, page.ground = int(rng.integers(1 << 39)), values.pick(rng, GROUNDS[1:])


def text_image(
    rng: Generator, family: PageFamily = FAMILY, text_images: CharacterImageConfig = TEXT_IMAGES
) -> LabelledImage:
    """Draw an image filled with the family's text."""
    size, width, height = _setting(rng, text_images)
    names = family.fonts
    ink, paper = colours(rng, family.coloured)
    page = DrawnPage(
        kind="text", width=width, height=height, font=names[rng.integers(len(names))], ink=ink, paper=paper
    )
    _ground(rng, page, text_images)
    y = float(rng.uniform(0.2, 1.2)) * size
    while y < height + size * 0.3:
        x = int(rng.integers(-size, 2 * size))
        page.texts.append(
            PlacedText(
                string=line_of_text(rng, int(2.4 * width / size), family, text_images.scrambled),
                x=x,
                y=round(y),
                size=size,
                bold=bool(rng.random() < 0.08),
            )
        )
        if rng.random() < 0.05:
            page.rules.append((0, round(y + size * 0.45), width, round(y + size * 0.45)))
        y += size * rng.uniform(1.1, 1.9)
    image = maybe_degraded(paint(page), rng, family.degraded)
    if (width, height) != (IMAGE_SIDE, IMAGE_SIDE):
        image = image.resize((IMAGE_SIDE, IMAGE_SIDE), Image.Resampling.BILINEAR)
    codes, cx, cy = characters(page)
    return np.asarray(image), codes, cx * IMAGE_SIDE / width, cy * IMAGE_SIDE / height
