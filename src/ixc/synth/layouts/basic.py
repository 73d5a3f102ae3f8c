"""The kinds of page: form, receipt, table, notice. Each fills a `PageBuilder` and asks exact questions about it.

A sheet is split into blocks (columns of text at least `BLOCK` ems wide); each block is a list of baselines. Lines are
at least `Style.pitch` pixels apart, so that at the setting the page was drawn for no two share a token row.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import pairwise

from numpy.random import Generator

from ixc.synth import lexicon, values
from ixc.synth.config import FAMILY, PageFamily
from ixc.synth.page import Colour, DrawnPage, PageQuestion, PlacedText, text_width

BLOCK = 12  # narrowest block, in ems
LONGEST_TITLE = 14  # characters


@dataclass(frozen=True, kw_only=True)
class Style:
    """How a page is set."""

    size: int
    """Body font size in pixels."""
    pitch: int
    """Distance of baselines in pixels."""
    margin: int
    """White border in pixels."""
    title_size: int
    """Font size of the title; 0 = no title."""


@dataclass
class PageBuilder:
    """A page being filled: where the next line goes."""

    rng: Generator
    page: DrawnPage
    style: Style
    y: int = 0
    family: PageFamily = FAMILY

    def width_of(self, string: str) -> float:
        return text_width(string, self.page.font, self.style.size)

    def put(self, string: str, x: float, y: int, *, size: int | None = None, bold: bool = False) -> None:
        text = PlacedText(string=string, x=round(x), y=y, size=size or self.style.size, bold=bold)
        self.page.texts.append(text)

    def tint(self, ink: Colour) -> None:
        """The text put last gets a colour of its own."""
        self.page.texts[-1] = replace(self.page.texts[-1], ink=ink)

    def ask(self, kind: str, question: str, answer: str) -> None:
        self.page.questions.append(PageQuestion(kind=kind, question=question, answer=answer))

    def drill(self, kind: str, question: str, answer: str) -> None:
        self.page.drills.append(PageQuestion(kind=kind, question=question, answer=answer))

    def count(self, noun: str, things: list[str]) -> None:
        """Ask how many there are."""
        self.page.counted.extend(things)
        self.ask("count", f"How many {noun}s are there?", str(len(things)))

    def value(self) -> str:
        """One that the family writes behind a key."""
        return values.value(self.rng, self.family.values, longest=self.family.longest)


def title(sheet: PageBuilder) -> None:
    """A headline at the top, left or centred, and its question."""
    style, page = sheet.style, sheet.page
    sheet.y = style.margin + style.size
    if not style.title_size:
        return
    room = page.width - 2 * style.margin
    fitting = [
        t for t in lexicon.TITLES if len(t) <= LONGEST_TITLE and text_width(t, page.font, style.title_size) <= room
    ]
    if not fitting:
        return
    string = values.pick(sheet.rng, tuple(fitting))
    if sheet.rng.random() < 0.25 and text_width(string.upper(), page.font, style.title_size) <= room:
        string = string.upper()
    slack = room - text_width(string, page.font, style.title_size)
    x = style.margin + (slack / 2 if sheet.rng.random() < 0.5 else 0)
    y = style.margin + style.title_size
    sheet.put(string, x, y, size=style.title_size, bold=bool(sheet.rng.random() < 0.4))
    if sheet.rng.random() < 0.3:
        page.rules.append((style.margin, y + style.size // 2, page.width - style.margin, y + style.size // 2))
    sheet.ask("title", "What is the title?", string)
    sheet.y = y + max(style.pitch, round(1.2 * style.size) + style.title_size // 3)


def rows_left(sheet: PageBuilder) -> list[int]:
    """Baselines from the current place to the bottom margin."""
    return list(range(sheet.y, sheet.page.height - sheet.style.margin // 2 - sheet.style.size // 4, sheet.style.pitch))


def blocks(sheet: PageBuilder) -> list[tuple[float, float]]:
    """Left edge and width of one to three columns of text."""
    room = sheet.page.width - 2 * sheet.style.margin
    most = min(3, max(1, int(room // (BLOCK * sheet.style.size))))
    count = int(sheet.rng.integers(max(1, most - 1), most + 1))
    gap = 2 * sheet.style.size
    width = (room - gap * (count - 1)) / count
    return [(sheet.style.margin + i * (width + gap), width) for i in range(count)]


def form(sheet: PageBuilder) -> None:
    """`Key: value` pairs, the values right behind their keys or in a column of their own."""
    rng, lines, columns = sheet.rng, rows_left(sheet), blocks(sheet)
    keys = values.distinct(rng, values.key, len(lines) * len(columns), fits=lambda k: True)
    aligned, colon = rng.random() < 0.4, ":" if rng.random() < 0.8 else ""
    for b, (left, width) in enumerate(columns):
        mine = keys[b * len(lines) : (b + 1) * len(lines)]
        tab = max((sheet.width_of(k + colon) for k in mine), default=0) + sheet.style.size * rng.uniform(0.5, 1.5)
        for k, y in zip(mine, lines, strict=False):
            start = tab if aligned else sheet.width_of(k + colon + " ") + (0 if colon else sheet.style.size * 0.8)
            fitting = (v for v in (sheet.value() for _ in range(12)) if start + sheet.width_of(v) <= width)
            v = next(fitting, None)
            if v is None:
                continue
            sheet.put(k + colon, left, y)
            sheet.put(v, left + start, y)
            sheet.ask("value", f"What is the {k}?", v)


def receipt(sheet: PageBuilder) -> None:
    """Things and prices, then tax and total; the prices end at the right edge of their block."""
    rng, lines, columns = sheet.rng, rows_left(sheet), blocks(sheet)
    narrow = min(1.0, float(rng.uniform(11, 18)) * sheet.style.size / columns[0][1])
    things = values.distinct(rng, values.item, len(lines) * len(columns), fits=lambda k: True)
    for b, (left, full) in enumerate(columns):
        width = full * narrow
        tail = (
            ["Tax", values.pick(rng, ("Total", "TOTAL", "Total"))] if b == len(columns) - 1 and len(lines) > 3 else []
        )
        mine = things[b * len(lines) : b * len(lines) + len(lines) - len(tail)] + tail
        for k, y in zip(mine, lines, strict=False):
            v = values.price(rng)
            right = left + width - sheet.width_of(v)
            space = right - left - sheet.width_of(k)
            if space < sheet.style.size * 0.6:
                continue
            sheet.put(k, left, y)
            sheet.put(v, right, y)
            asked = f"What is the {k}?" if k in tail else f"How much is {k}?"
            sheet.ask("price", asked, v)


def table(sheet: PageBuilder) -> None:
    """A heading row, a first column of names, and cells."""
    rng, lines, style = sheet.rng, rows_left(sheet)[:24], sheet.style
    room = sheet.page.width - 2 * style.margin
    name_width = 6 * style.size
    count = int(min(rng.integers(1, 6), (room - name_width) // (4.3 * style.size)))
    if count < 1 or len(lines) < 2:
        sheet.page.kind = "form"
        return form(sheet)
    heads = values.distinct(
        rng, lambda r: values.pick(r, lexicon.COLUMNS), count, fits=lambda h: sheet.width_of(h) <= 3.8 * style.size
    )
    step = float(min((room - name_width) / len(heads), rng.uniform(4.3, 6.5) * style.size))
    left = [style.margin + name_width + i * step for i in range(len(heads))]
    for h, x in zip(heads, left, strict=True):
        sheet.put(h, x, lines[0], bold=bool(rng.random() < 0.2))
    if rng.random() < 0.5:
        below = lines[0] + (style.pitch - style.size) // 2 + style.size // 4
        page_right = round(left[-1] + step)
        sheet.page.rules.append((style.margin, below, min(page_right, sheet.page.width - style.margin), below))
    names = values.distinct(
        rng, values.item, len(lines) - 1, fits=lambda k: sheet.width_of(k) <= name_width - style.size
    )
    kinds = [values.pick(rng, sheet.family.values) for _ in heads]
    for k, y in zip(names, lines[1:], strict=False):
        sheet.put(k, style.margin, y)
        for h, x, kind in zip(heads, left, kinds, strict=True):
            fitting = (
                v
                for v in (values.VALUES[kind][1](rng) for _ in range(8))
                if len(v) <= sheet.family.longest and sheet.width_of(v) < step - style.size / 2
            )
            v = next(fitting, None) or values.letters(rng, values.DIGITS, 1, 3)
            sheet.put(v, x, y)
            sheet.ask("cell", f"What is the {h} of {k}?", v)


def notice(sheet: PageBuilder) -> None:
    """A short paragraph of words; the questions walk from word to word."""
    rng, columns = sheet.rng, blocks(sheet)
    lines = rows_left(sheet)
    lines = lines[: max(2, int(rng.integers(2, len(lines) + 1)))] if len(lines) > 2 else lines
    words = values.distinct(rng, values.word, 6 * len(lines) * len(columns), fits=lambda w: True)
    queue = list(reversed(words))
    for left, width in columns:
        for y in lines:
            line: list[str] = []
            while queue and sheet.width_of(" ".join([*line, queue[-1]])) <= width:
                line.append(queue.pop())
            if line:
                sheet.put(" ".join(line), left, y)
            for first, second in pairwise(line):
                sheet.ask("next", f"What comes after {first}?", second)


KINDS: dict[str, Callable[[PageBuilder], None]] = {"form": form, "receipt": receipt, "table": table, "notice": notice}
