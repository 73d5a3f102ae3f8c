"""Attention supervision: targets, letter by letter, for heads of the language model among the image tokens.

    page, question -> places_of -> image tokens for each token of question and answer
                   -> attention_recorder.py -> negative log of a head's attention on them

Targets:
    answer_copy      the token that holds the next letter, for answers that are copied from the page
    queried_word     the word that the question names, if it asks for its position or part or whether it is there; for
                     the answer `no` the first token of the sequence; for a count the last of the counted things
    value_owner      for questions that ask whose a value is: the value or the name, whichever ends later and thus
                     attends to the other (`relation_targets.py`)
    compared_values  after each of two compared names, the same
    query_word_copy  after the third letter and every further one of a word of the question that is on the page, and of
                     the answer: the token that holds that letter

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
from ixc.nano.data.line_copying import LINE_COPYING, first_copied_letter
from ixc.nano.data.question_packing import encode, markup
from ixc.synth.page import DrawnPage, PageQuestion

NOT_COPIED = ("where", "count", "yes_no", "absent", "larger")
"""Kinds of question whose answer is not copied from the page."""
NAMED_WORD = {
    "where": ("Where is ", "?"),
    "yes_no": ("Is ", " in the image?"),
    "section": ("Which section mentions ", "?"),
    "panel": ("Which panel mentions ", "?"),
}
"""Kinds of question that name a word to find, with the text before and after it."""
COMPARED, AMOUNTS = ("largest", "smallest", "whose"), ("bar", "point", "slice")
"""Kinds of question that ask whose a value is, and those that ask for a value."""
COMPARISON = re.compile(r"Is (.+) larger than (.+)\?")
"""Questions that compare two values by name."""
NOWHERE = -1
"""Stands for the first token of the sequence instead of an image token."""

Target = Literal[
    "answer_copy",
    "queried_word",
    "value_owner",
    "query_word_copy",
    "compared_values",
    "row_key",
    "column_header",
    "key_start",
]
"""Targets of a head: see the top of this file, and of `relation_targets.py` for the last three."""
Places = dict[int, list[int]]
"""Target image tokens by token of question and answer, counted from the one that predicts the answer's first."""
NAMED_FROM = 2
"""Letters of a word without targets: with fewer letters it is not yet known which word it is."""


@dataclass(frozen=True, kw_only=True)
class AttentionSupervision:
    """One attention head with a supervised target."""

    layer: int
    """Layer of the decoder, from 0."""
    head: int
    """Head of the layer, from 0."""
    weight: float
    """Weight of its loss; that of the answers is 1."""
    target: Target = "answer_copy"
    """What it should attend to."""


def letter_tokens(page: DrawnPage, place: Partition) -> tuple[np.ndarray, np.ndarray]:
    """Index of the image token of every character, in the tiles (n,) and in the overview (n,); -1 = illegible there."""
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
    """`letter_tokens` of a page at a setting: (2, n), those of the tiles and of the overview."""
    return np.stack(letter_tokens(page, partition(page.width, page.height, hd=hd, rule="native")))


def places_of(
    page: DrawnPage, questions: Sequence[PageQuestion], *, hd: int, target: Target = "answer_copy"
) -> list[Places | None]:
    """Target image tokens of each question, by its and its answer's tokens; None: none are known.

    Text is searched as a whole word, anywhere on the page.
    """
    tokens = seen_letters(page, hd=hd)
    find = {
        "answer_copy": _answer_copy,
        "queried_word": _queried_word,
        "value_owner": _value_owner,
        "query_word_copy": _query_word_copy,
        "compared_values": _compared_values,
    }[target]
    return [find(page, question, tokens) for question in questions]


def _answer_copy(page: DrawnPage, question: PageQuestion, tokens: np.ndarray) -> Places | None:
    at = copied(page, question)
    return {k: _letter(tokens, at, k) for k in range(len(question.answer))} if at else None


def copied(page: DrawnPage, question: PageQuestion) -> list[int]:
    """Indices of the characters at which the answer begins; none where it is not copied from the page."""
    answer = question.answer
    if question.kind == LINE_COPYING:
        return [first_copied_letter(page, question) + len(question.question)]
    if question.kind in NOT_COPIED or len(encode(answer)) != len(answer):  # words of the vocabulary are one token
        return []
    return found(page, answer)


def _letter(tokens: np.ndarray, words: list[int], letter: int) -> list[int]:
    """Image tokens that hold letter number `letter` of words that begin at these characters."""
    return [int(t) for i in words for t in tokens[:, i + letter] if t >= 0]


def _queried_word(page: DrawnPage, question: PageQuestion, tokens: np.ndarray) -> Places | None:
    before, behind = NAMED_WORD.get(question.kind, ("", ""))
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
    seen = spread(tokens[:1], at, len(word)) or spread(
        tokens, at, len(word)
    )  # in the overview the word is at another position of its row
    return {k: seen for k in range(count)} if seen else None


def _value_owner(page: DrawnPage, question: PageQuestion, tokens: np.ndarray) -> Places | None:
    seen = _amount(page, question.answer, tokens) if question.kind in COMPARED else []
    return {k: seen for k in range(len(encode(question.answer)))} if seen else None


def _amount(page: DrawnPage, name: str, tokens: np.ndarray) -> list[int]:
    """Image tokens, in tiles and overview, of the last digit of a name's value or, if the name is read later, of its
    last letter."""
    amount = next((q for q in page.questions if q.kind in AMOUNTS and whole_words(q.question, name)), None)
    if amount is None:
        return []
    last = len(amount.answer.removesuffix("%")) - 1
    ends = [at + last for at in copied(page, amount)], [at + len(name) - 1 for at in found(page, name)]
    return sorted(t for view in tokens[:, None] for t in max(spread(view, end, 1) for end in ends))


def _last(page: DrawnPage, tokens: np.ndarray) -> list[int]:
    """Image tokens of the last of the counted things."""
    at = found(page, page.counted[-1]) if page.counted else []
    return spread(tokens, at, len(page.counted[-1])) if len(at) == 1 else []


def _compared_values(page: DrawnPage, question: PageQuestion, tokens: np.ndarray) -> Places | None:
    if (names := COMPARISON.fullmatch(question.question)) is None:
        return None
    text = question.question
    predicts = (
        len(encode(text)) + len(markup()[1]) - 1
    )  # index, in the question, of the token that predicts the answer's first
    places: Places = {}
    for group in (1, 2):
        seen, end = _amount(page, names[group], tokens), names.end(group)
        last = len(encode(text[:end])) - 1
        if seen and last + 1 + len(encode(text[end:])) == len(encode(text)):
            places |= {last - predicts: seen, last + 1 - predicts: seen}
    return places or None


def spread(tokens: np.ndarray, words: list[int], length: int) -> list[int]:
    """Image tokens that hold any of `length` letters of words that begin at these characters."""
    return sorted({int(t) for i in words for t in tokens[:, i : i + length].flat if t >= 0})


def _query_word_copy(page: DrawnPage, question: PageQuestion, tokens: np.ndarray) -> Places | None:
    text, at = question.question, copied(page, question)
    given = len(text) if question.kind == LINE_COPYING else 0
    letters = range(NAMED_FROM - given, len(question.answer)) if at else ()
    places = {k + 1: _letter(tokens, at, k) for k in letters}
    if given:
        return places or None
    predicts = (
        len(encode(text)) + len(markup()[1]) - 1
    )  # index, in the question, of the token that predicts the answer's first
    for word in re.finditer(r"[A-Za-z0-9]{3,}", text):
        start, end = word.span()
        if len(encode(word[0])) != len(word[0]):
            continue  # words of the vocabulary are one token each
        at, before = found(page, word[0]), len(encode(text[:start]))
        if at and before + len(word[0]) + len(encode(text[end:])) == len(encode(text)):
            places |= {before + k - predicts: _letter(tokens, at, k) for k in range(NAMED_FROM, len(word[0]))}
    return places or None


def found(page: DrawnPage, sought: str) -> list[int]:
    """Indices of the characters at which a text begins on the page."""
    starts = np.cumsum([0, *(len(text.string) for text in page.texts)]).tolist()
    return [s + i for s, text in zip(starts, page.texts, strict=False) for i in whole_words(text.string, sought)]


def whole_words(string: str, sought: str) -> list[int]:
    """Positions of `sought` in a string where no letter or digit is adjacent to it."""
    at, places = string.find(sought), []
    while at >= 0 and sought:
        beside = string[at - 1 : at] + string[at + len(sought) : at + len(sought) + 1]
        if not any(c.isalnum() for c in beside):
            places.append(at)
        at = string.find(sought, at + 1)
    return places
