"""Loose pages: a few keys and values somewhere on a large ground, as on screens, posters and cover sheets.

What forms never show: wide empty margins, values far from their keys or below them, headings on coloured bands, panels
and buttons, light letters on dark ground, words of no language.
"""

from __future__ import annotations

from ixc.synth import lexicon, values
from ixc.synth.layouts.basic import PageBuilder
from ixc.synth.page import Colour, Shape, text_width

VOWELS, CONSONANTS = "aeiou", "bcdfghklmnprstvz"
INVENTED = 0.4
"""Share of words of no language among keys and values: nothing but reading helps with them."""
MOST = 14
"""Most keys of a group."""
DARK = 0.3
"""Share of pages with light letters on dark ground."""


def invented(sheet: PageBuilder) -> str:
    """A capitalised word of two to four syllables that stands in no dictionary: `Rokamu`, `Tis`."""
    rng, word = sheet.rng, ""
    for _ in range(int(rng.integers(1, 4))):
        word += values.pick(rng, CONSONANTS) + values.pick(rng, VOWELS)
        word += values.pick(rng, CONSONANTS) if rng.random() < 0.35 else ""
    return word.capitalize()


def key(sheet: PageBuilder) -> str:
    """An invented word, or a key as on forms."""
    return invented(sheet) if sheet.rng.random() < INVENTED else values.key(sheet.rng)


def value(sheet: PageBuilder) -> str:
    """One or two invented words, any printable characters, or a value as on forms."""
    rng = sheet.rng
    if rng.random() >= INVENTED:
        return sheet.value()
    first = invented(sheet)
    return f"{first} {invented(sheet)}"[: sheet.family.longest].strip() if rng.random() < 0.3 else first


def screen(sheet: PageBuilder) -> None:
    """A heading anywhere near the top, and one or two groups of keys and values with empty space around them."""
    _turn_dark(sheet)
    page, style, rng = sheet.page, sheet.style, sheet.rng
    page.texts.clear()
    page.questions.clear()
    page.rules.clear()
    left = style.margin + int(rng.uniform(0, 0.2) * page.width)
    y = style.margin + round(style.size * rng.uniform(1, 3))
    y = _heading(sheet, left, y)
    groups = 2 if page.width > 34 * style.size and rng.random() < 0.4 else 1
    room = (page.width - left - style.margin) // groups
    names = values.distinct(rng, lambda _: key(sheet), MOST * groups, fits=lambda k: sheet.width_of(k) <= 0.6 * room)
    for group in range(groups):
        start = y + round(style.pitch * rng.uniform(0, 2))
        _group(sheet, names[group::groups], left + group * room, start, room)
    _button(sheet, left)


def _turn_dark(sheet: PageBuilder) -> None:
    """Light letters on dark ground."""
    rng, page = sheet.rng, sheet.page
    if rng.random() < DARK:
        page.paper = tuple(int(v) for v in rng.integers(0, 90, size=3))  # type: ignore[assignment]
        page.ink = tuple(int(v) for v in rng.integers(215, 256, size=3))  # type: ignore[assignment]
    if rng.random() < 0.25:
        page.ground = values.pick(rng, ("gradient", "grain", "clouds"))


def _heading(sheet: PageBuilder, left: int, y: int) -> int:
    """Words of the catalogue of titles or invented ones, larger than the rest, at times on a band. -> next baseline"""
    rng, page, style = sheet.rng, sheet.page, sheet.style
    size = round(style.size * rng.uniform(1.1, 2.0))
    words = values.pick(rng, lexicon.TITLES) if rng.random() < 0.5 else f"{invented(sheet)} {invented(sheet)}"
    if rng.random() < 0.15 or text_width(words, page.font, size) > page.width - left - style.margin:
        return y
    ink: Colour | None = None
    if rng.random() < 0.35:
        light = sum(page.paper) > 380
        fill = tuple(int(v) for v in (rng.integers(0, 110, size=3) if light else rng.integers(180, 256, size=3)))
        page.shapes.append(Shape(form="box", box=(0, 0, page.width, y + size + style.size // 2), fill=fill))  # type: ignore[arg-type]
        ink = (250, 250, 250) if light else (10, 10, 10)
    sheet.put(words, left, y + size // 2, size=size, bold=bool(rng.random() < 0.5))
    if ink is not None:
        sheet.tint(ink)
    sheet.ask("title", "What is the title?", words)
    return y + size + round(style.pitch * rng.uniform(1.2, 2.5))


def _group(sheet: PageBuilder, names: list[str], left: int, y: int, room: int) -> None:
    """Keys in a column; values behind them, in a column of their own, or below them."""
    rng, page, style = sheet.rng, sheet.page, sheet.style
    colon = ":" if rng.random() < 0.7 else ""
    way = values.pick(rng, ("behind", "behind", "column", "column", "below"))
    pitch = round(style.pitch * rng.uniform(1.0, 2.0))
    many = int(rng.integers(2, MOST + 1))
    tab = max(style.size * 4, room * rng.uniform(0.25, 0.6))
    for name in names[:many]:
        wide = sheet.width_of(name + colon)
        start = {"behind": wide + 0.5 * style.size, "column": tab, "below": 0.0}[way]
        low = y + (style.pitch if way == "below" else 0)
        found = next((v for v in (value(sheet) for _ in range(8)) if start + sheet.width_of(v) <= room), None)
        if low > page.height - style.margin - style.size // 3:
            return
        if found is None or (way == "column" and wide > tab):
            continue
        sheet.put(name + colon, left, y)
        sheet.put(found, left + start, low, bold=bool(rng.random() < 0.15))
        sheet.ask("value", f"What is the {name}?", found)
        y = low + pitch + (pitch if rng.random() < 0.1 else 0)


def _button(sheet: PageBuilder, left: int) -> None:
    """Words in a coloured box below everything: nobody asks for them."""
    rng, page, style = sheet.rng, sheet.page, sheet.style
    low = max((text.y for text in page.texts), default=0) + 2 * style.pitch
    words = f"{values.pick(rng, lexicon.NOUNS)} {values.pick(rng, lexicon.NOUNS)}"
    wide = sheet.width_of(words) + 2 * style.size
    if rng.random() < 0.5 or low + style.pitch > page.height - style.margin or left + wide > page.width:
        return
    fill = tuple(int(v) for v in rng.integers(0, 120, size=3))
    box = (left, low - round(1.3 * style.size), round(left + wide), low + round(0.7 * style.size))
    page.shapes.append(Shape(form="box", box=box, fill=fill))  # type: ignore[arg-type]
    sheet.put(words, left + style.size, low)
    sheet.tint((250, 250, 250))
