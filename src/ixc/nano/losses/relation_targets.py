"""Relation targets: which earlier image tokens the later one of a related pair should attend to.

    page -> relations_of -> for each image token of a value the tokens of its key, of a cell those of row and column key

The pairs are those of the page's own questions and answers (`What is the Total?`, `12.50`), and every word of a section
with its heading. A head that attends from value to key makes the key available at the value, so that a question finds a
value by its key. All pairs of a page are used, not only those of the sampled questions.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import numpy as np

from ixc.nano.losses.attention_supervision import copied, found, seen_letters, spread
from ixc.synth.page import SPACE, DrawnPage, PageQuestion, codes

Relation = Literal["row_key", "column_header", "key_start"]
"""Both on one line of text; one below the other; of either kind, only to the first token of the earlier part."""
Relations = dict[int, set[int]]
"""Earlier image tokens by later image token."""
PARTS = ("section", "panel")
"""Kinds of question that name a word and ask for the heading of its section."""
MOST = 100
"""Most questions of a page whose pairs are used; of more, an even selection from start to end."""
LETTERS = 4
"""First letters of a name that the probes predict."""
SAME_LINE = 0.6
"""Baselines closer than this share of the font size are one line."""
ASKING = frozenset(
    (
        *("What", "Which", "Who", "How", "When", "Where", "is", "are", "the", "of", "in", "for", "after", "comes"),
        *("much", "many", "there", "letter", "signed", "section", "panel", "mentions", "first", "last", "word"),
        *("line", "value", "number", "share", "title"),
    )
)
"""Words of question templates, which never name a key."""


def relations_of(page: DrawnPage, *, hd: int) -> dict[Relation, Relations]:
    """Tokens of the earlier part of a pair by image token of the later part, at a setting.

    Tiles and overview are related separately; pairs of which a part occurs twice on the page are left out.
    """
    relations: dict[Relation, Relations] = {"row_key": {}, "column_header": {}, "key_start": {}}
    for relation, late, early, _ in _pairs(page, hd=hd):
        for token in late:
            if before := {t for t in early if t <= token}:
                relations[relation].setdefault(token, set()).update(before)
                relations["key_start"].setdefault(token, set()).add(early[0])
    return relations


def begins_of(page: DrawnPage, *, hd: int) -> tuple[dict[int, list[int]], dict[int, list[int]]]:
    """First letters (`letters_of`) of the earlier part by token of the later one.

    Returns:
        Letters of the key, for a cell those of its row; letters of the column header of cells.
    """
    begins: dict[Relation, dict[int, list[int]]] = {"row_key": {}, "column_header": {}}
    for relation, late, _, text in _pairs(page, hd=hd):
        begins[relation] |= dict.fromkeys(late, letters_of(text))
    both = begins["row_key"].keys() & begins["column_header"].keys()
    return begins["column_header"] | begins["row_key"], {
        token: begins["column_header"][token] for token in sorted(both)
    }


def letters_of(text: str) -> list[int]:
    """Codes of the first `LETTERS` letters of a text, 0 where it is shorter."""
    begin = [int(c) or SPACE for c in codes(text[:LETTERS])]
    return begin + [0] * (LETTERS - len(begin))


def _pairs(page: DrawnPage, *, hd: int) -> Iterator[tuple[Relation, list[int], list[int], str]]:
    """Yield for each pair: relation, tokens of the later part, tokens of the earlier part, text of the earlier part."""
    tokens = seen_letters(page, hd=hd)
    lines = np.concatenate([np.tile([[t.y], [t.size]], len(t.string)) for t in page.texts] or [np.zeros((2, 0))], 1)
    whole = "".join(text.string for text in page.texts)
    for question in _some(page.questions + [extra for extra in page.extra_questions if extra.kind in PARTS]):
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
                    yield "row_key" if one_line else "column_header", late, early, text


def _some(questions: list[PageQuestion]) -> list[PageQuestion]:
    if len(questions) <= MOST:
        return questions
    return [questions[i] for i in np.linspace(0, len(questions) - 1, MOST).astype(int)]


def keys_of(page: DrawnPage, question: PageQuestion) -> list[slice]:
    """Find the words that a question names, as slices of the page's characters; only words that occur once."""
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
