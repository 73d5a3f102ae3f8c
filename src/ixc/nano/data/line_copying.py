"""Line copying: the first letters of a word on a page are given, and the model continues to the end of its line.

Of a question some thirty tokens ask and a few train copying; of these tasks almost every token does.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from numpy.random import Generator

from ixc.nano.data.question_packing import Form, choose, encode
from ixc.synth.page import DrawnPage, PageQuestion

LINE_COPYING = "line_copying"
"""Kind of the copying tasks: `question` is the given beginning, `answer` what follows it on the page."""
GIVEN = (3, 5)
"""Fewest and most given letters; they occur once on the page."""
LONGEST = 24
"""Most letters, given and copied together: of a longer line only the end is used."""
ATTEMPTS = 12
"""Draws for each task."""


def copying_tasks(rng: Generator, page: DrawnPage, count: int) -> list[PageQuestion]:
    """Draw at most `count` beginnings of words, each with the rest of its line."""
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
        found.append(PageQuestion(kind=LINE_COPYING, question=first, answer=rest))
        if len(found) == count:
            break
    return found


def questions_or_copying(
    rng: Generator,
    pages: Sequence[DrawnPage],
    count: int,
    *,
    copying: bool,
    known: Sequence[Mapping[str, float] | None],
    extra: bool = False,
) -> tuple[list[list[PageQuestion]], Form]:
    """Choose the questions or copying tasks of pages, and the form in which they are packed.

    Args:
        rng: random generator.
        pages: pages of one replica of a step.
        count: questions of each page; of copying tasks at most as many, the same number of each page.
        copying: use copying tasks instead of questions.
        known: for each page, as in `question_packing.choose`.
        extra: ask the pages' extra questions too.
    """
    if copying:
        found = [copying_tasks(rng, page, count) for page in pages]
        if fewest := min(map(len, found)):
            return [mine[:fewest] for mine in found], "direct"
    more = [p.extra_questions if extra else [] for p in pages]
    asked = [choose(rng, p.questions + m, count, known=k) for p, m, k in zip(pages, more, known, strict=True)]
    return asked, "turn"


def first_copied_letter(page: DrawnPage, question: PageQuestion) -> int:
    """Index among the page's characters of the first one that is given."""
    before = 0
    for text in page.texts:
        if (at := text.string.find(question.question)) >= 0:
            return before + at
        before += len(text.string)
    raise ValueError(f"{question.question!r} is not on the page")
