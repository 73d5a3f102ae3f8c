"""Boarding passes, with each value *below* its key: a kind of page that the embedded model has never seen.

On basic pages every value is to the right of its key, and a model that learned this answers with the next key here.
Only the fine-tuning example draws these pages; they are not part of `KINDS`, so that training from nothing is
unchanged.
"""

from __future__ import annotations

from collections.abc import Callable

from numpy.random import Generator

from ixc.synth import lexicon, values
from ixc.synth.layouts.basic import PageBuilder

GAP = 0.3
"""Space between two pairs, in pitches: less than a line, so that only the order distinguishes key from value."""

NARROWEST = 4.4
"""Smallest width of a pair, in ems."""

FIELDS: dict[str, Callable[[Generator], str]] = {
    "Gate": lambda rng: values.pick(rng, "ABCDEF") + values.letters(rng, values.DIGITS, 1, 2),
    "Seat": lambda rng: values.letters(rng, "123456789", 1, 2) + values.pick(rng, "ABCDEF"),
    "Flight": lambda rng: values.letters(rng, values.CAPITALS, 2, 2) + values.letters(rng, values.DIGITS, 3, 4),
    "Date": lambda rng: f"{rng.integers(1, 29)} {values.pick(rng, lexicon.MONTHS)[:3]}",
    "Boarding": lambda rng: f"{rng.integers(0, 24):02d}:{5 * rng.integers(0, 12):02d}",
    "Class": lambda rng: values.pick(rng, "FJWY") + values.letters(rng, values.DIGITS, 0, 1),
    "Zone": lambda rng: values.letters(rng, values.DIGITS, 1, 2),
    "Bags": lambda rng: f"{rng.integers(0, 4)} x {rng.integers(8, 33)} kg",
    "Name": lambda rng: values.pick(rng, lexicon.LAST_NAMES),
    "From": lambda rng: values.pick(rng, lexicon.CITIES),
    "To": lambda rng: values.pick(rng, lexicon.CITIES),
    "Ticket": lambda rng: values.letters(rng, values.DIGITS, 5, 8),
    "Record": lambda rng: values.letters(rng, values.CODE, 5, 6),
    "Terminal": lambda rng: values.pick(rng, "12345"),
}
"""Generator of the value by key."""


def boarding_pass(builder: PageBuilder) -> None:
    """Fill a boarding pass: columns of pairs, a value below its key."""
    style, page = builder.style, builder.page
    wide, high = page.width - 2 * style.margin, (2 + GAP) * style.pitch
    across = max(1, int(wide // (NARROWEST * style.size)))
    down = max(1, int((page.height - style.margin + GAP * style.pitch) // high))
    keys = builder.rng.permutation(list(FIELDS)).tolist()
    for row in range(down):
        for column in range(across):
            x, y = style.margin + column * wide / across, style.margin + style.size + round(row * high)
            _pair(builder, keys, x, y, wide / across - 0.5 * style.size)


def _pair(builder: PageBuilder, keys: list[str], x: float, y: int, space: float) -> None:
    """Add the first key that fits together with its value, and remove it from the list."""
    for key in keys:
        value = FIELDS[key](builder.rng)
        if max(builder.width_of(key), builder.width_of(value)) <= space:
            keys.remove(key)
            builder.put(key, x, y)
            builder.put(value, x, y + builder.style.pitch, bold=bool(builder.rng.random() < 0.5))
            builder.ask("field", f"What is the {key}?", value)
            return
