"""What an image token knows: where it stands, the amount it ends, the how-manieth it is, how what it belongs to begins.

Told from its hidden state. A token's features tell its letters; its place, which `Where is X?` asks for, follows from
the tokens before it alone. How far down that is no token can know, for the end of the page is not read yet; how many
are before it every one can, and a question, which stands behind the last, their number. To find the largest of some
amounts every one must be a quantity before a question looks at them; to say whose it is, its token must know how the
name begins. Every token of every page is asked in the middle of the reader, while questions ask for one place or one
comparison in a page. What the head that finds an amount would carry away from a token is asked the same; and a question
that compares or counts, two layers on, how its answer begins.

Shapes: B pages, N image tokens, R tokens of questions, D width.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from itertools import product
from math import log, log10

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ixc.core.tiling import Partition, partition
from ixc.nano.data.glyph_tokens import SIDE
from ixc.nano.data.question_packing import encode
from ixc.nano.losses.attention_supervision import AMOUNTS, COMPARED, copied, found, seen_letters, spread
from ixc.nano.losses.relation_targets import LETTERS, begins_of, letters_of
from ixc.synth.page import SPACE, DrawnPage, PageQuestion

MIDDLE = 1.5
"""What the decimal logarithm of an amount is told from: between 1 and 900, as charts have them."""
FEW = 4
"""What the natural logarithm of a count is told from."""
NAMED = 0.2
"""Weight of naming letters, figures and numbers beside the distances."""
ANSWERED = 0.6
"""The same of an answer's first letters, and of what a head carries to it."""
LETTER = SPACE + 1
"""Codes of one, and of none."""
FIGURES = 3
"""Of the amounts of charts."""
MANY = 40
"""What is more is counted as so many."""
FOUND = (*COMPARED, "count")
"""Kinds of question whose answer no word of the question leads to."""
NAMES = re.compile(r" (?:of|in) (.+)\?")
"""Whose amount a question asks for."""


class AuxiliaryProbes(nn.Module):
    """Readouts that training needs and nothing that answers does."""

    def __init__(self, width: int, *, head: int, layer: int, weight: float) -> None:
        """width, head: of the reader and of its heads. layer: the last one before the first readout. weight: of the
        loss beside the answers'."""
        super().__init__()
        self.layer, self.weight = layer, weight
        self.readout = nn.Linear(width, 4)
        """Across, logarithms of the tokens before, of the amount, of the count."""
        self.begins = nn.Linear(width, LETTERS * LETTER)
        """First letters of what a token is linked to; of an amount, and of a name that knows its own, of the name."""
        self.heading = nn.Linear(width, LETTERS * LETTER)
        """The same of a cell's heading."""
        self.figures = nn.Linear(width, FIGURES * 10)
        """Of the amount, from hundreds to ones."""
        self.order = nn.Linear(width, MANY + 1)
        """The how-manieth a token is of what is counted."""
        self.answers = nn.Linear(width, LETTERS * LETTER)
        """First letters of an answer that no word of the question leads to, told by the question."""
        self.carries = nn.Linear(head, LETTERS * LETTER)
        """As `begins`, told by what a head takes from a token that it finds."""

    def loss(
        self,
        hidden: Sequence[Tensor],
        pages: list[DrawnPage],
        *,
        hd: int,
        image: int,
        asked: Sequence[Sequence[PageQuestion]] = (),
        firsts: Tensor | None = None,
        carried: Tensor | None = None,
    ) -> Tensor:
        """The weighted sum of the mean squared distances of places, amounts and counts, and of naming what is known.

        Args:
            hidden: (B, N + R, D) behind the layer, of pages of one grid and their questions; behind the next, where it
                is known which tokens belong together; behind the one after it, where a question has found them. What
                is not given is not asked.
            image: N.
            asked, firsts: Q questions of every page, and (B, Q) where each begins to answer, as `pack` says.
            carried: (B, N, D) values of the head that finds whose an amount is.
        """
        owned, counts = ([known(page, hd=hd) for page in pages] for known in (amounts_of, counts_of))
        sizes = [{token: log10(amount) - MIDDLE for token, (amount, _) in one.items()} for one in owned]
        ranks = [{token: log(number / FEW) for token, number in one.items()} for one in counts]
        away = self._measured(hidden[0][:, :image], pages, (sizes, ranks), hd=hd)
        if hidden[0].shape[1] > image:
            place = _place(pages, hd=hd)
            end = torch.tensor(_before(SIDE * place.grid_h * (SIDE * place.grid_w + 1)))
            told = self._told(hidden[0][:, image:])[..., 1]
            away = away + F.mse_loss(told, end.expand_as(told))
        if len(hidden) > 1:
            figures = [{token: _figures(amount) for token, (amount, _) in one.items()} for one in owned]
            order = [{token: (min(number, MANY),) for token, number in one.items()} for one in counts]
            begins, heading = zip(*(begins_of(page, hd=hd) for page in pages), strict=True)
            begins = [
                one | {token: letters_of(name) for token, (_, name) in mine.items()}
                for one, mine in zip(begins, owned, strict=True)
            ]
            known = (self.begins, begins), (self.heading, heading), (self.figures, figures), (self.order, order)
            away = away + NAMED * sum(_misnamed(readout, hidden[1], wanted) for readout, wanted in known)
            if carried is not None:
                away = away + ANSWERED * _misnamed(self.carries, carried, begins)
        if len(hidden) > 2 and firsts is not None:
            length = (hidden[2].shape[1] - image) // max(1, firsts.shape[1])
            rows = [
                {
                    image + i * length + int(first) + k: letters_of(question.answer)
                    for i, (question, first) in enumerate(zip(questions, mine, strict=True))
                    for k in range(len(encode(question.answer)) if question.kind in FOUND else 0)
                }
                for questions, mine in zip(asked, firsts.tolist(), strict=True)
            ]
            away = away + ANSWERED * _misnamed(self.answers, hidden[2], rows)
        return self.weight * away

    def _measured(
        self,
        hidden: Tensor,
        pages: list[DrawnPage],
        known: tuple[list[dict[int, float]], list[dict[int, float]]],
        *,
        hd: int,
    ) -> Tensor:
        place = _place(pages, hd=hd)
        grids = ((SIDE, SIDE), (SIDE * place.grid_h, SIDE * place.grid_w))
        wanted = torch.cat([_grid(*grids[0]), torch.full((1, 2), torch.nan), _grid(*grids[1])])
        told = self._told(hidden)
        seen = ~wanted[:, 0].isnan()
        away = F.mse_loss(told[:, seen, :2], wanted[seen].expand(len(told), -1, -1))
        for column, one in zip((2, 3), known, strict=True):
            sizes = [(b, token, size) for b, mine in enumerate(one) for token, size in mine.items()]
            if sizes:
                page, token, size = zip(*sizes, strict=True)
                away = away + F.mse_loss(told[list(page), list(token), column], torch.tensor(size))
        return away

    def _told(self, hidden: Tensor) -> Tensor:
        return self.readout(F.rms_norm(hidden, hidden.shape[-1:]))


def _misnamed(readout: nn.Linear, hidden: Tensor, wanted: Sequence[Mapping[int, Sequence[int]]]) -> Tensor:
    """Mean cross entropy of what a readout says of some tokens of hidden (B, S, D): of each page, token -> classes.

    0 where there are none, with a gradient of zero: every part of a step brings the same gradients.
    """
    places = [(b, token) for b, one in enumerate(wanted) for token in one]
    right = torch.tensor([c for one in wanted for classes in one.values() for c in classes], dtype=torch.long)
    page, token = torch.tensor(places, dtype=torch.long).view(-1, 2).unbind(-1)
    known = hidden[page, token]
    said = readout(F.rms_norm(known, known.shape[-1:])).view(len(right), -1) if places else readout(known)
    return F.cross_entropy(said, right, reduction="sum") / max(1, len(right))


def _figures(amount: int) -> list[int]:
    return [int(figure) for figure in f"{amount:0{FIGURES}d}"[-FIGURES:]]


def _place(pages: list[DrawnPage], *, hd: int) -> Partition:
    return partition(pages[0].width, pages[0].height, hd=hd, rule="native")


def amounts_of(page: DrawnPage, *, hd: int) -> dict[int, tuple[int, str]]:
    """Of image tokens that hold the last figure of an amount of a chart, the amount and whose it is; of those that hold
    the last letter of a name that ends behind its amount, the same."""
    tokens, amounts = seen_letters(page, hd=hd), {}
    for question in page.questions:
        figures, name = question.answer.removesuffix("%"), NAMES.search(question.question)
        if question.kind not in AMOUNTS or not figures.isdecimal() or name is None:
            continue
        for at, view in product(copied(page, question), tokens[:, None]):
            if (token := int(view[0, at + len(figures) - 1])) < 0:
                continue
            ends = [at + len(name[1]) - 1 for at in found(page, name[1])]
            later = [t for t in spread(view, ends, 1) if t > token]
            amounts |= dict.fromkeys([token, *later], (int(figures), name[1]))
    return amounts


def counts_of(page: DrawnPage, *, hd: int) -> dict[int, int]:
    """Of image tokens of what a page asks the number of, the how-manieth it is."""
    tokens, counted = seen_letters(page, hd=hd), {}
    for number, thing in enumerate(page.counted, start=1):
        at = found(page, thing)
        if len(at) == 1:
            counted |= dict.fromkeys(spread(tokens, at, len(thing)), number)
    return counted


def _before(count: int) -> float:
    """Logarithm of so many tokens, from those of a tile; the first row counts as one more."""
    return log((count + SIDE) / SIDE**2)


def _grid(rows: int, columns: int) -> Tensor:
    """Across, -1 to 1, and `_before`, of each token of a grid with a newline, which has no place, behind every row."""
    across = torch.linspace(-1, 1, columns).expand(rows, -1)
    before = torch.tensor([_before(i) for i in range(rows * (columns + 1))]).view(rows, columns + 1)[:, :-1]
    return F.pad(torch.stack([across, before], -1), (0, 0, 0, 1), value=torch.nan).flatten(0, 1)
