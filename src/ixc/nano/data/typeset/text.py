"""Words and sentences of typeset pages, from any lines of text, so that no list of nouns bounds what is read.

lines --TextSource--> words as they stand, words by letter triples (none that exists), sentences, names
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable

import numpy as np
from numpy.random import Generator

from ixc.nano.data.alphabet import OTHER, classes_of
from ixc.synth import lexicon

WORD = re.compile(r"[^\W\d_]{2,18}")
BUILTIN: tuple[str, ...] = tuple(
    word
    for words in (lexicon.FIELD_KEYS, lexicon.ITEMS, lexicon.NOUNS, lexicon.TITLES, lexicon.CITIES)
    for word in words
)
"""Text where no lines are given."""
INVENTED = 0.35
"""Share of words made of letter triples."""
MOST_LINES = 20_000
"""Lines kept of a source."""


class TextSource:
    """Draws words, sentences and names; every function takes the page's own generator."""

    def __init__(self, lines: Iterable[str] = ()) -> None:
        """
        Args:
            lines: running text in any languages; characters outside of the alphabet are left out with their line.
        """
        kept = [line for line in lines if _in_alphabet(line)][:MOST_LINES] or [*BUILTIN]
        self.lines = [line for line in kept if line.count(" ") >= 4] or kept
        self.known = sorted({word for line in kept for word in WORD.findall(line)}) or [*BUILTIN]
        self.following: dict[str, list[str]] = defaultdict(list)
        for word in self.known:
            marked = f"^^{word.lower()}$"
            for i in range(len(marked) - 2):
                self.following[marked[i : i + 2]].append(marked[i + 2])

    def word(self, rng: Generator) -> str:
        """A word of the lines, or one that no list holds."""
        if rng.random() < INVENTED:
            return self.invented(rng)
        return self.known[int(rng.integers(len(self.known)))]

    def invented(self, rng: Generator) -> str:
        """A word of two to twelve letters, each drawn by the two before it."""
        while True:
            made = "^^"
            while not made.endswith("$") and len(made) < 14:
                options = self.following[made[-2:]]
                made += options[int(rng.integers(len(options)))]
            found = made[2:].rstrip("$")
            if len(found) >= 2:
                return found

    def words(self, rng: Generator, least: int, most: int) -> str:
        """So many words, in small letters but for a first capital half of the time."""
        found = " ".join(self.word(rng) for _ in range(int(rng.integers(least, most + 1))))
        r = rng.random()
        return found[:1].upper() + found[1:] if r < 0.6 else found.title() if r < 0.8 else found

    def sentence(self, rng: Generator) -> str:
        """A line as it stands, or words with a full stop."""
        if rng.random() < 0.8:
            return self.lines[int(rng.integers(len(self.lines)))]
        return self.words(rng, 5, 14) + "."

    def paragraph(self, rng: Generator, least: int = 2, most: int = 6) -> str:
        """So many sentences."""
        return " ".join(self.sentence(rng) for _ in range(int(rng.integers(least, most + 1))))

    def name(self, rng: Generator) -> str:
        """A person: first and last name, with a middle initial or a title by chance."""
        first, last = (self._capital(rng) for _ in range(2))
        if rng.random() < 0.5:
            first = lexicon.FIRST_NAMES[int(rng.integers(len(lexicon.FIRST_NAMES)))]
        r = rng.random()
        middle = f" {chr(65 + int(rng.integers(26)))}." if r < 0.15 else ""
        return ("Dr. " if r > 0.93 else "") + f"{first}{middle} {last}"

    def company(self, rng: Generator) -> str:
        """A firm."""
        forms = ("Ltd", "GmbH", "Inc.", "S.A.", "AG", "LLC", "& Co.", "S.p.A.", "B.V.", "Group", "Services", "")
        names = " ".join(self._capital(rng) for _ in range(int(rng.integers(1, 3))))
        return f"{names} {forms[int(rng.integers(len(forms)))]}".strip()

    def place(self, rng: Generator) -> str:
        """A town."""
        if rng.random() < 0.3:
            return lexicon.CITIES[int(rng.integers(len(lexicon.CITIES)))]
        return self._capital(rng)

    def address(self, rng: Generator) -> str:
        """Street and number, postcode and town."""
        streets = ("Street", "Road", "Avenue", "Lane", "Platz", "straße", "Way", "Court")
        street = f"{self._capital(rng)} {streets[int(rng.integers(len(streets)))]}"
        number, code = int(rng.integers(1, 300)), int(rng.integers(1000, 99_999))
        first = f"{number} {street}" if rng.random() < 0.5 else f"{street} {number}"
        return f"{first}, {code} {self.place(rng)}"

    def _capital(self, rng: Generator) -> str:
        word = self.word(rng)
        return word[:1].upper() + word[1:]


def _in_alphabet(line: str) -> bool:
    if not line.strip():
        return False
    codes = np.array([ord(letter) for letter in line if not letter.isspace()], np.int64)
    return bool((classes_of(codes) != OTHER).all())


__all__ = ["TextSource"]
