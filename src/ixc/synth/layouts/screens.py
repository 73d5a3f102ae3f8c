"""Sparse pages: a few keys and values on a large background, as on screens, posters and cover sheets.

Unlike forms they have wide margins, values far from their keys or below them, headings on coloured bands, buttons,
light text on dark backgrounds and invented words.
"""

from __future__ import annotations

from ixc.synth import lexicon, values
from ixc.synth.layouts.basic import PageBuilder
from ixc.synth.page import Colour, Shape, text_width

VOWELS, CONSONANTS = "aeiou", "bcdfghklmnprstvz"
INVENTED = 0.4
"""Share of invented words among keys and values: only reading them gives the answer."""
MOST = 14
"""Most keys of a group."""
DARK = 0.3
"""Share of pages with light text on a dark background."""


def invented(builder: PageBuilder) -> str:
    """Draw a capitalised invented word of one to three syllables: `Rokamu`, `Tis`."""
    rng, word = builder.rng, ""
    for _ in range(int(rng.integers(1, 4))):
        word += values.pick(rng, CONSONANTS) + values.pick(rng, VOWELS)
        word += values.pick(rng, CONSONANTS) if rng.random() < 0.35 else ""
    return word.capitalize()


def key(builder: PageBuilder) -> str:
    """Draw an invented word, or a key as on forms."""
    return invented(builder) if builder.rng.random() < INVENTED else values.key(builder.rng)


def value(builder: PageBuilder) -> str:
    """Draw one or two invented words, or a value as on forms."""
    rng = builder.rng
    if rng.random() >= INVENTED:
        return builder.value()
    first = invented(builder)
    return f"{first} {invented(builder)}"[: builder.family.longest].strip() if rng.random() < 0.3 else first


def screen(builder: PageBuilder) -> None:
    """Fill a screen: a heading near the top, and one or two groups of keys and values with empty space around them."""
    _choose_background(builder)
    page, style, rng = builder.page, builder.style, builder.rng
    page.texts.clear()
    page.questions.clear()
    page.rules.clear()
    left = style.margin + int(rng.uniform(0, 0.2) * page.width)
    y = style.margin + round(style.size * rng.uniform(1, 3))
    y = _heading(builder, left, y)
    groups = 2 if page.width > 34 * style.size and rng.random() < 0.4 else 1
    space = (page.width - left - style.margin) // groups
    names = values.distinct(
        rng, lambda _: key(builder), MOST * groups, fits=lambda k: builder.width_of(k) <= 0.6 * space
    )
    for group in range(groups):
        start = y + round(style.pitch * rng.uniform(0, 2))
        _group(builder, names[group::groups], left + group * space, start, space)
    _button(builder, left)


def _choose_background(builder: PageBuilder) -> None:
    """Choose light text on a dark background, or a textured background."""
    rng, page = builder.rng, builder.page
    if rng.random() < DARK:
        page.paper, page.ink = values.random_colour(rng, 0, 90), values.random_colour(rng, 215, 256)
    if rng.random() < 0.25:
        page.ground = values.pick(rng, ("gradient", "grain", "clouds"))


def _heading(builder: PageBuilder, left: int, y: int) -> int:
    """Add a heading of known or invented words, at times on a coloured band; returns the next baseline."""
    rng, page, style = builder.rng, builder.page, builder.style
    size = round(style.size * rng.uniform(1.1, 2.0))
    words = values.pick(rng, lexicon.TITLES) if rng.random() < 0.5 else f"{invented(builder)} {invented(builder)}"
    if rng.random() < 0.15 or text_width(words, page.font, size) > page.width - left - style.margin:
        return y
    ink: Colour | None = None
    if rng.random() < 0.35:
        light = sum(page.paper) > 380
        fill = values.random_colour(rng, *((0, 110) if light else (180, 256)))
        page.shapes.append(Shape(form="box", box=(0, 0, page.width, y + size + style.size // 2), fill=fill))
        ink = (250, 250, 250) if light else (10, 10, 10)
    builder.put(words, left, y + size // 2, size=size, bold=bool(rng.random() < 0.5))
    if ink is not None:
        builder.tint(ink)
    builder.ask("title", "What is the title?", words)
    return y + size + round(style.pitch * rng.uniform(1.2, 2.5))


def _group(builder: PageBuilder, names: list[str], left: int, y: int, space: int) -> None:
    """Add keys in a column, with values after them, in a column of their own, or below them."""
    rng, page, style = builder.rng, builder.page, builder.style
    colon = ":" if rng.random() < 0.7 else ""
    way = values.pick(rng, ("behind", "behind", "column", "column", "below"))
    pitch = round(style.pitch * rng.uniform(1.0, 2.0))
    many = int(rng.integers(2, MOST + 1))
    tab = max(style.size * 4, space * rng.uniform(0.25, 0.6))
    for name in names[:many]:
        wide = builder.width_of(name + colon)
        start = {"behind": wide + 0.5 * style.size, "column": tab, "below": 0.0}[way]
        low = y + (style.pitch if way == "below" else 0)
        found = next((v for v in (value(builder) for _ in range(8)) if start + builder.width_of(v) <= space), None)
        if low > page.height - style.margin - style.size // 3:
            return
        if found is None or (way == "column" and wide > tab):
            continue
        builder.put(name + colon, left, y)
        builder.put(found, left + start, low, bold=bool(rng.random() < 0.15))
        builder.ask("value", f"What is the {name}?", found)
        y = low + pitch + (pitch if rng.random() < 0.1 else 0)


def _button(builder: PageBuilder, left: int) -> None:
    """Add words in a coloured box below everything, without a question."""
    rng, page, style = builder.rng, builder.page, builder.style
    low = max((text.y for text in page.texts), default=0) + 2 * style.pitch
    words = f"{values.pick(rng, lexicon.NOUNS)} {values.pick(rng, lexicon.NOUNS)}"
    wide = builder.width_of(words) + 2 * style.size
    if rng.random() < 0.5 or low + style.pitch > page.height - style.margin or left + wide > page.width:
        return
    fill = values.random_colour(rng, 0, 120)
    box = (left, low - round(1.3 * style.size), round(left + wide), low + round(0.7 * style.size))
    page.shapes.append(Shape(form="box", box=box, fill=fill))
    builder.put(words, left + style.size, low)
    builder.tint((250, 250, 250))
