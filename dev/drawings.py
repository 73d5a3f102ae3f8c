"""Draw the figures of README and docs: `python dev/drawings.py`; it asks the embedded model.

docs/answer.svg          the README's receipt under its tiles, with questions, the model's answers and their evidence
docs/architecture.svg    from an image to an answer: partition, vision encoder, merge, projector, language model
"""

from __future__ import annotations

import base64
import json
from io import BytesIO
from pathlib import Path

from PIL import Image

from ixc.core.token_layout import MERGE, PATCH
from ixc.inference.cost import ModelGeometry, Plan, plan, read_geometry, read_tiling
from ixc.inference.model_folder import find_folder
from ixc.inference.request import Answer
from ixc.utils.svg import document, tag, text

ROOT = Path(__file__).parents[1]
RECEIPT = ROOT / "examples" / "receipt.png"
ASKED = ("What is the TOTAL?", "How much is Goat Cheese?", "What is the title?")
"""Questions of the README."""

ORANGE, BLUE, GREEN, INK, SOFT = "#e66100", "#1a5fb4", "#268c50", "#1e1e1e", "#666666"
MARKS = (GREEN, BLUE, "#a51d82")
"""Colours of the answers and of the boxes that they were copied from."""
FILLS = {"picture": "#fff4e8", "vision": "#e8f1fc", "language": "#e9f6ee", "end": "#f4f4f4"}
"""Colours of boxes: what is pixels, the vision encoder and projector, the language model, question and answer."""


def answer_figure(answers: dict[str, Answer]) -> str:
    """Draw the receipt with its tiles beside the questions, their answers and confidence; boxes show the evidence.

    Args:
        answers: question -> answer of the model.
    """
    with Image.open(RECEIPT) as image:
        width, height = image.size
    planned = _planned(width, height)
    high = 420
    scale = high / height
    wide = round(width * scale)
    data = base64.b64encode(_png(RECEIPT)).decode()
    left, top = 20, 20
    parts = [
        tag("image", href=f"data:image/png;base64,{data}", x=left, y=top, width=wide, height=high),
        *_tiles(planned, left, top, scale),
    ]
    for question, colour in zip(ASKED, MARKS, strict=True):
        for each in answers[question].evidence or ():
            x0, y0, x1, y1 = (share * side for share, side in zip(each.box, (wide, high, wide, high), strict=True))
            box = {"x": left + x0, "y": top + y0, "width": x1 - x0, "height": y1 - y0}
            parts.append(tag("rect", fill="none", stroke=colour, stroke_width=3, **box))
    x = left + wide + 40
    part = planned.partition
    parts += [
        text("ixc ask examples/receipt.png", x=x, y=52, font_family="monospace", fill=SOFT),
        *(
            text(words, x=x, y=84 + 22 * i, font_size=15, fill=SOFT)
            for i, words in enumerate(
                (
                    f"{width} x {height} px at HD-{part.hd}: {part.tiles} of at most {part.hd} tiles,",
                    f"and the overview: {planned.image_tokens:,} image tokens",
                )
            )
        ),
    ]
    for i, (question, colour) in enumerate(zip(ASKED, MARKS, strict=True)):
        y, found = 160 + 84 * i, answers[question]
        parts.append(text(question, x=x, y=y, fill=INK))
        parts.append(text(found.text, x=x, y=y + 34, font_size=26, fill=colour))
        parts.append(text(f"confidence {found.confidence:.2f}", x=x + 200, y=y + 32, font_size=14, fill=SOFT))
    return document("".join(parts), width=x + 400, height=high + 40, font_size=18)


def _planned(width: int, height: int) -> Plan:
    folder = find_folder(None)
    return plan(width, height, geometry=read_geometry(folder), **read_tiling(folder))


def _png(path: Path) -> bytes:
    """Return the picture in 64 colours, which a page of text needs no more of."""
    with Image.open(path) as image:
        file = BytesIO()
        image.convert("RGB").quantize(64).save(file, "PNG", optimize=True)
    return file.getvalue()


def _tiles(planned: Plan, left: float, top: float, scale: float) -> list[str]:
    """Draw the borders of the tiles where they lie on the picture."""
    part = planned.partition
    x0, y0, x1, _ = part.picture_box
    factor = part.width / (x1 - x0) * scale  # of a canvas pixel
    drawn = []
    for row in range(part.grid_h):
        for col in range(part.grid_w):
            x, y = left + (col * part.tile - x0) * factor, top + (row * part.tile - y0) * factor
            side = part.tile * factor
            box = {"x": max(x, left), "y": max(y, top)}
            box["width"] = min(x + side, left + part.width * scale) - box["x"]
            box["height"] = min(y + side, top + part.height * scale) - box["y"]
            drawn.append(tag("rect", fill="none", stroke=ORANGE, stroke_width=2, **box))
            drawn.append(text(str(row * part.grid_w + col + 1), x=box["x"] + 6, y=box["y"] + 20, fill=ORANGE))
    return drawn


def architecture_figure() -> str:
    """Draw the way from an image to an answer, with the sizes of the published 7B."""
    sizes = ModelGeometry()
    side, merged = sizes.side, MERGE**2 * sizes.vit_width
    boxes = (
        ("picture", "Image", ("any size, upright, sRGB",)),
        (
            "picture",
            "Partition",
            ("resize, pad with white,", f"cut into tiles of {sizes.image_size} px,", "at most n under HD-n"),
        ),
        (
            "vision",
            "Vision encoder",
            ("CLIP ViT-L/14-336", f"{sizes.patches} patches of {PATCH} px", "a tile, each tile alone"),
        ),
        (
            "vision",
            "Merge, projector",
            (
                f"{MERGE} x {MERGE} patches = 1 token",
                f"{side} x {side} tokens a tile",
                f"{merged:,} to {sizes.width:,} channels",
            ),
        ),
        (
            "language",
            "Language model",
            (f"InternLM2, {sizes.layers} layers", "PLoRA: low-rank update", "at image tokens only"),
        ),
        ("end", "Answer", ("text, token by token",)),
    )
    wide, high, gap, top = 168, 104, 28, 30
    parts = []
    for i, (kind, title, lines) in enumerate(boxes):
        x = 20 + i * (wide + gap)
        parts.append(_box(x, top, wide, high, FILLS[kind]))
        parts.append(text(title, x=x + wide / 2, y=top + 26, text_anchor="middle", font_weight="bold", fill=INK))
        for j, line in enumerate(lines):
            parts.append(text(line, x=x + wide / 2, y=top + 48 + 18 * j, text_anchor="middle", font_size=12, fill=INK))
        if i:
            parts.append(_arrow(x - gap + 3, top + high / 2, x - 3, top + high / 2))
    parts += _sequence(180, side)
    return document("".join(parts), width=20 + len(boxes) * (wide + gap) - gap + 20, height=330, font_size=15)


def _sequence(top: int, side: int) -> list[str]:
    """Draw tiles, overview and the order of tokens of an image of 2 x 3 tiles."""
    grid_h, grid_w, tile, left = 2, 3, 44, 40
    parts = [text("An image of 2 x 3 tiles:", x=20, y=top, fill=INK)]
    for row in range(grid_h):
        for col in range(grid_w):
            x, y = left + col * tile, top + 24 + row * tile
            parts.append(_box(x, y, tile, tile, FILLS["picture"], stroke=ORANGE))
            number = str(row * grid_w + col + 1)
            parts.append(text(number, x=x + tile / 2, y=y + 28, text_anchor="middle", fill=ORANGE))
    parts.append(text("tiles", x=left + 66, y=top + 132, text_anchor="middle", font_size=13, fill=SOFT))
    parts.append(_box(230, top + 46, tile, tile, FILLS["language"], stroke=GREEN))
    parts.append(text("overview: all of it", x=252, y=top + 132, text_anchor="middle", font_size=13, fill=SOFT))
    x = 360.0
    parts.append(text("Its tokens, in this order:", x=x, y=top, fill=INK))
    rows = side * grid_h
    for words, wide, fill in (
        (f"overview, {side} rows of {side}", 190, FILLS["language"]),
        ("separator", 84, FILLS["end"]),
        (f"row 1: {side * grid_w} of tiles 1 to 3", 186, FILLS["picture"]),
        ("newline", 70, FILLS["end"]),
        (f"... to row {rows}", 130, FILLS["picture"]),
        ("newline", 70, FILLS["end"]),
    ):
        parts.append(_box(x, top + 24, wide, 44, fill))
        parts.append(text(words, x=x + wide / 2, y=top + 51, text_anchor="middle", font_size=13, fill=INK))
        x += wide + 4
    found = plan(3 * 336, 2 * 336, hd=6)
    note = f"{found.layout.num_overview_tokens} overview (a newline behind each row) + 1 separator + "
    note += f"{found.layout.num_local_tokens} = {found.image_tokens:,} tokens; then the text of the question"
    parts.append(text(note, x=360, y=top + 98, font_size=13, fill=SOFT))
    return parts


def _box(x: float, y: float, width: float, height: float, fill: str, stroke: str = SOFT) -> str:
    return tag("rect", x=x, y=y, width=width, height=height, rx=4, fill=fill, stroke=stroke)


def _arrow(x0: float, y0: float, x1: float, y1: float) -> str:
    head = f"M{x1:g} {y1:g} l-8 -4 v8 z"
    return tag("path", d=f"M{x0:g} {y0:g} H{x1 - 6:g}", stroke=SOFT, fill="none") + tag("path", d=head, fill=SOFT)


def figures() -> dict[str, str]:
    """Return every drawing by its file name in docs/; the answers are the model's own."""
    import ixc

    engine = ixc.load(device="cpu")
    answers = {question: engine.ask([RECEIPT], question, evidence=True) for question in ASKED}
    truth = json.loads(RECEIPT.with_suffix(".json").read_text())["answers"]
    assert {question: found.text for question, found in answers.items()} == {
        question: truth[question] for question in ASKED
    }, "the figure would show a wrong answer"
    return {"answer.svg": answer_figure(answers), "architecture.svg": architecture_figure()}


def main() -> int:
    """Write the drawings."""
    for name, drawn in figures().items():
        (ROOT / "docs" / name).write_text(drawn, encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
