"""Signs and labels on textured backgrounds, slightly rotated. Resembles TextVQA (paper)."""

from __future__ import annotations

from ixc.synth import lexicon, values
from ixc.synth.layouts.basic import PageBuilder
from ixc.synth.page import Shape
from ixc.synth.render import GROUNDS

LARGEST_ROTATION = 4.0  # degrees
BOARD = 20  # difference in brightness, of 255, between the board of a sign and the paper


def sign(builder: PageBuilder) -> None:
    """Fill a sign: a board with a few short lines."""
    rng, style, page = builder.rng, builder.style, builder.page
    page.ground = values.pick(rng, GROUNDS[1:])
    page.rotation = float(rng.uniform(-LARGEST_ROTATION, LARGEST_ROTATION))
    inset = round(0.08 * max(page.width, page.height))  # the rotation moves the corners off the page
    builder.y = max(builder.y, inset + 2 * style.size)
    ys = list(range(builder.y, page.height - inset - style.size // 2, style.pitch))[:4]
    space = page.width - 2 * inset - style.size
    makers = (
        ("place", lambda: values.pick(rng, lexicon.CITIES)),
        ("number", lambda: values.letters(rng, values.DIGITS, 2, 4)),
        ("phone", lambda: values.phone(rng)),
        ("name", lambda: values.pick(rng, lexicon.LAST_NAMES)),
    )
    page.texts.clear()
    page.questions.clear()
    page.rules.clear()
    lines: list[tuple[str, str]] = []
    for (noun, make), y in zip((makers[i] for i in rng.permutation(len(makers))), ys, strict=False):
        string = make()
        if builder.width_of(string) <= space:
            builder.put(string, inset + style.size / 2 + rng.random() * (space - builder.width_of(string)), y)
            lines.append((noun, string))
    if rng.random() < 0.6 and lines:
        low = (inset // 2, builder.y - round(1.5 * style.size))
        high = (page.width - inset // 2, min(page.height - inset // 2, ys[len(lines) - 1] + style.size))
        step = BOARD if sum(page.paper) < 600 else -BOARD
        red, green, blue = (min(255, max(0, c + step)) for c in page.paper)
        page.shapes.append(Shape(form="box", box=(*low, *high), fill=(red, green, blue)))
    for noun, string in lines:
        builder.ask(noun, f"What is the {noun} on the sign?", string)
    if lines and " " not in lines[0][1]:
        builder.ask("first_word", "What is the first word on the sign?", lines[0][1])
