"""Random contents of pages: keys, values, prices, words. Every function takes the page's own generator."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable
from functools import lru_cache
from itertools import accumulate

from numpy.random import Generator

from ixc.synth import lexicon

CODE = "ABCDEFGHJKLMNPQRSTUVWXYZ0123456789"  # without I and O, which look like 1 and 0
CAPITALS = "ABCDEFGHJKLMNPQRSTUVWXYZ"
DIGITS = "0123456789"


def pick(rng: Generator, words: tuple[str, ...] | str) -> str:
    """Draw one entry, all equally likely."""
    return words[int(rng.integers(len(words)))]


def random_colour(rng: Generator, low: int, high: int) -> tuple[int, int, int]:
    """Draw a colour whose channels are `low` to `high` - 1."""
    red, green, blue = (int(v) for v in rng.integers(low, high, size=3))
    return red, green, blue


def letters(rng: Generator, alphabet: str, low: int, high: int) -> str:
    """Draw a string of `low` to `high` characters of an alphabet."""
    return "".join(alphabet[i] for i in rng.integers(len(alphabet), size=int(rng.integers(low, high + 1))))


def code(rng: Generator) -> str:
    """Draw a reference such as `KT4098`, `A-512` or `77X2`."""
    r = rng.random()
    if r < 0.4:
        return letters(rng, CODE, 3, 7)
    if r < 0.7:
        return letters(rng, CAPITALS, 1, 3) + pick(rng, ("-", "", "/")) + letters(rng, DIGITS, 2, 5)
    return letters(rng, DIGITS, 2, 8)


def price(rng: Generator) -> str:
    """Draw an amount of money with two decimals and no currency: `4.50`, `204.00`."""
    amount = float(10 ** rng.uniform(0, 3))
    return f"{amount:,.2f}"


def money(rng: Generator) -> str:
    """Draw an amount of money with or without a currency sign."""
    return pick(rng, ("$", "$", "EUR ", "")) + price(rng)


def date(rng: Generator) -> str:
    """Draw a date in one of three formats."""
    year, month, day = int(rng.integers(1990, 2035)), int(rng.integers(1, 13)), int(rng.integers(1, 29))
    r = rng.random()
    if r < 0.4:
        return f"{year}-{month:02d}-{day:02d}"
    if r < 0.7:
        return f"{day:02d}.{month:02d}.{year}"
    return f"{day} {pick(rng, lexicon.MONTHS)[:3]} {year}"


def number(rng: Generator) -> str:
    """Draw a count, a percentage or a measure."""
    n = str(int(10 ** rng.uniform(0, 4)))
    return n + pick(rng, ("", "", "", "%", " kg", " km", " pcs"))


def phone(rng: Generator) -> str:
    """Draw a short telephone number."""
    return letters(rng, DIGITS, 3, 3) + "-" + letters(rng, DIGITS, 4, 4)


def name(rng: Generator) -> str:
    """Draw a person's name."""
    r = rng.random()
    if r < 0.3:
        return pick(rng, lexicon.LAST_NAMES)
    first = pick(rng, lexicon.FIRST_NAMES)
    return first if r < 0.5 else f"{first} {pick(rng, lexicon.LAST_NAMES)}"


def word(rng: Generator) -> str:
    """Draw a common word in lower case, capitalised or in capitals."""
    w, r = pick(rng, lexicon.NOUNS), rng.random()
    return w if r < 0.35 else w.capitalize() if r < 0.85 else w.upper()


def scramble(rng: Generator) -> str:
    """Draw arbitrary printable characters, which no language model can guess."""
    return "".join(chr(33 + i) for i in rng.integers(94, size=int(rng.integers(2, 7))))


VALUES: dict[str, tuple[float, Callable[[Generator], str]]] = {
    "code": (0.2, code),
    "money": (0.14, money),
    "date": (0.14, date),
    "number": (0.1, number),
    "phone": (0.06, phone),
    "name": (0.14, name),
    "city": (0.08, lambda rng: pick(rng, lexicon.CITIES)),
    "word": (0.1, word),
}
LONGEST = 11
"""Most characters of a value."""
_NAMES = tuple(VALUES)


@lru_cache(maxsize=64)
def _edges(names: tuple[str, ...]) -> list[float]:
    return list(accumulate(VALUES[name][0] for name in names))


def value(rng: Generator, names: tuple[str, ...] = _NAMES, *, longest: int = LONGEST) -> str:
    """Draw a value of one of the named kinds, at most `longest` characters."""
    edges = _edges(names)
    while True:
        drawn = VALUES[names[bisect_left(edges, rng.random() * edges[-1])]][1](rng)
        if len(drawn) <= longest:
            return drawn


def key(rng: Generator) -> str:
    """Draw a key of a form: mostly a usual one, else one or two capitalised words."""
    r = rng.random()
    if r < 0.6:
        return pick(rng, lexicon.FIELD_KEYS)
    w = pick(rng, lexicon.NOUNS).capitalize()
    return w if r < 0.8 else f"{w} {pick(rng, ('No', 'Code', 'Date', 'Name', 'Type', 'Size', 'Fee', 'ID'))}"


def item(rng: Generator) -> str:
    """Draw an item of a receipt or a table."""
    return pick(rng, lexicon.ITEMS) if rng.random() < 0.75 else pick(rng, lexicon.NOUNS).capitalize()


def distinct(rng: Generator, draw: Callable[[Generator], str], count: int, *, fits: Callable[[str], bool]) -> list[str]:
    """Draw at most `count` strings of which none contains another, so that a question refers to one of them.

    A string that does not fit or would be ambiguous is drawn again; there are at most 8 * `count` draws.
    """
    found: list[str] = []
    for _ in range(8 * count):
        if len(found) == count:
            break
        new = draw(rng)
        low = new.lower()
        if fits(new) and not any(low in old.lower() or old.lower() in low for old in found):
            found.append(new)
    return found
