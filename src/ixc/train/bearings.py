"""What an image token knows: where it stands, the amount it ends, the how-manieth it is, how what it belongs to begins.

Told from its hidden state. A token's features tell its letters; its place, which `Where is X?` asks for, follows from
the tokens before it alone. How far down that is no token can know, for the end of the page is not read yet; how many
are before it every one can, and a question, which stands behind the last, their number. To find the largest of some
amounts every one must be a quantity before a question looks at them; to say whose it is, its token must know how the
name begins. Every token of every page is asked in the middle of the reader, while questions ask for one place or one
comparison in a page.

Shapes: B pages, N image tokens, R tokens of questions, D width.
"""

from __future__ import annotations

import re
from itertools import product
from math import log, log10

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ixc.data.synth.page import SPACE, Page
from ixc.geometry import partition
from ixc.train.links import begins_of
from ixc.train.pointing import AMOUNTS, copied, found, seen_letters, spread
from ixc.train.symbols import SIDE

MIDDLE = 1.5
"""What the decimal logarithm of an amount is told from: between 1 and 900, as charts have them."""


FEW = 4
"""What the natural logarithm of a count is told from."""
BEGINS = 0.2
"""Weight of the letters beside the other distances."""
NAMES = re.compile(r" (?:of|in) (.+)\?")
"""Whose amount a question asks for."""


class Bearings(nn.Module):
    """A readout that training needs and nothing that answers does."""

    def __init__(self, width: int, *, layer: int, weight: float) -> None:
        """layer: the last one before the readout. weight: of its loss beside the answers'."""
        super().__init__()
        self.layer, self.weight = layer, weight
        self.readout = nn.Linear(width, 4)
        """Across, logarithms of the tokens before, of the amount, of the count."""
        self.begins = nn.Linear(width, 2 * (SPACE + 1))
        """First and second letter of what a token is linked to."""

    def loss(
        self,
        hidden: Tensor,
        pages: list[Page],
        *,
        hd: int,
        asking: Tensor | None = None,
        further: Tensor | None = None,
    ) -> Tensor:
        """The weighted sum of the mean squared distances of places, amounts and counts, and of naming what is linked.

        Args:
            hidden: (B, N, D) behind the layer, of pages of one grid.
            asking: (B, R, D) of the questions, which have all of the tiles before them.
            further: (B, N, D) one layer on, where it is known which tokens belong together.
        """
        place = partition(pages[0].width, pages[0].height, hd=hd, rule="native")
        grids = ((SIDE, SIDE), (SIDE * place.grid_h, SIDE * place.grid_w))
        wanted = torch.cat([_grid(*grids[0]), torch.full((1, 2), torch.nan), _grid(*grids[1])])
        told = self._told(hidden)
        seen = ~wanted[:, 0].isnan()
        away = F.mse_loss(told[:, seen, :2], wanted[seen].expand(len(told), -1, -1))
        if asking is not None:
            end = torch.tensor(_before(SIDE * place.grid_h * (SIDE * place.grid_w + 1)))
            away = away + F.mse_loss(self._told(asking)[..., 1], end.expand(asking.shape[:2]))
        for column, known in ((2, amounts_of), (3, counts_of)):
            wanted = [(b, token, size) for b, page in enumerate(pages) for token, size in known(page, hd=hd).items()]
            if wanted:
                page, token, size = zip(*wanted, strict=True)
                away = away + F.mse_loss(told[list(page), list(token), column], torch.tensor(size))
        linked = [(b, *one) for b, page in enumerate(pages) for one in begins_of(page, hd=hd).items()]
        if further is not None:  # asked of none too: every part of a step brings the same gradients
            page, token, letters = zip(*linked, strict=True) if linked else ((), (), ())
            known = further[torch.tensor(page, dtype=torch.long), torch.tensor(token, dtype=torch.long)]
            said = self.begins(F.rms_norm(known, further.shape[-1:])).view(2 * len(linked), SPACE + 1)
            right = torch.tensor(letters, dtype=torch.long).flatten()
            away = away + BEGINS * F.cross_entropy(said, right, reduction="sum") / max(1, len(right))
        return self.weight * away

    def _told(self, hidden: Tensor) -> Tensor:
        return self.readout(F.rms_norm(hidden, hidden.shape[-1:]))


def amounts_of(page: Page, *, hd: int) -> dict[int, float]:
    """Of image tokens that hold the last figure of an amount of a chart, its decimal logarithm from the `MIDDLE`; of
    those of a name read behind its amount the same."""
    tokens, amounts = seen_letters(page, hd=hd), {}
    for question in page.questions:
        figures = question.answer.removesuffix("%")
        if question.kind not in AMOUNTS or not figures.isdecimal():
            continue
        size, name = log10(max(1, int(figures))) - MIDDLE, NAMES.search(question.question)
        for at, view in product(copied(page, question), tokens[:, None]):
            if (token := int(view[0, at + len(figures) - 1])) < 0:
                continue
            later = spread(view, found(page, name[1]), len(name[1])) if name else []
            amounts |= dict.fromkeys([token, *(t for t in later if t > token)], size)
    return amounts


def counts_of(page: Page, *, hd: int) -> dict[int, float]:
    """Of image tokens of what a page asks the number of, the natural logarithm of the how-manieth it is from `FEW`."""
    tokens, counted = seen_letters(page, hd=hd), {}
    for number, thing in enumerate(page.counted, start=1):
        at = found(page, thing)
        if len(at) == 1:
            counted |= dict.fromkeys(spread(tokens, at, len(thing)), log(number / FEW))
    return counted


def _before(count: int) -> float:
    """Logarithm of so many tokens, from those of a tile; the first row counts as one more."""
    return log((count + SIDE) / SIDE**2)


def _grid(rows: int, columns: int) -> Tensor:
    """Across, -1 to 1, and `_before`, of each token of a grid with a newline, which has no place, behind every row."""
    across = torch.linspace(-1, 1, columns).expand(rows, -1)
    before = torch.tensor([_before(i) for i in range(rows * (columns + 1))]).view(rows, columns + 1)[:, :-1]
    return F.pad(torch.stack([across, before], -1), (0, 0, 0, 1), value=torch.nan).flatten(0, 1)
