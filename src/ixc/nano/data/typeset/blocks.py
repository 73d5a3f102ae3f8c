"""Parts of typeset pages as Typst code, each with the questions that it answers.

title, pairs, table, prose, items, ornament: (rng, text) -> Block
"""

from __future__ import annotations

from dataclasses import dataclass

from numpy.random import Generator

from ixc.nano.data.page_questions import ABSENT, PHRASINGS
from ixc.nano.data.page_text import Known
from ixc.nano.data.typeset.text import TextSource
from ixc.nano.data.typeset.values import FIELDS, any_value, one_of

KINDS_OF_ASKING = 3
"""Phrasings kept of a fact."""


@dataclass(frozen=True, kw_only=True)
class Block:
    """Typst code in markup mode, and what it answers."""

    source: str
    known: tuple[Known, ...] = ()
    shows: tuple[str, ...] = ()
    """Names of `FIELDS` that it shows without a question about them: they are not absent."""


def literal(text: str) -> str:
    """A string literal of Typst: shown as it is, no markup in it."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", " ") + '"'


def title(text: str, rng: Generator) -> Block:
    """A title of one and a half to three times the size of type."""
    size, weight = float(rng.uniform(1.5, 3.0)), one_of(rng, ("regular", "bold", "bold", "medium"))
    side = one_of(rng, ("left", "left", "center", "right"))
    source = f'#align({side}, text(size: {size:.2f}em, weight: "{weight}", hyphenate: false, {literal(text)}))\n\n'
    return Block(source=source, known=_facts(rng, PHRASINGS["title"], text, (text,)))


def heading(rng: Generator, text: TextSource) -> Block:
    """A heading of a section."""
    size = float(rng.uniform(1.05, 1.5))
    return Block(source=f'#text(size: {size:.2f}em, weight: "bold", {literal(text.words(rng, 1, 5))})\n\n')


def prose(rng: Generator, text: TextSource, *, paragraphs: int = 2, columns: int = 1) -> Block:
    """Running text, in columns or not, justified half of the time."""
    justify = "true" if rng.random() < 0.5 else "false"
    parts = "\n\n".join(f"#{literal(text.paragraph(rng))}" for _ in range(paragraphs))
    source = f"#[#set par(justify: {justify})\n{parts}\n]\n\n"
    return Block(source=source if columns == 1 else f"#columns({columns})[\n{source}\n]\n\n")


def bullets(rng: Generator, text: TextSource) -> Block:
    """A list, numbered or not."""
    mark = one_of(rng, ("-", "+"))
    lines = "\n".join(f"{mark} #{literal(text.words(rng, 1, 7))}" for _ in range(int(rng.integers(2, 8))))
    return Block(source=lines + "\n\n")


def ornament(rng: Generator, text: TextSource) -> Block:
    """A coloured box, a circle or a rule: what pages hold beside text."""
    width, height = int(rng.integers(20, 160)), int(rng.integers(10, 70))
    colour = f"rgb({', '.join(str(int(v)) for v in rng.integers(40, 240, size=3))})"
    shapes = (
        f"rect(width: {width}pt, height: {height}pt, fill: {colour})",
        f"circle(radius: {height // 3 + 4}pt, stroke: 2pt + {colour})",
        f"line(length: 100%, stroke: {float(rng.uniform(0.3, 2)):.1f}pt + {colour})",
        f"rect(width: 100%, height: {height // 3}pt, fill: gradient.linear({colour}, white))",
    )
    return Block(source=f"#align({one_of(rng, ('left', 'right', 'center'))}, {one_of(rng, shapes)})\n\n")


def form_pairs(rng: Generator, text: TextSource, names: tuple[str, ...] = ()) -> list[tuple[str, str, tuple[str, ...]]]:
    """Labels, values and natural questions: fields of the catalogue by name, then some that no catalogue holds."""
    pairs: list[tuple[str, str, tuple[str, ...]]] = []
    for name in names:
        field = FIELDS[name]
        pairs.append((one_of(rng, field.labels), field.value(rng, text), field.asked))
    free = int(rng.integers(0 if names else 2, 8))
    pairs += [(text.words(rng, 1, one_of_counts(rng)), any_value(rng, text), ()) for _ in range(free)]
    seen: set[str] = set()
    return [pair for pair in pairs if not (pair[0].lower() in seen or seen.add(pair[0].lower()))]


def one_of_counts(rng: Generator) -> int:
    """Most words of a label: one to six."""
    return int(rng.choice((1, 1, 2, 2, 3, 4, 6)))


def pairs(rng: Generator, found: list[tuple[str, str, tuple[str, ...]]]) -> Block:
    """Labels and values beside, below, in boxes, with dots between, or in a line."""
    layout = one_of(rng, ("line", "grid", "grid", "boxes", "below", "dots"))
    colon = ":" if layout == "line" or rng.random() < 0.5 else ""
    weight = one_of(rng, ("regular", "bold", "bold"))
    labels = [f'text(weight: "{weight}", {literal(label + colon)})' for label, _, _ in found]
    values = [literal(value) for _, value, _ in found]
    if layout == "line":
        source = "".join(f"#{label} #{value}\n\n" for label, value in zip(labels, values, strict=True))
    elif layout == "dots":
        lines = (f"#{a} #box(width: 1fr, repeat[.]) #{b}\n\n" for a, b in zip(labels, values, strict=True))
        source = "".join(lines)
    elif layout == "below":
        source = "".join(f"#{a} \\\n#{b}\n\n" for a, b in zip(labels, values, strict=True))
    elif layout == "boxes":
        columns, line = int(rng.integers(1, 4)), one_of(rng, ("0.5pt", "1pt", "0.5pt + gray"))
        cells = [
            f"box(width: 100%, stroke: {line}, inset: 4pt, [#text(size: 0.8em, {literal(label)}) \\ #{value}])"
            for (label, _, _), value in zip(found, values, strict=True)
        ]
        source = f"#grid(columns: (1fr,) * {columns}, gutter: 3pt, {', '.join(cells)})\n\n"
    else:
        side, gutter = one_of(rng, ("left", "left", "right")), float(rng.uniform(0.5, 1.2))
        cells = ", ".join(f"{a}, align({side}, {b})" for a, b in zip(labels, values, strict=True))
        widths = one_of(rng, ("(auto, auto)", "(auto, 1fr)", "(1fr, 2fr)"))
        source = f"#grid(columns: {widths}, column-gutter: 1.2em, row-gutter: {gutter:.2f}em, {cells})\n\n"
    known = [fact for label, value, asked in found for fact in _pair_facts(rng, label, value, asked)]
    return Block(source=source, known=tuple(known))


def absent(rng: Generator, names: tuple[str, ...]) -> tuple[Known, ...]:
    """Questions about fields that a page does not have."""
    return tuple(Known(question=one_of(rng, FIELDS[name].asked), answer=ABSENT, needs=()) for name in names)


def table(rng: Generator, text: TextSource, *, columns: list[str], rows: list[list[str]]) -> Block:
    """A table, ruled in one of four ways; its first column names the rows."""
    rule = one_of(rng, ("all", "none", "head", "striped"))
    strokes = {"all": "0.5pt", "none": "none", "head": "none", "striped": "none"}[rule]
    fill = "(_, y) => if calc.odd(y) { luma(235) }" if rule == "striped" else "none"
    sides = ", ".join(["left"] + [one_of(rng, ("left", "right", "right", "center"))] * (len(columns) - 1))
    head = ", ".join(f'text(weight: "bold", {literal(name)})' for name in columns)
    line = "table.hline(stroke: 0.8pt), " if rule == "head" else ""
    body = ", ".join(literal(cell) for row in rows for cell in row)
    widths = one_of(rng, (f"{len(columns)}", f"(1.6fr, {', '.join(['1fr'] * (len(columns) - 1))})"))
    source = (
        f"#table(columns: {widths}, stroke: {strokes}, fill: {fill}, align: ({sides},), "
        f"inset: {float(rng.uniform(2, 6)):.1f}pt, {line}{head}, {line}{body})\n\n"
    )
    forms = ("What is the {0} of {1}?", "{0} of {1}?", "{0}, {1}", "Which {0} has {1}?", "How much is {0} for {1}?")
    known = [
        fact
        for row in rows
        for name, cell in zip(columns[1:], row[1:], strict=True)
        for fact in _facts(rng, tuple(form.format(name, row[0]) for form in forms), cell, (name, row[0], cell), count=1)
    ]
    chosen = rng.permutation(len(known))[:12].tolist()
    return Block(source=source, known=tuple(known[i] for i in chosen))


def _pair_facts(rng: Generator, label: str, value: str, asked: tuple[str, ...]) -> list[Known]:
    plain = tuple(form.format(label) for form in PHRASINGS["value"])
    found = [*_facts(rng, plain, value, (label, value), count=2)]
    return [*found, *_facts(rng, asked, value, (label, value), count=2)] if asked else found


def _facts(
    rng: Generator, forms: tuple[str, ...], answer: str, needs: tuple[str, ...], *, count: int = KINDS_OF_ASKING
) -> tuple[Known, ...]:
    chosen = rng.permutation(len(forms))[:count].tolist()
    return tuple(Known(question=forms[i], answer=answer, needs=needs) for i in chosen)


__all__ = [
    "Block",
    "absent",
    "bullets",
    "form_pairs",
    "heading",
    "literal",
    "ornament",
    "pairs",
    "prose",
    "table",
    "title",
]
