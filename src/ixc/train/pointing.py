"""Where an answer stands: one head of the reader is told to look at the token that holds the next letter.

    page, question --answer_places--> image tokens of each letter --look_at--> - log of what the head gives to them

Only for answers that are copied from the page; what is counted, compared or placed has no one place to look at.

Shapes: B pages, Q questions of T tokens, P tokens before the questions, N image tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from ixc.data.synth.page import Page, Question
from ixc.geometry import Partition, partition
from ixc.train.symbols import LEGIBLE, SIDE, TOKEN, seen_on

NOT_COPIED = ("where", "count", "yes_no", "absent")
"""Kinds of question whose answer is no text of the page."""
Places = list[list[int]]
"""Of each letter of an answer the image tokens that hold it, wherever it stands."""
FLOOR = 1e-6
"""Least attention in the logarithm."""


@dataclass(kw_only=True)
class Gaze:
    """One head of one layer, and what it gave to the tokens before the questions in the last pass."""

    layer: int
    head: int
    given: Tensor | None = None
    """(B, Q * T, P), rows of a softmax."""

    @property
    def seen(self) -> Tensor:
        """`given` of a pass that there was."""
        assert self.given is not None, f"no layer {self.layer} has told what it looks at"
        return self.given

    def take(self, module: nn.Module, far: Tensor) -> None:
        """Keep what the head gives, from the attention (B, H, Q * T, P) of the questions of its layer."""
        if module.layer_idx == self.layer:
            self.given = far[:, self.head]


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


def answer_places(page: Page, questions: Sequence[Question], *, hd: int) -> list[Places | None]:
    """Of each question, for each letter of its answer the image tokens that hold it.

    The answer is looked for as a whole word, wherever it stands on the page; None where it is not copied or not found.
    """
    tokens = np.stack(letter_tokens(page, partition(page.width, page.height, hd=hd, rule="native")))
    starts = np.cumsum([0, *(len(text.string) for text in page.texts)])
    found: list[Places | None] = []
    for question in questions:
        answer, at = question.answer, []
        if question.kind not in NOT_COPIED:
            for start, text in zip(starts, page.texts, strict=False):
                at += [int(start) + i for i in whole_words(text.string, answer)]
        letters = [[int(t) for i in at for t in tokens[:, i + k] if t >= 0] for k in range(len(answer))]
        found.append(letters if at else None)
    return found


def whole_words(string: str, sought: str) -> list[int]:
    """Where `sought` stands in a string with no letter or digit right beside it."""
    at, places = string.find(sought), []
    while at >= 0 and sought:
        beside = string[at - 1 : at] + string[at + len(sought) : at + len(sought) + 1]
        if not any(c.isalnum() for c in beside):
            places.append(at)
        at = string.find(sought, at + 1)
    return places


def look_at(given: Tensor, places: Sequence[Sequence[Places | None]], firsts: Tensor, *, before: int) -> Tensor:
    """Mean over the letters that can be seen of - log of what the head gives to their tokens; 0 where there are none.

    Args:
        given: (B, Q * T, P). places: of B pages and Q questions, from `answer_places`. firsts: (B, Q), the place among
            T tokens from which the first letter is told. before: tokens before the image.
    """
    length = given.shape[1] // firsts.shape[1]
    letters = [
        (b, q * length + int(firsts[b, q]) + k, before + token, (b, q, k))
        for b, page in enumerate(places)
        for q, question in enumerate(page)
        for k, tokens in enumerate(question or [])
        for token in tokens
    ]
    if not letters:
        return given.new_zeros(())
    number = {name: i for i, name in enumerate(dict.fromkeys(name for *_, name in letters))}
    page, row, token = (torch.tensor(column) for column in list(zip(*letters, strict=True))[:3])
    of = torch.tensor([number[name] for *_, name in letters])
    return -(given.new_zeros(len(number)).index_add(0, of, given[page, row, token]) + FLOOR).log().mean()
