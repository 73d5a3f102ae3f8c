"""A kind of page that the embedded model has never seen: boarding passes, each value *below* its key.

The family of `kinds.py` has every value to the right of its key; who learned that reads the next key for an answer
here. Only fine-tuning draws these pages (README): they are no part of `KINDS`, so that training from nothing stays as
it was.
"""

from __future__ import annotations

from collections.abc import Callable

from numpy.random import Generator

from ixc.synth import lexicon, values
from ixc.synth.layouts.basic import PageBuilder

GAP = 0.3
"""Blank between two pairs, in pitches: less than a line, so that nothing but the order tells key from value."""

NARROWEST = 4.4
"""Least width of a pair, in ems."""

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
"""Key -> its value."""


def boarding_pass(sheet: PageBuilder) -> None:
    """Columns of pairs, a key and its value below it."""
    style, page = sheet.style, sheet.page
    wide, high = page.width - 2 * style.margin, (2 + GAP) * style.pitch
    across = max(1, int(wide // (NARROWEST * style.size)))
    down = max(1, int((page.height - style.margin + GAP * style.pitch) // high))
    keys = sheet.rng.permutation(list(FIELDS)).tolist()
    for row in range(down):
        for column in range(across):
            x, y = style.margin + column * wide / across, style.margin + style.size + round(row * high)
            _pair(sheet, keys, x, y, wide / across - 0.5 * style.size)


def _pair(sheet: PageBuilder, keys: list[str], x: float, y: int, room: float) -> None:
    """The first of the keys that is narrow enough, with a value that is; it leaves the list."""
    for key in keys:
        value = FIELDS[key](sheet.rng)
        if max(sheet.width_of(key), sheet.width_of(value)) <= room:
            keys.remove(key)
            sheet.put(key, x, y)
            sheet.put(value, x, y + sheet.style.pitch, bold=bool(sheet.rng.random() < 0.5))
            sheet.ask("field", f"What is the {key}?", value)
            return
