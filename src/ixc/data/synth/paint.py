"""A page becomes pixels, with Pillow."""

from __future__ import annotations

from PIL import Image, ImageDraw

from ixc.data.synth import fonts
from ixc.data.synth.page import Page


def paint(page: Page) -> Image.Image:
    """Draw a page: RGB, page.width x page.height pixels. The same page gives the same pixels everywhere."""
    mask = Image.new("L", (page.width, page.height), 0)
    pen = ImageDraw.Draw(mask)
    for text in page.texts:
        face = fonts.load(page.font, text.size)
        pen.text((text.x, text.y), text.string, fill=255, font=face, anchor="ls", stroke_width=int(text.bold) * 0.4)
    for rule in page.rules:
        pen.line(rule, fill=160, width=1)
    return Image.composite(Image.new("RGB", mask.size, page.ink), Image.new("RGB", mask.size, page.paper), mask)
