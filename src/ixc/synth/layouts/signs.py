"""Signs and labels on grounds of many kinds, turned a little. Paper: the pictures of TextVQA."""

from __future__ import annotations

from ixc.synth import lexicon, values
from ixc.synth.layouts.basic import PageBuilder
from ixc.synth.page import Shape
from ixc.synth.render import GROUNDS

LARGEST_TURN = 4.0  # degrees
BOARD = 20  # how much lighter or darker, of 255, the board of a sign is


def sign(sheet: PageBuilder) -> None:
    """A board with a few short lines: what it says, its number, its first word."""
    rng, style, page = sheet.rng, sheet.style, sheet.page
    page.ground = values.pick(rng, GROUNDS[1:])
    page.turn = float(rng.uniform(-LARGEST_TURN, LARGEST_TURN))
    inset = round(0.08 * max(page.width, page.height))  # corners leave the page when it turns
    sheet.y = max(sheet.y, inset + 2 * style.size)
    ys = list(range(sheet.y, page.height - inset - style.size // 2, style.pitch))[:4]
    room = page.width - 2 * inset - style.size
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
        if sheet.width_of(string) <= room:
            sheet.put(string, inset + style.size / 2 + rng.random() * (room - sheet.width_of(string)), y)
            lines.append((noun, string))
    if rng.random() < 0.6 and lines:
        low = (inset // 2, sheet.y - round(1.5 * style.size))
        high = (page.width - inset // 2, min(page.height - inset // 2, ys[len(lines) - 1] + style.size))
        shade = tuple(min(255, max(0, c + (BOARD if sum(page.paper) < 600 else -BOARD))) for c in page.paper)
        page.shapes.append(Shape(form="box", box=(*low, *high), fill=shade))  # type: ignore[arg-type]
    for noun, string in lines:
        sheet.ask(noun, f"What is the {noun} on the sign?", string)
    if lines and " " not in lines[0][1]:
        sheet.ask("first_word", "What is the first word on the sign?", lines[0][1])
