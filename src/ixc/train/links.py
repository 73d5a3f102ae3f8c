"""What belongs together on a page: which earlier image tokens a later one is read with.

    page --links--> of each image token of a value the tokens of its key, of each cell those of its row and its heading

The pairs are those of the page's own questions and answers: `What is the Total?`, `12.50`. Where the later one is read
the earlier one is known, so that a question finds a value by its key without a search around it. Every pair of a page
teaches, not only those that are asked.
"""

from __future__ import annotations

from typing import Literal

import numpy as np

from ixc.data.synth.page import Page, Question
from ixc.train.pointing import copied, found, seen_letters, spread

Link = Literal["beside", "above"]
"""Both on one line of text, or one below the other."""
Links = dict[int, set[int]]
"""Of image tokens the earlier ones that belong to them."""
MOST = 80
"""Questions of a page whose pairs are told, at most; of more, evenly many from start to end."""
SAME_LINE = 0.6
"""Baselines nearer than this share of the font size are one line."""
ASKING = frozenset(
    (
        *("What", "Which", "Who", "How", "When", "Where", "is", "are", "the", "of", "in", "for", "after", "comes"),
        *("much", "many", "there", "letter", "signed", "section", "panel", "mentions", "first", "last", "word"),
        *("line", "value", "number", "share", "title"),
    )
)
"""Words that questions are made of, which never name a key."""


def links_of(page: Page, *, hd: int) -> dict[Link, Links]:
    """Of every image token, seen at a setting, that holds a later part of a pair: the tokens of the earlier part.

    The tiles and the overview each have their own; pairs of which a part stands twice on the page are left out.
    """
    tokens = seen_letters(page, hd=hd)
    lines = np.concatenate([np.tile([[t.y], [t.size]], len(t.string)) for t in page.texts] or [np.zeros((2, 0))], 1)
    links: dict[Link, Links] = {"beside": {}, "above": {}}
    for question in _some(page.questions):
        at = copied(page, question)
        if len(at) != 1:
            continue
        for key in keys_of(page, question):
            one_line = abs(lines[0, key.start] - lines[0, at[0]]) < SAME_LINE * lines[1, key.start]
            into = links["beside" if one_line else "above"]
            for view in tokens[:, None]:
                value = spread(view, at, len(question.answer))
                _link(into, value, spread(view, [key.start], key.stop - key.start))
    return links


def _some(questions: list[Question]) -> list[Question]:
    if len(questions) <= MOST:
        return questions
    return [questions[i] for i in np.linspace(0, len(questions) - 1, MOST).astype(int)]


def _link(into: Links, one: list[int], other: list[int]) -> None:
    """The later of two groups of tokens is linked to the earlier."""
    if not one or not other:
        return
    late, early = (one, other) if one[0] >= other[0] else (other, one)
    for token in late:
        if before := {t for t in early if t <= token}:
            into.setdefault(token, set()).update(before)


def keys_of(page: Page, question: Question) -> list[slice]:
    """Where the words stand that a question names, as characters of the page: those that stand there once."""
    words, keys, start = question.question.rstrip("?").split(" "), [], 0
    while start < len(words):
        stop = start + 1
        for end in range(len(words), start, -1) if words[start] not in ASKING else ():
            span = " ".join(words[start:end])
            if len(span) > 1 and len(at := found(page, span)) == 1:
                keys.append(slice(at[0], at[0] + len(span)))
                stop = end
                break
        start = stop
    return keys
