"""Questions that any page can be asked: is it there, where does it stand, and what is not there at all."""

from __future__ import annotations

import numpy as np

from ixc.synth import lexicon, values
from ixc.synth.layouts.basic import PageBuilder
from ixc.synth.page import PlacedText, text_width, turned

ABSENT = "not in the image"
"""The answer to a question about something that the page does not hold."""
PLACES = (
    ("top left", "top", "top right"),
    ("left", "middle", "right"),
    ("bottom left", "bottom", "bottom right"),
)
"""Thirds of a page, row by row."""
DRILLED = 12
"""Most words of a page that a drill names, of each sort."""
BORDER = 0.04
"""A word whose middle is nearer than this share of the page to the edge of a third is not asked for."""


def general(sheet: PageBuilder) -> None:
    """One of each: yes or no (equal shares), where a word stands, and half of the time something absent."""
    words = _words(sheet)
    once = [w for w in words if sum(w.lower() in t.string.lower() for t in sheet.page.texts) == 1 and len(w) > 2]
    strange = _strange(sheet)
    if once and strange:
        there = sheet.rng.random() < 0.5
        asked = values.pick(sheet.rng, tuple(once)) if there else strange[0]
        sheet.ask("yes_no", f"Is {asked} in the image?", "yes" if there else "no")
    drawn = sheet.rng.permutation(once).tolist()
    for word in drawn[:6]:
        if place := _place(sheet, word):
            sheet.ask("where", f"Where is {word}?", place)
            break
    if strange and sheet.rng.random() < 0.5:
        sheet.ask("absent", f"What is the {strange[:2][-1]} number?", ABSENT)
    _drill(sheet, drawn, strange)


def _drill(sheet: PageBuilder, there: list[str], strange: list[str]) -> None:
    """Where a dozen words stand, and as many that are there as are not."""
    for word in there[:DRILLED]:
        if place := _place(sheet, word):
            sheet.drill("where", f"Where is {word}?", place)
    for word, other in zip(there[-DRILLED:], strange[2 : 2 + DRILLED], strict=False):
        sheet.drill("yes_no", f"Is {word} in the image?", "yes")
        sheet.drill("yes_no", f"Is {other} in the image?", "no")


def _words(sheet: PageBuilder) -> list[str]:
    return [w for text in sheet.page.texts for w in text.string.split(" ") if w.isalpha()]


def _strange(sheet: PageBuilder) -> list[str]:
    """Words of which the page holds no letter sequence."""
    all_text = "\n".join(text.string.lower() for text in sheet.page.texts)
    drawn = (values.pick(sheet.rng, lexicon.NOUNS) for _ in range(40))
    return [w.capitalize() for w in drawn if w not in all_text]


def _place(sheet: PageBuilder, word: str) -> str | None:
    """The third of the page that holds the middle of a word which stands there once; None: too near to a border."""
    page = sheet.page
    text = next(t for t in page.texts if word in t.string)
    before, _, _ = text.string.partition(word)
    x, y = _middle(sheet, text, before, word)
    across, down = 3 * x / page.width, 3 * y / page.height
    if min(abs(across - edge) for edge in (1, 2)) < 3 * BORDER or min(abs(down - e) for e in (1, 2)) < 3 * BORDER:
        return None
    return PLACES[min(2, max(0, int(down)))][min(2, max(0, int(across)))]


def _middle(sheet: PageBuilder, text: PlacedText, before: str, word: str) -> tuple[float, float]:
    font = sheet.page.font
    left = text.x + text_width(before, font, text.size) if before else float(text.x)
    x = left + text_width(word, font, text.size) / 2
    moved = turned(np.array([x]), np.array([text.y - 0.35 * text.size]), sheet.page)
    return float(moved[0][0]), float(moved[1][0])
