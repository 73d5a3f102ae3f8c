"""Reading aloud: the first letters of something on a page are given, the model goes on to the end of its line.

Of an asked question a handful of letters teach how to copy, behind thirty that only ask; here almost every token does.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from numpy.random import Generator

from ixc.nano.data.question_packing import Form, choose, encode
from ixc.synth.page import DrawnPage, PageQuestion

ALOUD = "aloud"
"""Kind of what is read so: `question` is what is given, `answer` what follows it on the page."""
GIVEN = (3, 5)
"""Fewest and most letters that are given; they stand nowhere else on the page."""
LONGEST = 24
"""Letters given and read, at most: the end of a longer line."""
ATTEMPTS = 12
"""Draws for each one that is wanted."""


def aloud(rng: Generator, page: DrawnPage, count: int) -> list[PageQuestion]:
    """At most `count` beginnings of words, each with what follows it to the end of its line."""
    whole = "\n".join(text.string for text in page.texts)
    found: list[PageQuestion] = []
    for _ in range(ATTEMPTS * count if whole else 0):
        line = page.texts[int(rng.integers(len(page.texts)))].string
        words = [match.start() for match in re.finditer(r"\S+", line) if match.start() >= len(line) - LONGEST]
        given = int(rng.integers(GIVEN[0], GIVEN[1] + 1))
        if not words:
            continue
        read = line[words[int(rng.integers(len(words)))] :]
        first, rest = read[:given], read[given:]
        if not rest or first.endswith(" ") or whole.count(first) != 1:
            continue
        if len(encode(first)) != len(first) or len(encode(rest)) != len(rest):
            continue  # some words are one token
        found.append(PageQuestion(kind=ALOUD, question=first, answer=rest))
        if len(found) == count:
            break
    return found


def asked_or_read(
    rng: Generator,
    pages: Sequence[DrawnPage],
    count: int,
    *,
    read: bool,
    known: Sequence[Mapping[str, float] | None],
    drilled: bool = False,
) -> tuple[list[list[PageQuestion]], Form]:
    """What one part of a step does with its pages, and how that is packed.

    Args:
        count: questions for each page; where it is read aloud, as many beginnings at most, the same for each.
        known: of each page, as in `packing.choose`.
        drilled: the pages' drills are asked too.
    """
    if read:
        found = [aloud(rng, page, count) for page in pages]
        if fewest := min(map(len, found)):
            return [mine[:fewest] for mine in found], "direct"
    more = [p.drills if drilled else [] for p in pages]
    asked = [choose(rng, p.questions + m, count, known=k) for p, m, k in zip(pages, more, known, strict=True)]
    return asked, "turn"


def letter_read(page: DrawnPage, question: PageQuestion) -> int:
    """Number of the character of the page that is given first."""
    before = 0
    for text in page.texts:
        if (at := text.string.find(question.question)) >= 0:
            return before + at
        before += len(text.string)
    raise ValueError(f"{question.question!r} does not stand on the page")
