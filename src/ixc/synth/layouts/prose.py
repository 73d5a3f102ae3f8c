"""Pages of running text: letters, articles in columns, numbered lines. Resembles DocVQA and OCRBench (paper)."""

from __future__ import annotations

from itertools import pairwise

from ixc.synth import lexicon, values
from ixc.synth.layouts.basic import PageBuilder, blocks, rows_left

LINE = 26
"""Most characters of a line that is asked for."""
COUNTED = 15
"""Most lines that are asked for by number."""


def ordinal(number: int) -> str:
    """1 -> `1st`, 2 -> `2nd`, 11 -> `11th`."""
    ending = "th" if 10 <= number % 100 <= 20 else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number}{ending}"


def wrapped(builder: PageBuilder, words: list[str], space: float, most: int) -> list[list[str]]:
    """Wrap words, taken from the end of the list, into at most `most` lines of `space` pixels."""
    lines: list[list[str]] = []
    while words and len(lines) < most:
        line: list[str] = []
        while words and builder.width_of(" ".join([*line, words[-1]])) <= space:
            line.append(words.pop())
        if not line:
            words.pop()  # wider than the column
            continue
        lines.append(line)
    return lines


def ask_next_words(builder: PageBuilder, lines: list[list[str]]) -> None:
    """Add a question for every two neighbouring words of a line."""
    for line in lines:
        for first, second in pairwise(line):
            builder.ask("next", f"What comes after {first}?", second)


def _words(builder: PageBuilder, count: int) -> list[str]:
    return values.distinct(builder.rng, values.word, count, fits=lambda w: True)


def letter(builder: PageBuilder) -> None:
    """Fill a letter: date, reference, sender, salutation, a paragraph, a signature."""
    rng, style, page = builder.rng, builder.style, builder.page
    lines = rows_left(builder)
    space = page.width - 2 * style.margin
    heads = {"Date": values.date(rng), "Ref": values.code(rng), "From": values.pick(rng, lexicon.CITIES)}
    taken = 0
    for key, value in heads.items():
        if taken < len(lines) - 4 and builder.width_of(f"{key}: {value}") <= space:
            builder.put(f"{key}: {value}", style.margin, lines[taken])
            builder.ask("value", f"What is the {key}?", value)
            taken += 1
    names = [values.pick(rng, lexicon.LAST_NAMES), values.pick(rng, lexicon.FIRST_NAMES)]
    if len(lines) - taken >= 4 and builder.width_of(f"Dear {names[0]},") <= space:
        builder.put(f"Dear {names[0]},", style.margin, lines[taken])
        builder.ask("value", "Who is the letter for?", names[0])
        taken += 1
    signed = len(lines) - taken >= 3 and builder.width_of(f"Signed, {names[1]}") <= space
    body = lines[taken : len(lines) - int(signed)]
    paragraph = wrapped(builder, _words(builder, 5 * len(body)), space, len(body))
    for y, line in zip(body, paragraph, strict=False):
        builder.put(" ".join(line), style.margin, y)
    ask_next_words(builder, paragraph)
    if signed:
        builder.put(f"Signed, {names[1]}", style.margin, lines[taken + len(paragraph)])
        builder.ask("value", "Who signed the letter?", names[1])


def article(builder: PageBuilder) -> None:
    """Fill an article: columns of paragraphs, each below its heading."""
    rng = builder.rng
    lines, columns = rows_left(builder), blocks(builder)
    parts = [(left, width, lines[at : at + 6]) for left, width in columns for at in range(0, len(lines), 6)]
    heads = values.distinct(rng, lambda r: values.pick(r, lexicon.FIELD_KEYS), len(parts), fits=lambda h: True)
    pool = [w for w in _words(builder, 24 * len(parts)) if not any(w.lower() in h.lower() for h in heads)]
    for (left, width, ys), head in zip(parts, heads, strict=False):
        if len(ys) < 2 or builder.width_of(head) > width:
            continue
        builder.put(head, left, ys[0], bold=True)
        text = wrapped(builder, pool, width, len(ys) - 1 - int(len(ys) == 6 and rng.random() < 0.5))
        for y, line in zip(ys[1:], text, strict=False):
            builder.put(" ".join(line), left, y)
        if text:
            builder.ask("section", f"Which section mentions {values.pick(rng, tuple(text[-1]))}?", head)
            for word in (word for line in text for word in line):
                builder.ask_extra("section", f"Which section mentions {word}?", head)
            builder.ask("first_word", f"What is the first word of {head}?", text[0][0])
            builder.ask("last_word", f"What is the last word of {head}?", text[-1][-1])
            ask_next_words(builder, text)


def lines(builder: PageBuilder) -> None:
    """Fill a page with lines that are asked for by number; a title is not counted."""
    rng, style = builder.rng, builder.style
    ys = rows_left(builder)[:COUNTED]
    space = builder.page.width - 2 * style.margin
    pool = _words(builder, 6 * len(ys))
    made: list[str] = []
    for y in ys:
        count = int(rng.integers(1, 5))
        line = " ".join(pool[-count:])
        if not pool or len(line) > LINE or builder.width_of(line) > space:
            continue
        del pool[-count:]
        builder.put(line, style.margin, y)
        made.append(line)
    for number, line in enumerate(made, start=1):
        words = line.split(" ")
        builder.ask("line", f"What is the {ordinal(number)} line?", line)
        builder.ask("first_word", f"What is the first word of the {ordinal(number)} line?", words[0])
        builder.ask("last_word", f"What is the last word of the {ordinal(number)} line?", words[-1])
    if made:
        builder.count("line", made)
