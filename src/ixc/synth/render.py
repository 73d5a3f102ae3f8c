"""Render a page to pixels with Pillow: background, shapes, text, rotation."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from ixc.synth import fonts
from ixc.synth.page import DrawnPage, Shape

GROUNDS = ("plain", "gradient", "stripes", "grain", "clouds")
"""Backgrounds. `grain` resembles sensor noise, `clouds` the blurred patches of a photograph out of focus."""
SWING = 22
"""Largest deviation, of 255, of a background from the colour of the paper."""


def paint(page: DrawnPage) -> Image.Image:
    """Render a page as RGB, page.width x page.height pixels; the same page gives the same pixels everywhere."""
    image = ground(page)
    if page.shapes:
        pen = ImageDraw.Draw(image)
        for shape in page.shapes:
            _shape(pen, shape)
    for ink in dict.fromkeys([None, *(text.ink for text in page.texts)]):
        mask = _text_mask(page, ink)
        image = Image.composite(Image.new("RGB", mask.size, ink or page.ink), image, mask)
    if page.rotation:
        image = image.rotate(page.rotation, Image.Resampling.BICUBIC, fillcolor=page.paper)
    return image


def ground(page: DrawnPage) -> Image.Image:
    """Render the background of a page."""
    size = (page.width, page.height)
    if page.ground == "plain":
        return Image.new("RGB", size, page.paper)
    swing = _wave(page)[..., None] * SWING
    return Image.fromarray((np.array(page.paper) + swing).clip(0, 255).astype(np.uint8))


def _wave(page: DrawnPage) -> np.ndarray:
    """Compute the pattern of a background: (height, width), -1 to 1."""
    rng = np.random.default_rng([page.number & (2**63 - 1), 17])
    height, width = page.height, page.width
    down, right = np.mgrid[0:height, 0:width].astype(np.float32)
    angle = rng.uniform(0, np.pi)
    along = right * np.cos(angle) + down * np.sin(angle)
    if page.ground == "gradient":
        return 2 * (along - along.min()) / (np.ptp(along) + 1) - 1
    if page.ground == "stripes":
        return np.sign(np.sin(along * 2 * np.pi / rng.uniform(14, 60)))
    if page.ground == "grain":
        return rng.normal(0, 0.4, (height, width)).clip(-1, 1)
    coarse = rng.integers(0, 256, (max(2, height // 48), max(2, width // 48)), dtype=np.uint8)
    soft = Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC).filter(ImageFilter.GaussianBlur(4))
    return np.asarray(soft, np.float32) / 127.5 - 1


def _shape(pen: ImageDraw.ImageDraw, shape: Shape) -> None:
    fill, outline = (None, shape.fill) if shape.width else (shape.fill, None)
    width = shape.width or 1  # Pillow's default; without an outline it has no effect
    if shape.form == "box":
        pen.rectangle(shape.box, fill, outline, width)
    elif shape.form == "disc":
        pen.ellipse(shape.box, fill, outline, width)
    elif shape.form == "wedge":
        pen.pieslice(shape.box, shape.start, shape.end, fill=shape.fill, outline=(255, 255, 255))
    else:
        pen.line(shape.box, fill=shape.fill, width=max(1, shape.width), joint="curve")


def _text_mask(page: DrawnPage, ink: tuple[int, int, int] | None) -> Image.Image:
    """Render the coverage, 0 to 255, of the texts of one ink; lines of the page belong to its own ink (None)."""
    mask = Image.new("L", (page.width, page.height), 0)
    pen = ImageDraw.Draw(mask)
    for text in page.texts:
        if text.ink == ink:
            face = fonts.load(page.font, text.size)
            pen.text((text.x, text.y), text.string, fill=255, font=face, anchor="ls", stroke_width=int(text.bold) * 0.4)
    for rule in page.rules if ink is None else ():
        pen.line(rule, fill=160, width=1)
    return mask
