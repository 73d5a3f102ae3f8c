"""Where to look: heads of the reader are told which image tokens an answer needs, letter by letter.

    page, question --places--> image tokens for each letter of the answer --gaze.py--> - log of what a head gives them

`answer`: the token that holds the next letter, for answers that are copied from the page. `asked`: the word that the
question names, for those that say where it stands, in which part or whether it is there; for `no` the first token of
all; for a count the last that is counted. `owner`: for those that ask whose an amount is, the amount or the name,
whichever ends later and so knows the other (`links.py`). `weighed`: behind each of two names that are compared, the
same. `named`: behind the third letter and every further one of a word of the question that stands on the page, and of
the answer, the token that holds that letter: a finger on the page.

Shapes: B pages, Q questions of T tokens, P tokens before the questions, N image tokens.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from ixc.core.tiling import Partition, partition
from ixc.nano.data.glyph_tokens import LEGIBLE, SIDE, TOKEN, seen_on
from ixc.nano.data.line_copying import ALOUD, letter_read
from ixc.nano.data.question_packing import encode, markup
from ixc.synth.page import DrawnPage, PageQuestion

NOT_COPIED = ("where", "count", "yes_no", "absent", "larger")
"""Kinds of question whose answer is no text of the page."""
ASKED = {
    "where": ("Where is ", "?"),
    "yes_no": ("Is ", " in the image?"),
    "section": ("Which section mentions ", "?"),
    "panel": ("Which panel mentions ", "?"),
}
"""Kinds of question that name a word to be found, and what stands around it."""
COMPARED, AMOUNTS = ("largest", "smallest", "whose"), ("bar", "point", "slice")
"""Kinds of question that ask whose an amount is, and those that ask for one."""
WEIGHED = re.compile(r"Is (.+) larger than (.+)\?")
"""Questions that compare two amounts by name."""
NOWHERE = -1
"""In the place of an image token: the first token of the sequence."""

Target = Literal["answer", "asked", "owner", "named", "weighed", "beside", "above", "start"]
"""What a head is told to look at; see the head of the file, and of `links.py` for the last three."""
Places = dict[int, list[int]]
"""Of tokens of a question and its answer, counted from the one that tells the answer's first, the image tokens to look
at."""
NAMED_FROM = 2
"""Letters of a word that may be read before it is known which one it is."""


@dataclass(frozen=True, kw_only=True)
class AttentionSupervision:
    """One head that is told where to look."""

    layer: int
    head: int
    weight: float
    """Of its loss beside the answers'."""
    at: Target = "answer"


def letter_tokens(page: DrawnPage, place: Partition) -> tuple[np.ndarray, np.ndarray]:
    """Of every character of a page the index of its image token, in the tiles (n,), in the overview (n,).

    -1 where it is too small to read there.
    """
    _, x, y, sizes = seen_on(page, place)
    columns, overview = SIDE * place.grid_w, SIDE * (SIDE + 1) + 1  # tokens: overview with newlines, separator
    local = _tokens(x, y, sizes, rows=SIDE * place.grid_h, columns=columns)
    wide, high = 1 / place.grid_w, 1 / place.grid_h
    view = _tokens(x * wide, y * high, sizes * min(wide, high), rows=SIDE, columns=SIDE)
    return np.where(local < 0, -1, local + overview), view


def _tokens(x: np.ndarray, y: np.ndarray, sizes: np.ndarray, *, rows: int, columns: int) -> np.ndarray:
    column, row = np.floor(x / TOKEN).astype(np.int64), np.floor(y / TOKEN).astype(np.int64)
    inside = (sizes >= LEGIBLE) & (column >= 0) & (row >= 0) & (column < columns) & (row < rows)
    return np.where(inside, row * (columns + 1) + column, -1)


def seen_letters(page: DrawnPage, *, hd: int) -> np.ndarray:
    """`letter_tokens` of a page seen at a setting: (2, n), the tiles' and the overview's."""
    return np.stack(letter_tokens(page, partition(page.width, page.height, hd=hd, rule="native")))


def places_of(
    page: DrawnPage, questions: Sequence[PageQuestion], *, hd: int, at: Target = "answer"
) -> list[Places | None]:
    """Of each question, for each token of it or of its answer the image tokens to look at; None: none are known.

    What is sought is sought as a whole word, wherever it stands on the page.
    """
    tokens = seen_letters(page, hd=hd)
    find = {"answer": _answer, "asked": _asked, "owner": _owner, "named": _named, "weighed": _weighed}[at]
    return [find(page, question, tokens) for question in questions]


def _answer(page: DrawnPage, question: PageQuestion, tokens: np.ndarray) -> Places | None:
    at = copied(page, question)
    return {k: _letter(tokens, at, k) for k in range(len(question.answer))} if at else None


def copied(page: DrawnPage, question: PageQuestion) -> list[int]:
    """Numbers of the characters at which the answer stands; none where it is no text of the page."""
    answer = question.answer
    if question.kind == ALOUD:
        return [letter_read(page, question) + len(question.question)]
    if question.kind in NOT_COPIED or len(encode(answer)) != len(answer):  # some words are one token
        return []
    return found(page, answer)


def _letter(tokens: np.ndarray, words: list[int], letter: int) -> list[int]:
    """Image tokens that hold one letter of words that begin at these characters."""
    return [int(t) for i in words for t in tokens[:, i + letter] if t >= 0]


def _asked(page: DrawnPage, question: PageQuestion, tokens: np.ndarray) -> Places | None:
    before, behind = ASKED.get(question.kind, ("", ""))
    text, count = question.question, len(encode(question.answer))
    if question.kind == "count":
        seen = _last(page, tokens)
        return {k: seen for k in range(count)} if seen else None
    if not before or not (text.startswith(before) and text.endswith(behind)):
        return None
    if question.answer == "no":
        return {k: [NOWHERE] for k in range(count)}
    word = text.removeprefix(before).removesuffix(behind)
    at = found(page, word)
    seen = spread(tokens[:1], at, len(word)) or spread(tokens, at, len(word))  # the overview's are elsewhere in the row
    return {k: seen for k in range(count)} if seen else None


def _owner(page: DrawnPage, question: PageQuestion, tokens: np.ndarray) -> Places | None:
    seen = _amount(page, question.answer, tokens) if question.kind in COMPARED else []
    return {k: seen for k in range(len(encode(question.answer)))} if seen else None


def _amount(page: DrawnPage, name: str, tokens: np.ndarray) -> list[int]:
    """Image tokens of the last figure of a name's amount or, where the name is read later, of its last letter; of tiles
    and overview both."""
    amount = next((q for q in page.questions if q.kind in AMOUNTS and whole_words(q.question, name)), None)
    if amount is None:
        return []
    last = len(amount.answer.removesuffix("%")) - 1
    ends = [at + last for at in copied(page, amount)], [at + len(name) - 1 for at in found(page, name)]
    return sorted(t for view in tokens[:, None] for t in max(spread(view, end, 1) for end in ends))


def _last(page: DrawnPage, tokens: np.ndarray) -> list[int]:
    """Image tokens of the last thing of those that are counted."""
    at = found(page, page.counted[-1]) if page.counted else []
    return spread(tokens, at, len(page.counted[-1])) if len(at) == 1 else []


def _weighed(page: DrawnPage, question: PageQuestion, tokens: np.ndarray) -> Places | None:
    if (names := WEIGHED.fullmatch(question.question)) is None:
        return None
    text = question.question
    told = len(encode(text)) + len(markup()[1]) - 1  # the token that tells the answer's first, from the question's
    places: Places = {}
    for group in (1, 2):
        seen, end = _amount(page, names[group], tokens), names.end(group)
        last = len(encode(text[:end])) - 1
        if seen and last + 1 + len(encode(text[end:])) == len(encode(text)):
            places |= {last - told: seen, last + 1 - told: seen}
    return places or None


def spread(tokens: np.ndarray, words: list[int], length: int) -> list[int]:
    """Image tokens that hold any letter of words that begin at these characters."""
    return sorted({int(t) for i in words for t in tokens[:, i : i + length].flat if t >= 0})


def _named(page: DrawnPage, question: PageQuestion, tokens: np.ndarray) -> Places | None:
    text, at = question.question, copied(page, question)
    given = len(text) if question.kind == ALOUD else 0
    letters = range(NAMED_FROM - given, len(question.answer)) if at else ()
    places = {k + 1: _letter(tokens, at, k) for k in letters}
    if given:
        return places or None
    told = len(encode(text)) + len(markup()[1]) - 1  # the token that tells the answer's first, from the question's
    for word in re.finditer(r"[A-Za-z0-9]{3,}", text):
        start, end = word.span()
        if len(encode(word[0])) != len(word[0]):
            continue  # the question's own words are one token each
        at, before = found(page, word[0]), len(encode(text[:start]))
        if at and before + len(word[0]) + len(encode(text[end:])) == len(encode(text)):
            places |= {before + k - told: _letter(tokens, at, k) for k in range(NAMED_FROM, len(word[0]))}
    return places or None


def found(page: DrawnPage, sought: str) -> list[int]:
    """Numbers of the characters at which it begins."""
    starts = np.cumsum([0, *(len(text.string) for text in page.texts)]).tolist()
    return [s + i for s, text in zip(starts, page.texts, strict=False) for i in whole_words(text.string, sought)]


def whole_words(string: str, sought: str) -> list[int]:
    """Where `sought` stands in a string with no letter or digit right beside it."""
    at, places = string.find(sought), []
    while at >= 0 and sought:
        beside = string[at - 1 : at] + string[at + len(sought) : at + len(sought) + 1]
        if not any(c.isalnum() for c in beside):
            places.append(at)
        at = string.find(sought, at + 1)
    return places
