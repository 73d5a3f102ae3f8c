"""Auxiliary probes: predict from hidden states the position of image tokens, values, counts and first letters.

Every image token of a page is supervised in a middle layer, while questions ask about a single position or comparison:

- horizontal position, and the number of tokens before it. The vertical share cannot be predicted, since the end of the
  page is not known to a causal model at that token; the count can, and the last token knows the total.
- the value that a token ends, as a quantity, since comparing values needs them as such before a question attends to
  them; its digits; and the first letters of the name it belongs to.
- the index of a token among the counted things.
- the first letters of what the head with the target `value_owner` carries total from a token, and, two layers later at
  questions that compare or count, of the answer.

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
"""Offset of the decimal logarithm of a value; values of charts are 1 to 900."""
FEW = 4
"""Offset of counts: the probe predicts the natural logarithm of count / FEW."""
NAMED = 0.2
"""Weight of classifying letters, digits and indices; that of the squared distances is 1."""
ANSWERED = 0.6
"""Weight of classifying an answer's first letters, and what a head carries to it."""
LETTER = SPACE + 1
"""Classes of a letter, with one for none."""
FIGURES = 3
"""Digits of a value of a chart."""
MANY = 40
"""Largest index of a counted thing; larger ones share its class."""
FOUND = (*COMPARED, "count")
"""Kinds of question whose answer is not next to a word of the question."""
NAMES = re.compile(r" (?:of|in) (.+)\?")
"""The name whose value a question asks for."""


class AuxiliaryProbes(nn.Module):
    """Linear probes that are used in training and dropped afterwards."""

    def __init__(self, width: int, *, head: int, layer: int, weight: float) -> None:
        """Args: width and head dimension of the language model; the first probed layer; weight of the loss."""
        super().__init__()
        self.layer, self.weight = layer, weight
        self.readout = nn.Linear(width, 4)
        """Horizontal position; logarithms of the tokens before, of the value, of the count."""
        self.begins = nn.Linear(width, LETTERS * LETTER)
        """First letters of the key of a token; of a value, and of a name that ends after it, those of the name."""
        self.heading = nn.Linear(width, LETTERS * LETTER)
        """First letters of a cell's column header."""
        self.figures = nn.Linear(width, FIGURES * 10)
        """Digits of the value, from hundreds to ones."""
        self.order = nn.Linear(width, MANY + 1)
        """Index of a token among the counted things."""
        self.answers = nn.Linear(width, LETTERS * LETTER)
        """First letters of an answer of `FOUND`, at the question."""
        self.carries = nn.Linear(head, LETTERS * LETTER)
        """As `begins`, from the value vector of the head with the target `value_owner`."""

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
        """Weighted sum of the squared errors of positions, values and counts and of the classification losses.

        Args:
            hidden: (B, N + R, D) outputs of the probed layer, of the next one and of the one after it, for pages of one
                grid and their questions; probes of layers that are not given are left out.
            pages: B pages.
            hd: setting at which the pages are encoded.
            image: N.
            asked: Q questions of every page.
            firsts: (B, Q) as `Packed.firsts`.
            carried: (B, N, D) values of the head with the target `value_owner`.
        """
        owned = [amounts_of(page, hd=hd) for page in pages]
        counts = [counts_of(page, hd=hd) for page in pages]
        sizes = [{token: log10(amount) - MIDDLE for token, (amount, _) in one.items()} for one in owned]
        ranks = [{token: log(number / FEW) for token, number in one.items()} for one in counts]
        total = self._regression_loss(hidden[0][:, :image], pages, (sizes, ranks), hd=hd)
        if hidden[0].shape[1] > image:
            place = _place(pages, hd=hd)
            end = torch.tensor(_before(SIDE * place.grid_h * (SIDE * place.grid_w + 1)))
            predicted = self._read(hidden[0][:, image:])[..., 1]
            total = total + F.mse_loss(predicted, end.expand_as(predicted))
        if len(hidden) > 1:
            figures = [{token: _figures(amount) for token, (amount, _) in one.items()} for one in owned]
            order = [{token: [min(number, MANY)] for token, number in one.items()} for one in counts]
            letters = [begins_of(page, hd=hd) for page in pages]
            heading = [of_header for _, of_header in letters]
            begins = [
                of_key | {token: letters_of(name) for token, (_, name) in mine.items()}
                for (of_key, _), mine in zip(letters, owned, strict=True)
            ]
            known: tuple[tuple[nn.Linear, list[dict[int, list[int]]]], ...]
            known = (self.begins, begins), (self.heading, heading), (self.figures, figures), (self.order, order)
            total = total + NAMED * sum(_classification_loss(readout, hidden[1], wanted) for readout, wanted in known)
            if carried is not None:
                total = total + ANSWERED * _classification_loss(self.carries, carried, begins)
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
            total = total + ANSWERED * _classification_loss(self.answers, hidden[2], rows)
        return self.weight * total

    def _regression_loss(
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
        predicted = self._read(hidden)
        seen = ~wanted[:, 0].isnan()
        total = F.mse_loss(predicted[:, seen, :2], wanted[seen].expand(len(predicted), -1, -1))
        for column, one in zip((2, 3), known, strict=True):
            sizes = [(b, token, size) for b, mine in enumerate(one) for token, size in mine.items()]
            if sizes:
                page, token, size = zip(*sizes, strict=True)
                total = total + F.mse_loss(predicted[list(page), list(token), column], torch.tensor(size))
        return total

    def _read(self, hidden: Tensor) -> Tensor:
        return self.readout(F.rms_norm(hidden, hidden.shape[-1:]))


def _classification_loss(readout: nn.Linear, hidden: Tensor, wanted: Sequence[Mapping[int, Sequence[int]]]) -> Tensor:
    """Mean cross entropy of a probe at some tokens of hidden (B, S, D); wanted: per page, token -> classes.

    Without tokens it is 0 with a gradient of zero, since all replicas of a step must have the same gradients.
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
    """Value and name by image token, for tokens that hold the last digit of a chart's value, or the last letter of a
    name that ends after its value."""
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
    """Index, from 1, of the counted things by image token."""
    tokens, counted = seen_letters(page, hd=hd), {}
    for number, thing in enumerate(page.counted, start=1):
        at = found(page, thing)
        if len(at) == 1:
            counted |= dict.fromkeys(spread(tokens, at, len(thing)), number)
    return counted


def _before(count: int) -> float:
    """Logarithm of a number of tokens relative to those of a tile; one row is added so that it is finite at 0."""
    return log((count + SIDE) / SIDE**2)


def _grid(rows: int, columns: int) -> Tensor:
    """Horizontal position, -1 to 1, and `_before` of each token of a grid; NaN for the newline after every row."""
    across = torch.linspace(-1, 1, columns).expand(rows, -1)
    before = torch.tensor([_before(i) for i in range(rows * (columns + 1))]).view(rows, columns + 1)[:, :-1]
    return F.pad(torch.stack([across, before], -1), (0, 0, 0, 1), value=torch.nan).flatten(0, 1)
