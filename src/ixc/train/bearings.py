"""Where an image token stands in its picture, told from its hidden state: what `Where is X?` asks for.

A token's features tell its letters; its place follows from the newlines before it alone. Every token of every page is
asked for it in the middle of the reader, while questions ask for one place in a page.

Shapes: B pages, N image tokens, D width.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ixc.data.synth.page import Page
from ixc.geometry import partition
from ixc.train.symbols import SIDE


class Bearings(nn.Module):
    """A readout that training needs and nothing that answers does."""

    def __init__(self, width: int, *, layer: int, weight: float) -> None:
        """layer: the last one before the readout. weight: of its loss beside the answers'."""
        super().__init__()
        self.layer, self.weight = layer, weight
        self.readout = nn.Linear(width, 2)

    def loss(self, hidden: Tensor, pages: list[Page], *, hd: int) -> Tensor:
        """The weighted mean squared distance. hidden: (B, N, D) behind the layer, of pages of one grid."""
        place = partition(pages[0].width, pages[0].height, hd=hd, rule="native")
        grids = ((SIDE, SIDE), (SIDE * place.grid_h, SIDE * place.grid_w))
        wanted = torch.cat([_grid(*grids[0]), torch.full((1, 2), torch.nan), _grid(*grids[1])])
        told = self.readout(F.rms_norm(hidden, hidden.shape[-1:]))
        seen = ~wanted[:, 0].isnan()
        return self.weight * F.mse_loss(told[:, seen], wanted[seen].expand(len(told), -1, -1))


def _grid(rows: int, columns: int) -> Tensor:
    """Across and down, -1 to 1, of each token of a grid with a newline, which has no place, behind every row."""
    across = torch.linspace(-1, 1, columns).expand(rows, -1)
    down = torch.linspace(-1, 1, rows)[:, None].expand(-1, columns)
    return F.pad(torch.stack([across, down], -1), (0, 0, 0, 1), value=torch.nan).flatten(0, 1)
