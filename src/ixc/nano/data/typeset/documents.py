"""Kinds of typeset pages: invoices, receipts, forms, statements, timetables, certificates, menus, letters and others.

(rng, TextSource, families of fonts) -> TypstDocument: source, questions with answers
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from numpy.random import Generator

from ixc.nano.data.page_text import Known
from ixc.nano.data.typeset import values
from ixc.nano.data.typeset.blocks import (
    Block,
    absent,
    bullets,
    form_pairs,
    heading,
    literal,
    ornament,
    pairs,
    prose,
    table,
    title,
)
from ixc.nano.data.typeset.text import TextSource
from ixc.nano.data.typeset.values import FIELDS, one_of


@dataclass(frozen=True, kw_only=True)
class TypstDocument:
    """A document of one page or more, and what its pages answer."""

    kind: str
    source: str
    known: tuple[Known, ...]


def compose_document(rng: Generator, text: TextSource, families: Sequence[str], *, kind: str = "") -> TypstDocument:
    """Draw a document.

    Args:
        families: names of fonts that Typst finds.
        kind: of `KINDS`; "" draws one.
    """
    kind = kind or one_of(rng, sorted(KINDS))
    body = KINDS[kind](rng, text)
    known = tuple(fact for block in body for fact in block.known) + absent(rng, _absent_fields(rng, body))
    source = _preamble(rng, families, narrow=kind == "receipt") + "".join(block.source for block in body)
    return TypstDocument(kind=kind, source=source, known=known)


def _preamble(rng: Generator, families: Sequence[str], *, narrow: bool) -> str:
    """Page, fonts, colours and spaces."""
    width = int(rng.integers(150, 260)) if narrow else int(rng.choice((595, 612, 420, 520, 800)))
    height = "auto" if narrow or rng.random() < 0.5 else f"{int(width * rng.choice((0.7, 1.0, 1.3, 1.414)))}pt"
    margin, size = int(rng.integers(8, 24 if narrow else 70)), float(rng.uniform(7.5, 13))
    ink = ", ".join(str(int(v)) for v in rng.integers(0, 90, size=3)) if rng.random() < 0.4 else "0, 0, 0"
    paper = ", ".join(str(int(v)) for v in rng.integers(215, 256, size=3)) if rng.random() < 0.35 else "255, 255, 255"
    chosen = literal(families[int(rng.integers(len(families)))])
    return (
        f"#set page(width: {width}pt, height: {height}, margin: {margin}pt, fill: rgb({paper}))\n"
        f"#set text(font: {chosen}, size: {size:.1f}pt, fill: rgb({ink}), fallback: true)\n"
        f"#set par(leading: {float(rng.uniform(0.35, 0.9)):.2f}em, spacing: {float(rng.uniform(0.7, 1.6)):.2f}em)\n"
    )


def _absent_fields(rng: Generator, body: Sequence[Block]) -> tuple[str, ...]:
    """Two fields that no block of the document shows."""
    asked = {fact.question for block in body for fact in block.known}
    shown = {name for block in body for name in block.shows}
    left = [name for name, field in FIELDS.items() if name not in shown and not asked & {*field.asked}]
    order: list[int] = rng.permutation(len(left)).tolist()
    return tuple(left[i] for i in order[:2])


def _fields(rng: Generator, text: TextSource, names: Sequence[str], *, most: int) -> Block:
    """Some of the fields."""
    count = int(rng.integers(2, most + 1))
    order: list[int] = rng.permutation(len(names)).tolist()
    used = tuple(names[i] for i in sorted(order[:count]))
    return pairs(rng, form_pairs(rng, text, used))


def _named_rows(
    rng: Generator, text: TextSource, count: int, kinds: Sequence[Callable[[Generator, TextSource], str]]
) -> list[list[str]]:
    """Rows with a name of their own and a value of each kind."""
    names: dict[str, None] = {}
    while len(names) < count:
        names[text.words(rng, 1, 3)] = None
    return [[name, *(kind(rng, text) for kind in kinds)] for name in names]


def _columns(rng: Generator, text: TextSource, names: Sequence[str]) -> list[str]:
    """Headings as they are, or words of the text, all different."""
    found = [name if rng.random() < 0.6 else text.words(rng, 1, 2) for name in names]
    return found if len({name.lower() for name in found}) == len(found) else [*names]


def _items(rng: Generator, text: TextSource, *, least: int, most: int) -> Block:
    kinds = (values.number, values.amount, values.amount)
    columns = _columns(rng, text, ("Item", "Quantity", "Price", "Amount"))
    return table(rng, text, columns=columns, rows=_named_rows(rng, text, int(rng.integers(least, most)), kinds))


def invoice(rng: Generator, text: TextSource) -> list[Block]:
    """Letterhead, data, items, sums, a word of thanks."""
    top = ("number", "date", "due", "customer", "reference", "address", "seller")
    sums = pairs(rng, form_pairs(rng, text, ("tax", "total"))[:2])
    head = title(one_of(rng, ("Invoice", "INVOICE", "Rechnung", "Facture", text.company(rng))), rng)
    head = replace(head, shows=("seller",))
    return [
        head,
        _fields(rng, text, top, most=6),
        _items(rng, text, least=2, most=8),
        sums,
        prose(rng, text, paragraphs=1),
    ]


def receipt(rng: Generator, text: TextSource) -> list[Block]:
    """A narrow strip."""
    rows = [(text.words(rng, 1, 2), values.amount(rng, text), ()) for _ in range(int(rng.integers(2, 8)))]
    sums = pairs(rng, form_pairs(rng, text, ("total",))[:2])
    return [
        replace(title(text.company(rng), rng), shows=("seller",)),
        pairs(rng, rows),
        sums,
        _fields(rng, text, ("date", "time", "reference"), most=3),
    ]


def form(rng: Generator, text: TextSource) -> list[Block]:
    """Fields in two or three groups."""
    groups = [
        block
        for _ in range(int(rng.integers(1, 4)))
        for block in (heading(rng, text), _fields(rng, text, [*FIELDS], most=7))
    ]
    return [title(text.words(rng, 1, 6), rng), *groups]


def statement(rng: Generator, text: TextSource) -> list[Block]:
    """An account: data, then a long table of dates and amounts."""
    kinds = (values.date, values.amount, values.amount)
    columns = _columns(rng, text, ("Description", "Date", "Debit", "Balance"))
    body = table(rng, text, columns=columns, rows=_named_rows(rng, text, int(rng.integers(4, 18)), kinds))
    return [title(text.words(rng, 1, 4), rng), _fields(rng, text, ("iban", "customer", "date", "total"), most=4), body]


def timetable(rng: Generator, text: TextSource) -> list[Block]:
    """Places and times."""
    kinds = [values.time] * int(rng.integers(2, 6))
    columns = ["Stop", *(text.words(rng, 1, 2) for _ in kinds)]
    columns = (
        columns if len({name.lower() for name in columns}) == len(columns) else [f"{n}" for n in range(len(columns))]
    )
    rows = _named_rows(rng, text, int(rng.integers(4, 14)), kinds)
    return [
        title(text.words(rng, 1, 4), rng),
        table(rng, text, columns=columns, rows=rows),
        prose(rng, text, paragraphs=1),
    ]


def certificate(rng: Generator, text: TextSource) -> list[Block]:
    """A few lines, large and in the middle."""
    lines = [text.words(rng, 2, 7) for _ in range(int(rng.integers(1, 4)))]
    middle = "".join(f"#align(center, text(size: 1.3em, {literal(line)}))\n\n" for line in lines)
    return [
        title(text.words(rng, 1, 5), rng),
        Block(source=middle),
        _fields(rng, text, ("date", "place", "customer"), most=3),
    ]


def menu(rng: Generator, text: TextSource) -> list[Block]:
    """Dishes and prices under headings."""
    groups = []
    for _ in range(int(rng.integers(1, 4))):
        dishes = [(text.words(rng, 1, 5), values.amount(rng, text), ()) for _ in range(int(rng.integers(3, 7)))]
        groups += [heading(rng, text), pairs(rng, dishes)]
    return [title(text.words(rng, 1, 4), rng), *groups]


def letter(rng: Generator, text: TextSource) -> list[Block]:
    """Addresses, a subject, paragraphs, a name."""
    sender = f"#{literal(text.company(rng))} \\\n#{literal(text.address(rng))}\n\n"
    foot = f"#v(1em)\n#{literal(text.name(rng))}\n\n"
    top = _fields(rng, text, ("date", "reference", "phone", "email"), most=3)
    return [
        Block(source=sender, shows=("seller", "address")),
        top,
        title(text.words(rng, 2, 6), rng),
        prose(rng, text, paragraphs=3),
        Block(source=foot),
    ]


def article(rng: Generator, text: TextSource) -> list[Block]:
    """Title, sections, columns, lists, a table."""
    columns = int(rng.choice((1, 1, 2, 3)))
    parts = [title(text.words(rng, 2, 7), rng)]
    for _ in range(int(rng.integers(1, 4))):
        parts += [heading(rng, text), prose(rng, text, paragraphs=int(rng.integers(1, 4)), columns=columns)]
        parts += [bullets(rng, text)] if rng.random() < 0.3 else []
        parts += [_items(rng, text, least=2, most=5)] if rng.random() < 0.2 else []
    return parts


def label(rng: Generator, text: TextSource) -> list[Block]:
    """A few large fields: a tag, a badge, a sign."""
    size = float(rng.uniform(1.3, 3.0))
    inner = _fields(rng, text, [*FIELDS], most=3)
    return [ornament(rng, text), Block(source=f"#text(size: {size:.2f}em)[\n{inner.source}\n]\n", known=inner.known)]


def screen(rng: Generator, text: TextSource) -> list[Block]:
    """Panels side by side, as programs show them."""
    count, panels, known = int(rng.integers(2, 5)), [], []
    for _ in range(count):
        inner = pairs(rng, form_pairs(rng, text)[:4])
        panels.append(
            f"block(stroke: 0.5pt + gray, inset: 6pt, width: 100%)[\n{heading(rng, text).source}{inner.source}]"
        )
        known += inner.known
    source = f"#grid(columns: (1fr,) * {int(rng.integers(1, 4))}, gutter: 6pt, {', '.join(panels)})\n\n"
    return [title(text.words(rng, 1, 4), rng), Block(source=source, known=tuple(known))]


KINDS: dict[str, Callable[[Generator, TextSource], list[Block]]] = {
    maker.__name__: maker
    for maker in (invoice, receipt, form, statement, timetable, certificate, menu, letter, article, label, screen)
}
"""Kind -> what composes its blocks."""

__all__ = ["KINDS", "TypstDocument", "compose_document"]
