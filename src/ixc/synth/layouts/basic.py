"""Basic kinds of page: form, receipt, table, notice. Each fills a page and adds exact questions about it.

A page is split into blocks (columns of text at least `BLOCK` ems wide); each block is a list of baselines. Lines are
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
    """Typographic style of a page."""

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
    """A page under construction."""

    rng: Generator
    """Random generator of the page."""
    page: DrawnPage
    """The page."""
    style: Style
    """Its typographic style."""
    y: int = 0
    """Baseline of the next line in pixels."""
    family: PageFamily = FAMILY
    """Family whose values are drawn."""

    def width_of(self, string: str) -> float:
        """Width of a string in the body font, pixels."""
        return text_width(string, self.page.font, self.style.size)

    def put(self, string: str, x: float, y: int, *, size: int | None = None, bold: bool = False) -> None:
        """Place a text; x: its left edge, y: its baseline, pixels; size None = the body size."""
        text = PlacedText(string=string, x=round(x), y=y, size=size or self.style.size, bold=bold)
        self.page.texts.append(text)

    def tint(self, ink: Colour) -> None:
        """Colour the text placed last."""
        self.page.texts[-1] = replace(self.page.texts[-1], ink=ink)

    def ask(self, kind: str, question: str, answer: str) -> None:
        """Add a question and its answer."""
        self.page.questions.append(PageQuestion(kind=kind, question=question, answer=answer))

    def ask_extra(self, kind: str, question: str, answer: str) -> None:
        """Add a question that is asked in training only."""
        self.page.extra_questions.append(PageQuestion(kind=kind, question=question, answer=answer))

    def count(self, noun: str, things: list[str]) -> None:
        """Add the question how many things there are."""
        self.page.counted.extend(things)
        self.ask("count", f"How many {noun}s are there?", str(len(things)))

    def value(self) -> str:
        """Draw a value of the family."""
        return values.value(self.rng, self.family.values, longest=self.family.longest)


def title(builder: PageBuilder) -> None:
    """Add a headline at the top, left or centred, and its question."""
    style, page = builder.style, builder.page
    builder.y = style.margin + style.size
    if not style.title_size:
        return
    space = page.width - 2 * style.margin
    fitting = [
        t for t in lexicon.TITLES if len(t) <= LONGEST_TITLE and text_width(t, page.font, style.title_size) <= space
    ]
    if not fitting:
        return
    string = values.pick(builder.rng, tuple(fitting))
    if builder.rng.random() < 0.25 and text_width(string.upper(), page.font, style.title_size) <= space:
        string = string.upper()
    slack = space - text_width(string, page.font, style.title_size)
    x = style.margin + (slack / 2 if builder.rng.random() < 0.5 else 0)
    y = style.margin + style.title_size
    builder.put(string, x, y, size=style.title_size, bold=bool(builder.rng.random() < 0.4))
    if builder.rng.random() < 0.3:
        page.rules.append((style.margin, y + style.size // 2, page.width - style.margin, y + style.size // 2))
    builder.ask("title", "What is the title?", string)
    builder.y = y + max(style.pitch, round(1.2 * style.size) + style.title_size // 3)


def rows_left(builder: PageBuilder) -> list[int]:
    """List the baselines from the current position to the bottom margin."""
    return list(
        range(builder.y, builder.page.height - builder.style.margin // 2 - builder.style.size // 4, builder.style.pitch)
    )


def blocks(builder: PageBuilder) -> list[tuple[float, float]]:
    """Draw one to three columns of text: left edge and width of each."""
    space = builder.page.width - 2 * builder.style.margin
    most = min(3, max(1, int(space // (BLOCK * builder.style.size))))
    count = int(builder.rng.integers(max(1, most - 1), most + 1))
    gap = 2 * builder.style.size
    width = (space - gap * (count - 1)) / count
    return [(builder.style.margin + i * (width + gap), width) for i in range(count)]


def form(builder: PageBuilder) -> None:
    """Fill a form with `Key: value` pairs, the values directly after their keys or in a column of their own."""
    rng, lines, columns = builder.rng, rows_left(builder), blocks(builder)
    keys = values.distinct(rng, values.key, len(lines) * len(columns), fits=lambda k: True)
    aligned, colon = rng.random() < 0.4, ":" if rng.random() < 0.8 else ""
    for b, (left, width) in enumerate(columns):
        mine = keys[b * len(lines) : (b + 1) * len(lines)]
        tab = max((builder.width_of(k + colon) for k in mine), default=0) + builder.style.size * rng.uniform(0.5, 1.5)
        for k, y in zip(mine, lines, strict=False):
            start = tab if aligned else builder.width_of(k + colon + " ") + (0 if colon else builder.style.size * 0.8)
            fitting = (v for v in (builder.value() for _ in range(12)) if start + builder.width_of(v) <= width)
            v = next(fitting, None)
            if v is None:
                continue
            builder.put(k + colon, left, y)
            builder.put(v, left + start, y)
            builder.ask("value", f"What is the {k}?", v)


def receipt(builder: PageBuilder) -> None:
    """Fill a receipt with items and prices, then tax and total; prices are right-aligned in their block."""
    rng, lines, columns = builder.rng, rows_left(builder), blocks(builder)
    narrow = min(1.0, float(rng.uniform(11, 18)) * builder.style.size / columns[0][1])
    things = values.distinct(rng, values.item, len(lines) * len(columns), fits=lambda k: True)
    for b, (left, full) in enumerate(columns):
        width = full * narrow
        tail = (
            ["Tax", values.pick(rng, ("Total", "TOTAL", "Total"))] if b == len(columns) - 1 and len(lines) > 3 else []
        )
        mine = things[b * len(lines) : b * len(lines) + len(lines) - len(tail)] + tail
        for k, y in zip(mine, lines, strict=False):
            v = values.price(rng)
            right = left + width - builder.width_of(v)
            gap = right - left - builder.width_of(k)
            if gap < builder.style.size * 0.6:
                continue
            builder.put(k, left, y)
            builder.put(v, right, y)
            asked = f"What is the {k}?" if k in tail else f"How much is {k}?"
            builder.ask("price", asked, v)


def table(builder: PageBuilder) -> None:
    """Fill a table: a row of column headers, a first column of names, and cells."""
    rng, lines, style = builder.rng, rows_left(builder)[:24], builder.style
    space = builder.page.width - 2 * style.margin
    name_width = 6 * style.size
    count = int(min(rng.integers(1, 6), (space - name_width) // (4.3 * style.size)))
    if count < 1 or len(lines) < 2:
        builder.page.kind = "form"
        return form(builder)
    heads = values.distinct(
        rng, lambda r: values.pick(r, lexicon.COLUMNS), count, fits=lambda h: builder.width_of(h) <= 3.8 * style.size
    )
    step = float(min((space - name_width) / len(heads), rng.uniform(4.3, 6.5) * style.size))
    left = [style.margin + name_width + i * step for i in range(len(heads))]
    for h, x in zip(heads, left, strict=True):
        builder.put(h, x, lines[0], bold=bool(rng.random() < 0.2))
    if rng.random() < 0.5:
        below = lines[0] + (style.pitch - style.size) // 2 + style.size // 4
        page_right = round(left[-1] + step)
        builder.page.rules.append((style.margin, below, min(page_right, builder.page.width - style.margin), below))
    names = values.distinct(
        rng, values.item, len(lines) - 1, fits=lambda k: builder.width_of(k) <= name_width - style.size
    )
    kinds = [values.pick(rng, builder.family.values) for _ in heads]
    for k, y in zip(names, lines[1:], strict=False):
        builder.put(k, style.margin, y)
        for h, x, kind in zip(heads, left, kinds, strict=True):
            fitting = (
                v
                for v in (values.VALUES[kind][1](rng) for _ in range(8))
                if len(v) <= builder.family.longest and builder.width_of(v) < step - style.size / 2
            )
            v = next(fitting, None) or values.letters(rng, values.DIGITS, 1, 3)
            builder.put(v, x, y)
            builder.ask("cell", f"What is the {h} of {k}?", v)


def notice(builder: PageBuilder) -> None:
    """Fill a notice with a short paragraph; the questions ask for the word after a word."""
    rng, columns = builder.rng, blocks(builder)
    lines = rows_left(builder)
    lines = lines[: max(2, int(rng.integers(2, len(lines) + 1)))] if len(lines) > 2 else lines
    words = values.distinct(rng, values.word, 6 * len(lines) * len(columns), fits=lambda w: True)
    queue = list(reversed(words))
    for left, width in columns:
        for y in lines:
            line: list[str] = []
            while queue and builder.width_of(" ".join([*line, queue[-1]])) <= width:
                line.append(queue.pop())
            if line:
                builder.put(" ".join(line), left, y)
            for first, second in pairwise(line):
                builder.ask("next", f"What comes after {first}?", second)


KINDS: dict[str, Callable[[PageBuilder], None]] = {"form": form, "receipt": receipt, "table": table, "notice": notice}
