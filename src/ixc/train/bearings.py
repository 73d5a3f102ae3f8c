"""Where an image token stands in its picture and which amount it ends, told from its hidden state.

A token's features tell its letters; its place, which `Where is X?` asks for, follows from the newlines before it alone.
To find the largest of some amounts every one must be a quantity before a question looks at them. Every token of every
page is asked in the middle of the reader, while questions ask for one place or one comparison in a page.

Shapes: B pages, N image tokens, D width.
"""

from __future__ import annotations

from math import log10

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ixc.data.synth.page import Page
from ixc.geometry import partition
from ixc.train.pointing import AMOUNTS, copied, seen_letters
from ixc.train.symbols import SIDE

MIDDLE = 1.5
"""What the decimal logarithm of an amount is told from: between 1 and 900, as charts have them."""


class Bearings(nn.Module):
    """A readout that training needs and nothing that answers does."""

    def __init__(self, width: int, *, layer: int, weight: float) -> None:
        """layer: the last one before the readout. weight: of its loss beside the answers'."""
        super().__init__()
        self.layer, self.weight = layer, weight
        self.readout = nn.Linear(width, 3)
        """Across, down, logarithm of the amount."""

    def loss(self, hidden: Tensor, pages: list[Page], *, hd: int) -> Tensor:
        """The weighted sum of the mean squared distances of places and of amounts.

        Args:
            hidden: (B, N, D) behind the layer, of pages of one grid.
        """
        place = partition(pages[0].width, pages[0].height, hd=hd, rule="native")
        grids = ((SIDE, SIDE), (SIDE * place.grid_h, SIDE * place.grid_w))
        wanted = torch.cat([_grid(*grids[0]), torch.full((1, 2), torch.nan), _grid(*grids[1])])
        told = self.readout(F.rms_norm(hidden, hidden.shape[-1:]))
        seen = ~wanted[:, 0].isnan()
        away = F.mse_loss(told[:, seen, :2], wanted[seen].expand(len(told), -1, -1))
        amounts = [(b, token, size) for b, page in enumerate(pages) for token, size in amounts_of(page, hd=hd).items()]
        if amounts:
            page, token, size = zip(*amounts, strict=True)
            away = away + F.mse_loss(told[list(page), list(token), 2], torch.tensor(size))
        return self.weight * away


def amounts_of(page: Page, *, hd: int) -> dict[int, float]:
    """Of image tokens that hold the last figure of an amount of a chart, its decimal logarithm from the `MIDDLE`."""
    tokens, found = seen_letters(page, hd=hd), {}
    for question in page.questions:
        figures = question.answer.removesuffix("%")
        if question.kind not in AMOUNTS or not figures.isdecimal():
            continue
        for at in copied(page, question):
            for token in tokens[:, at + len(figures) - 1]:
                if token >= 0:
                    found[int(token)] = log10(max(1, int(figures))) - MIDDLE
    return found


def _grid(rows: int, columns: int) -> Tensor:
    """Across and down, -1 to 1, of each token of a grid with a newline, which has no place, behind every row."""
    across = torch.linspace(-1, 1, columns).expand(rows, -1)
    down = torch.linspace(-1, 1, rows)[:, None].expand(-1, columns)
    return F.pad(torch.stack([across, down], -1), (0, 0, 0, 1), value=torch.nan).flatten(0, 1)
