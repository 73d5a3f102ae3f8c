"""Drawing of a plan: which pixels become which tile and which token. For `ixc plan --draw`. Pillow only.

    +---------------------------+ +----------+
    | canvas, white padding     | | overview |     orange   tiles, numbered in the order the model sees them
    | veiled, 12 x 12 tokens    | | 12 x 12  |     blue     tokens, 28 px of the canvas each
    | in every tile             | +----------+     grey     padding
    +---------------------------+                  green    the overview: the whole canvas resized to one tile
    | legend                    |
    +---------------------------+

The canvas is drawn at `factor` times its size, so that lines and words stay legible on 336 px and on 18,480 px alike.
"""

from pathlib import Path
from typing import IO

from PIL import Image, ImageDraw, ImageFont

from ixc.errors import GeometryError, UsageError
from ixc.inference.cost import Plan

ORANGE, BLUE, GREEN = (230, 97, 0), (26, 95, 180), (38, 140, 80)
GREY, INK, PAPER = (150, 150, 150), (30, 30, 30), (255, 255, 255)

LONG_SIDE = 1600
"""Longest side of the drawn canvas, pixels."""

OVERVIEW_SIDE = 420
"""Side of the drawn overview, pixels."""

MARGIN = 24
"""White between the parts, pixels."""

FONT_SIZE = 22
"""Of the legend, pixels."""

MIN_LABEL = 30
"""Smallest drawn tile side that carries a number, pixels."""

MIN_TOKEN = 4
"""Smallest drawn token side that carries grid lines, pixels."""


def draw(image: Image.Image, *, plan: Plan, out: str | Path | IO[bytes]) -> None:
    """Write the plan drawn over `image` as a PNG.

    Args:
        image: the RGB picture the plan was made for.
        plan: from `ixc.inference.cost.plan`.
        out: a path, or an open binary file.

    Raises:
        GeometryError: the plan is for another size. UsageError: `out` cannot be written.
    """
    part = plan.partition
    if image.size != (part.width, part.height):
        raise GeometryError(
            f"the picture is {image.width} x {image.height} px but its plan was made for {part.width} x {part.height}; "
            "call plan() with the picture's own size"
        )
    drawing = _drawing(image, plan)
    try:
        drawing.save(out, format="PNG")
    except OSError as error:
        raise UsageError(f"{out} cannot be written: {error.strerror or error}; choose another file") from error


def _drawing(image: Image.Image, plan: Plan) -> Image.Image:
    canvas = _canvas(image, plan)
    view = _overview(canvas, plan) if plan.layout.overview else None
    font = ImageFont.load_default(FONT_SIZE)
    legend = _legend(plan)
    mosaic = _mosaic(canvas, plan)
    wide = max([mosaic.width + (MARGIN + view.width if view else 0)] + [int(font.getlength(t)) + 40 for _, t in legend])
    high = max(mosaic.height, view.height if view else 0)
    size = (wide + 2 * MARGIN, high + 3 * MARGIN + len(legend) * _line())
    drawing = Image.new("RGB", size, PAPER)
    drawing.paste(mosaic, (MARGIN, MARGIN))
    if view:
        drawing.paste(view, (2 * MARGIN + mosaic.width, MARGIN))
    pen = ImageDraw.Draw(drawing)
    for row, (colour, words) in enumerate(legend):
        y = high + 2 * MARGIN + row * _line()
        if colour:
            pen.rectangle((MARGIN, y + 4, MARGIN + 22, y + 4 + FONT_SIZE - 4), fill=colour)
        pen.text((MARGIN + 34, y), words, fill=INK, font=font)
    return drawing


def _line() -> int:
    return FONT_SIZE * 3 // 2


def _canvas(image: Image.Image, plan: Plan) -> Image.Image:
    """Return the padded canvas at its drawn size."""
    part = plan.partition
    factor = LONG_SIDE / max(part.canvas_width, part.canvas_height)
    x0, y0, x1, y1 = (round(value * factor) for value in part.picture_box)
    size = (max(1, round(part.canvas_width * factor)), max(1, round(part.canvas_height * factor)))
    canvas = Image.new("RGB", size, _mix(PAPER, GREY, 0.4))
    canvas.paste(image.resize((max(1, x1 - x0), max(1, y1 - y0)), Image.Resampling.BILINEAR), (x0, y0))
    return canvas


def _mosaic(canvas: Image.Image, plan: Plan) -> Image.Image:
    """Return the canvas with the lines of its tokens and tiles."""
    part, layout = plan.partition, plan.layout
    wide, high = canvas.width / part.grid_w, canvas.height / part.grid_h
    numbered = min(wide, high) >= MIN_LABEL
    picture = _grid(canvas, rows=layout.rows, cols=layout.cols, colour=BLUE)
    pen = ImageDraw.Draw(picture)
    for row in range(part.grid_h):
        for col in range(part.grid_w):
            box = (col * wide, row * high, (col + 1) * wide - 1, (row + 1) * high - 1)
            pen.rectangle(box, outline=ORANGE, width=3 if numbered else 1)
            if numbered:
                _label(pen, box, str(row * part.grid_w + col + 1), int(max(12, min(36, wide / 5))))
    return picture


def _label(pen: ImageDraw.ImageDraw, box: tuple[float, float, float, float], words: str, size: int) -> None:
    font, at = ImageFont.load_default(size), (box[0] + 6, box[1] + 5)
    x0, y0, x1, y1 = pen.textbbox(at, words, font=font)
    pen.rectangle((x0 - 3, y0 - 2, x1 + 3, y1 + 2), fill=ORANGE)
    pen.text(at, words, fill=PAPER, font=font)


def _overview(canvas: Image.Image, plan: Plan) -> Image.Image:
    """Return the canvas as the overview holds it: one square tile, aspect ratio ignored."""
    side = plan.layout.tokens_per_side
    picture = _grid(canvas.resize((OVERVIEW_SIDE, OVERVIEW_SIDE)), rows=side, cols=side, colour=BLUE)
    ImageDraw.Draw(picture).rectangle((0, 0, OVERVIEW_SIDE - 1, OVERVIEW_SIDE - 1), outline=GREEN, width=6)
    return picture


def _grid(picture: Image.Image, *, rows: int, cols: int, colour: tuple[int, int, int]) -> Image.Image:
    """Return a copy with half-transparent lines between tokens; without them where they would cover the picture."""
    lined = picture.copy()
    wide, high = picture.width / cols, picture.height / rows
    if min(wide, high) < MIN_TOKEN:
        return lined
    pen = ImageDraw.Draw(lined)
    for col in range(1, cols):
        pen.line((col * wide, 0, col * wide, picture.height), fill=colour)
    for row in range(1, rows):
        pen.line((0, row * high, picture.width, row * high), fill=colour)
    return Image.blend(picture, lined, 0.45)


def _mix(a: tuple[int, int, int], b: tuple[int, int, int], share: float) -> tuple[int, int, int]:
    red, green, blue = (round(x + (y - x) * share) for x, y in zip(a, b, strict=True))
    return red, green, blue


def _legend(plan: Plan) -> list[tuple[tuple[int, int, int] | None, str]]:
    """Return (colour or None, text) of every line."""
    part, layout = plan.partition, plan.layout
    side = part.tile // layout.tokens_per_side
    lines: list[tuple[tuple[int, int, int] | None, str]] = [
        (
            None,
            f"{part.width:,} x {part.height:,} px, HD-{part.hd}, rule {part.rule}: drawn at {part.resized_width:,} x "
            f"{part.resized_height:,} px, {plan.image_tokens:,} tokens",
        ),
        (ORANGE, f"{part.grid_h} x {part.grid_w} = {part.tiles} tiles of {part.tile} px, in reading order"),
        (
            BLUE,
            f"{layout.rows} x {layout.cols} tokens of {side} x {side} px"
            + (", and a newline token after every row" if layout.newline else ""),
        ),
    ]
    if (part.resized_width, part.resized_height) != (part.canvas_width, part.canvas_height):
        lines.append((_mix(PAPER, GREY, 0.4), "padding (white for the model)"))
    if layout.overview:
        lines.append(
            (GREEN, f"overview: the whole canvas as one tile, {layout.num_overview_tokens} tokens, seen first")
        )
    return lines
