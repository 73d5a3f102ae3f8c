"""What belongs together on a page: which earlier image tokens a later one is read with.

    page --links--> of each image token of a value the tokens of its key, of each cell those of its row and its heading

The pairs are those of the page's own questions and answers: `What is the Total?`, `12.50`; and every word of a part
with its heading. Where the later one is read
the earlier one is known, so that a question finds a value by its key without a search around it. Every pair of a page
teaches, not only those that are asked.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import numpy as np

from ixc.nano.losses.attention_supervision import copied, found, seen_letters, spread
from ixc.synth.page import SPACE, DrawnPage, PageQuestion, codes

Link = Literal["beside", "above", "start"]
"""Both on one line of text; one below the other; of either sort, to the first token of the earlier part alone, which
says how it begins."""
Links = dict[int, set[int]]
"""Of image tokens the earlier ones that belong to them."""
PARTS = ("section", "panel")
"""Kinds of question that name a word and ask for the heading of the part it stands in."""
MOST = 100
"""Questions of a page whose pairs are told, at most; of more, evenly many from start to end."""
LETTERS = 4
"""That tell names apart."""
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


def links_of(page: DrawnPage, *, hd: int) -> dict[Link, Links]:
    """Of every image token, seen at a setting, that holds a later part of a pair: the tokens of the earlier part.

    The tiles and the overview each have their own; pairs of which a part stands twice on the page are left out.
    """
    links: dict[Link, Links] = {"beside": {}, "above": {}, "start": {}}
    for link, late, early, _ in _pairs(page, hd=hd):
        for token in late:
            if before := {t for t in early if t <= token}:
                links[link].setdefault(token, set()).update(before)
                links["start"].setdefault(token, set()).add(early[0])
    return links


def begins_of(page: DrawnPage, *, hd: int) -> tuple[dict[int, list[int]], dict[int, list[int]]]:
    """Of the same tokens how the earlier part begins (`letters_of`): of a cell, which has two, its row's name, and in
    the second answer its heading."""
    begins: dict[Link, dict[int, list[int]]] = {"beside": {}, "above": {}}
    for link, late, _, text in _pairs(page, hd=hd):
        begins[link] |= dict.fromkeys(late, letters_of(text))
    both = begins["beside"].keys() & begins["above"].keys()
    return begins["above"] | begins["beside"], {token: begins["above"][token] for token in sorted(both)}


def letters_of(text: str) -> list[int]:
    """Codes of its first `LETTERS` letters, 0 where it has no more."""
    begin = [int(c) or SPACE for c in codes(text[:LETTERS])]
    return begin + [0] * (LETTERS - len(begin))


def _pairs(page: DrawnPage, *, hd: int) -> Iterator[tuple[Link, list[int], list[int], str]]:
    """How two parts stand to each other, the tokens of the later, those of the earlier, what that says."""
    tokens = seen_letters(page, hd=hd)
    lines = np.concatenate([np.tile([[t.y], [t.size]], len(t.string)) for t in page.texts] or [np.zeros((2, 0))], 1)
    whole = "".join(text.string for text in page.texts)
    for question in _some(page.questions + [drill for drill in page.drills if drill.kind in PARTS]):
        at = copied(page, question)
        if len(at) != 1:
            continue
        for key in keys_of(page, question):
            one_line = abs(lines[0, key.start] - lines[0, at[0]]) < SAME_LINE * lines[1, key.start]
            for view in tokens[:, None]:
                named = spread(view, [key.start], key.stop - key.start), whole[key]
                value = spread(view, at, len(question.answer)), question.answer
                (early, text), (late, _) = sorted([named, value], key=lambda part: part[0][:1])
                if early and late:
                    yield "beside" if one_line else "above", late, early, text


def _some(questions: list[PageQuestion]) -> list[PageQuestion]:
    if len(questions) <= MOST:
        return questions
    return [questions[i] for i in np.linspace(0, len(questions) - 1, MOST).astype(int)]


def keys_of(page: DrawnPage, question: PageQuestion) -> list[slice]:
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
