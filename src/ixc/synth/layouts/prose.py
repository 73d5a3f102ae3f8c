"""Pages of running text: letters, articles in columns, numbered lines. Paper: the documents of DocVQA and OCRBench."""

from __future__ import annotations

from itertools import pairwise

from ixc.synth import lexicon, values
from ixc.synth.layouts.basic import PageBuilder, blocks, rows_left

LINE = 26
"""Characters of the longest line that is asked for whole."""
COUNTED = 15
"""Most lines that are asked for by number."""


def ordinal(number: int) -> str:
    """1 -> `1st`, 2 -> `2nd`, 11 -> `11th`."""
    ending = "th" if 10 <= number % 100 <= 20 else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number}{ending}"


def wrapped(sheet: PageBuilder, words: list[str], room: float, most: int) -> list[list[str]]:
    """At most `most` lines of words that fit into `room` pixels; the words that were set leave the list's end."""
    lines: list[list[str]] = []
    while words and len(lines) < most:
        line: list[str] = []
        while words and sheet.width_of(" ".join([*line, words[-1]])) <= room:
            line.append(words.pop())
        if not line:
            words.pop()  # wider than the column
            continue
        lines.append(line)
    return lines


def walk(sheet: PageBuilder, lines: list[list[str]]) -> None:
    """Which word comes after which, within a line."""
    for line in lines:
        for first, second in pairwise(line):
            sheet.ask("next", f"What comes after {first}?", second)


def _words(sheet: PageBuilder, count: int) -> list[str]:
    return values.distinct(sheet.rng, values.word, count, fits=lambda w: True)


def letter(sheet: PageBuilder) -> None:
    """Sender, date, reference, salutation, a paragraph, a signature."""
    rng, style, page = sheet.rng, sheet.style, sheet.page
    lines = rows_left(sheet)
    room = page.width - 2 * style.margin
    heads = {"Date": values.date(rng), "Ref": values.code(rng), "From": values.pick(rng, lexicon.CITIES)}
    taken = 0
    for key, value in heads.items():
        if taken < len(lines) - 4 and sheet.width_of(f"{key}: {value}") <= room:
            sheet.put(f"{key}: {value}", style.margin, lines[taken])
            sheet.ask("value", f"What is the {key}?", value)
            taken += 1
    names = [values.pick(rng, lexicon.LAST_NAMES), values.pick(rng, lexicon.FIRST_NAMES)]
    if len(lines) - taken >= 4 and sheet.width_of(f"Dear {names[0]},") <= room:
        sheet.put(f"Dear {names[0]},", style.margin, lines[taken])
        sheet.ask("value", "Who is the letter for?", names[0])
        taken += 1
    signed = len(lines) - taken >= 3 and sheet.width_of(f"Signed, {names[1]}") <= room
    body = lines[taken : len(lines) - int(signed)]
    paragraph = wrapped(sheet, _words(sheet, 5 * len(body)), room, len(body))
    for y, line in zip(body, paragraph, strict=False):
        sheet.put(" ".join(line), style.margin, y)
    walk(sheet, paragraph)
    if signed:
        sheet.put(f"Signed, {names[1]}", style.margin, lines[taken + len(paragraph)])
        sheet.ask("value", "Who signed the letter?", names[1])


def article(sheet: PageBuilder) -> None:
    """Columns of paragraphs, each under a heading of its own."""
    rng = sheet.rng
    lines, columns = rows_left(sheet), blocks(sheet)
    parts = [(left, width, lines[at : at + 6]) for left, width in columns for at in range(0, len(lines), 6)]
    heads = values.distinct(rng, lambda r: values.pick(r, lexicon.FIELD_KEYS), len(parts), fits=lambda h: True)
    pool = [w for w in _words(sheet, 24 * len(parts)) if not any(w.lower() in h.lower() for h in heads)]
    for (left, width, ys), head in zip(parts, heads, strict=False):
        if len(ys) < 2 or sheet.width_of(head) > width:
            continue
        sheet.put(head, left, ys[0], bold=True)
        text = wrapped(sheet, pool, width, len(ys) - 1 - int(len(ys) == 6 and rng.random() < 0.5))
        for y, line in zip(ys[1:], text, strict=False):
            sheet.put(" ".join(line), left, y)
        if text:
            sheet.ask("section", f"Which section mentions {values.pick(rng, tuple(text[-1]))}?", head)
            for word in (word for line in text for word in line):
                sheet.drill("section", f"Which section mentions {word}?", head)
            sheet.ask("first_word", f"What is the first word of {head}?", text[0][0])
            sheet.ask("last_word", f"What is the last word of {head}?", text[-1][-1])
            walk(sheet, text)


def lines(sheet: PageBuilder) -> None:
    """Lines to be transcribed, asked for by their number; a title is not counted."""
    rng, style = sheet.rng, sheet.style
    ys = rows_left(sheet)[:COUNTED]
    room = sheet.page.width - 2 * style.margin
    pool = _words(sheet, 6 * len(ys))
    made: list[str] = []
    for y in ys:
        count = int(rng.integers(1, 5))
        line = " ".join(pool[-count:])
        if not pool or len(line) > LINE or sheet.width_of(line) > room:
            continue
        del pool[-count:]
        sheet.put(line, style.margin, y)
        made.append(line)
    for number, line in enumerate(made, start=1):
        words = line.split(" ")
        sheet.ask("line", f"What is the {ordinal(number)} line?", line)
        sheet.ask("first_word", f"What is the first word of the {ordinal(number)} line?", words[0])
        sheet.ask("last_word", f"What is the last word of the {ordinal(number)} line?", words[-1])
    if made:
        sheet.count("line", made)
