"""Where to look: heads of the reader are told which image tokens an answer needs, letter by letter.

    page, question --places--> image tokens for each letter of the answer --look_at--> - log of what a head gives them

`answer`: the token that holds the next letter, for answers that are copied from the page. `asked`: the word that the
question names, for those that say where it stands or whether it is there; for `no` the first token of all. `named`:
while the question is read, from the third letter of a word on that stands on the page, the token that holds the letter.

Shapes: B pages, Q questions of T tokens, P tokens before the questions, N image tokens.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from ixc.data.synth.page import Page, Question
from ixc.geometry import Partition, partition
from ixc.train.packing import encode, markup
from ixc.train.symbols import LEGIBLE, SIDE, TOKEN, seen_on

NOT_COPIED = ("where", "count", "yes_no", "absent")
"""Kinds of question whose answer is no text of the page."""
ASKED = {"where": ("Where is ", "?"), "yes_no": ("Is ", " in the image?")}
"""Kinds of question that name a word to be found, and what stands around it."""
NOWHERE = -1
"""In the place of an image token: the first token of the sequence."""
FLOOR = 1e-30
"""Least attention in the logarithm; a larger one would leave a head that looks far away without a gradient."""

Target = Literal["answer", "asked", "named"]
"""What a head is told to look at; see the head of the file."""
Places = dict[int, list[int]]
"""Of tokens of a question and its answer, counted from the one that tells the answer's first, the image tokens to look
at."""
NAMED_FROM = 2
"""Letters of a word that may be read before it is known which one it is."""


@dataclass(frozen=True, kw_only=True)
class Pointer:
    """One head that is told where to look."""

    layer: int
    head: int
    weight: float
    """Of its loss beside the answers'."""
    at: Target = "answer"


@dataclass(kw_only=True)
class Gaze:
    """What the heads of some pointers gave to the tokens before the questions in the last pass."""

    pointers: tuple[Pointer, ...]
    given: dict[Pointer, Tensor] = field(default_factory=dict)
    """Each (B, Q * T, P), rows of a softmax."""

    def take(self, module: nn.Module, far: Tensor) -> None:
        """Keep what heads give, from the attention (B, H, Q * T, P) of the questions of their layer."""
        for pointer in self.pointers:
            if module.layer_idx == pointer.layer:
                self.given[pointer] = far[:, pointer.head]

    def loss(self, pages: list[Page], asked: list[list[Question]], firsts: Tensor, *, hd: int) -> Tensor:
        """The weighted sum over the pointers. firsts: as `look_at`. hd: setting that the pages are seen at."""
        total = torch.zeros(())
        for pointer, given in self.given.items():
            places = [places_of(page, mine, hd=hd, at=pointer.at) for page, mine in zip(pages, asked, strict=True)]
            total = total + pointer.weight * look_at(given, places, firsts)
        return total


def letter_tokens(page: Page, place: Partition) -> tuple[np.ndarray, np.ndarray]:
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


def places_of(page: Page, questions: Sequence[Question], *, hd: int, at: Target = "answer") -> list[Places | None]:
    """Of each question, for each token of it or of its answer the image tokens to look at; None: none are known.

    What is sought is sought as a whole word, wherever it stands on the page.
    """
    tokens = np.stack(letter_tokens(page, partition(page.width, page.height, hd=hd, rule="native")))
    find = {"answer": _answer, "asked": _asked, "named": _named}[at]
    return [find(page, question, tokens) for question in questions]


def _answer(page: Page, question: Question, tokens: np.ndarray) -> Places | None:
    answer = question.answer
    if question.kind in NOT_COPIED or len(encode(answer)) != len(answer):  # some words are one token
        return None
    at = _found(page, answer)
    return {k: _letter(tokens, at, k) for k in range(len(answer))} if at else None


def _letter(tokens: np.ndarray, words: list[int], letter: int) -> list[int]:
    """Image tokens that hold one letter of words that begin at these characters."""
    return [int(t) for i in words for t in tokens[:, i + letter] if t >= 0]


def _asked(page: Page, question: Question, tokens: np.ndarray) -> Places | None:
    before, behind = ASKED.get(question.kind, ("", ""))
    text, count = question.question, len(encode(question.answer))
    if not before or not (text.startswith(before) and text.endswith(behind)):
        return None
    if question.answer == "no":
        return {k: [NOWHERE] for k in range(count)}
    word = text.removeprefix(before).removesuffix(behind)
    seen = sorted({int(t) for i in _found(page, word) for t in tokens[:, i : i + len(word)].flat if t >= 0})
    return {k: seen for k in range(count)} if seen else None


def _named(page: Page, question: Question, tokens: np.ndarray) -> Places | None:
    text, places = question.question, {}
    told = len(encode(text)) + len(markup()[1]) - 1  # the token that tells the answer's first, from the question's
    for word in re.finditer(r"[A-Za-z0-9]{3,}", text):
        start, end = word.span()
        if len(encode(word[0])) != len(word[0]):
            continue  # the question's own words are one token each
        at, before = _found(page, word[0]), len(encode(text[:start]))
        if at and before + len(word[0]) + len(encode(text[end:])) == len(encode(text)):
            places |= {before + k - told: _letter(tokens, at, k) for k in range(NAMED_FROM, len(word[0]))}
    return places or None


def _found(page: Page, sought: str) -> list[int]:
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


def look_at(given: Tensor, places: Sequence[Sequence[Places | None]], firsts: Tensor) -> Tensor:
    """Mean over tokens of questions and answers of - log of what a head gives to their places; 0 where there are none.

    Args:
        given: (B, Q * T, P). places: of B pages and Q questions, from `places_of`. firsts: (B, Q), the place among a
            question's T tokens from which the first token of the answer is told.
    """
    length, before = given.shape[1] // firsts.shape[1], len(markup()[0])
    told = [
        (b, q * length + int(firsts[b, q]) + k, 0 if token == NOWHERE else before + token, (b, q, k))
        for b, page in enumerate(places)
        for q, question in enumerate(page)
        for k, tokens in (question or {}).items()
        for token in tokens
    ]
    if not told:
        return given.new_zeros(())
    number = {name: i for i, name in enumerate(dict.fromkeys(name for *_, name in told))}
    page, row, token = (torch.tensor(column) for column in list(zip(*told, strict=True))[:3])
    of = torch.tensor([number[name] for *_, name in told])
    return -(given.new_zeros(len(number)).index_add(0, of, given[page, row, token]) + FLOOR).log().mean()
