"""General questions for any page: whether a word is there, where it is, and one about something absent."""

from __future__ import annotations

import numpy as np

from ixc.synth import lexicon, values
from ixc.synth.layouts.basic import PageBuilder
from ixc.synth.page import PlacedText, rotated, text_width

ABSENT = "not in the image"
"""Answer to a question about something that is not on the page."""
PLACES = (
    ("top left", "top", "top right"),
    ("left", "middle", "right"),
    ("bottom left", "bottom", "bottom right"),
)
"""Names of the nine thirds of a page, row by row."""
MOST_EXTRA = 12
"""Most words of a page with extra questions of each kind."""
BORDER = 0.04
"""Words whose centre is closer than this share of the page to the edge of a third are not asked for."""


def general_questions(builder: PageBuilder) -> None:
    """Add a yes-or-no question, a `where` question and, half of the time, one about an absent word."""
    words = _words(builder)
    once = [w for w in words if sum(w.lower() in t.string.lower() for t in builder.page.texts) == 1 and len(w) > 2]
    absent = _absent_words(builder)
    if once and absent:
        there = builder.rng.random() < 0.5
        asked = values.pick(builder.rng, tuple(once)) if there else absent[0]
        builder.ask("yes_no", f"Is {asked} in the image?", "yes" if there else "no")
    drawn = builder.rng.permutation(once).tolist()
    for word in drawn[:6]:
        if place := _place(builder, word):
            builder.ask("where", f"Where is {word}?", place)
            break
    if absent and builder.rng.random() < 0.5:
        builder.ask("absent", f"What is the {absent[:2][-1]} number?", ABSENT)
    _extra_questions(builder, drawn, absent)


def _extra_questions(builder: PageBuilder, there: list[str], absent: list[str]) -> None:
    """Add extra questions: where a dozen words are, and as many about present as about absent words."""
    for word in there[:MOST_EXTRA]:
        if place := _place(builder, word):
            builder.ask_extra("where", f"Where is {word}?", place)
    for word, other in zip(there[-MOST_EXTRA:], absent[2 : 2 + MOST_EXTRA], strict=False):
        builder.ask_extra("yes_no", f"Is {word} in the image?", "yes")
        builder.ask_extra("yes_no", f"Is {other} in the image?", "no")


def _words(builder: PageBuilder) -> list[str]:
    return [w for text in builder.page.texts for w in text.string.split(" ") if w.isalpha()]


def _absent_words(builder: PageBuilder) -> list[str]:
    """Draw words that occur nowhere on the page, not even inside other words."""
    all_text = "\n".join(text.string.lower() for text in builder.page.texts)
    drawn = (values.pick(builder.rng, lexicon.NOUNS) for _ in range(40))
    return [w.capitalize() for w in drawn if w not in all_text]


def _place(builder: PageBuilder, word: str) -> str | None:
    """Name the third that contains the centre of a word which occurs once; None: too close to an edge of a third."""
    page = builder.page
    text = next(t for t in page.texts if word in t.string)
    before, _, _ = text.string.partition(word)
    x, y = _centre(builder, text, before, word)
    across, down = 3 * x / page.width, 3 * y / page.height
    if min(abs(across - edge) for edge in (1, 2)) < 3 * BORDER or min(abs(down - e) for e in (1, 2)) < 3 * BORDER:
        return None
    return PLACES[min(2, max(0, int(down)))][min(2, max(0, int(across)))]


def _centre(builder: PageBuilder, text: PlacedText, before: str, word: str) -> tuple[float, float]:
    font = builder.page.font
    left = text.x + text_width(before, font, text.size) if before else float(text.x)
    x = left + text_width(word, font, text.size) / 2
    moved = rotated(np.array([x]), np.array([text.y - 0.35 * text.size]), builder.page)
    return float(moved[0][0]), float(moved[1][0])
