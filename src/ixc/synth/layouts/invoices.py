"""Invoices: keys and values at the top, then items with quantity and price, then the sum. Resembles DocVQA (paper)."""

from __future__ import annotations

from ixc.synth import values
from ixc.synth.layouts.basic import PageBuilder, rows_left

HEADS = ("Qty", "Price")
KEYS = ("Invoice No", "Order No", "Customer", "Due Date", "Account", "Payment", "Currency", "Branch")


def invoice(builder: PageBuilder) -> None:
    """Fill an invoice: keys and values, a table, `Total`."""
    rng, style, page = builder.rng, builder.style, builder.page
    lines = rows_left(builder)
    space = page.width - 2 * style.margin
    name_width = space - 8.2 * style.size
    if len(lines) < 5 or name_width < 3 * style.size:
        return
    top = min(len(lines) - 4, int(rng.integers(2, 7)))
    for key, y in zip(rng.permutation(KEYS).tolist(), lines[:top], strict=False):
        value = values.value(rng)
        if builder.width_of(f"{key}: {value}") <= space:
            builder.put(f"{key}:", style.margin, y)
            builder.put(value, style.margin + builder.width_of(f"{key}: "), y)
            builder.ask("value", f"What is the {key}?", value)
    columns = [style.margin + name_width, style.margin + name_width + 3 * style.size]
    for head, x in zip(HEADS, columns, strict=True):
        builder.put(head, x, lines[top], bold=True)
    below = lines[top] + style.size // 3
    page.rules.append((style.margin, below, page.width - style.margin, below))
    things = values.distinct(
        rng, values.item, len(lines) - top - 2, fits=lambda k: builder.width_of(k) <= name_width - style.size
    )
    total = 0
    for thing, y in zip(things, lines[top + 1 :], strict=False):
        count, cents = int(rng.integers(1, 30)), int(10 ** rng.uniform(2, 4))
        total += cents
        builder.put(thing, style.margin, y)
        for head, x, value in zip(HEADS, columns, (str(count), f"{cents / 100:.2f}"), strict=True):
            builder.put(value, x, y)
            builder.ask("cell", f"What is the {head} of {thing}?", value)
    if things:
        y, amount = lines[top + 1 + len(things)], f"{total / 100:,.2f}"
        builder.put("Total", style.margin, y, bold=True)
        builder.put(amount, columns[1], y, bold=True)
        builder.ask("price", "What is the Total?", amount)
        builder.count("item", things)
