"""Pages without pixels: what a perfect eye would tell the language model (layout pre-training).

A visual token is the sum of its characters' embeddings, each turned by the matrix of its place (patch column and rank
inside the patch), plus a vector for the patch row of its line. The projector learns to give the same from pixels.

Shapes: B pages, G = rows * columns tokens of a grid, SLOTS places, N image tokens with newlines, D width.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import inf

import numpy as np
import torch
from torch import Tensor, nn

from ixc.core.tiling import TILE, Partition, partition
from ixc.core.token_layout import Layout
from ixc.synth.page import SPACE, DrawnPage, characters

PATCH, TOKEN, SIDE = 14, 28, 12  # pixels, pixels, tokens
RANKS = 3  # characters told apart inside one patch
SLOTS = 2 * RANKS
LEGIBLE = 19.0  # seen font size in pixels below which a perfect eye is not assumed: the tower learns from 18 px
FIRST_ID = 4  # token id of the blank, code 0 (processing/tokenization.py: ids of ASCII begin here)
BLOCK = 128  # channels
MARK_NEWLINE, MARK_SEPARATOR = 1, 2


@dataclass(frozen=True, kw_only=True)
class GlyphTokens:
    """One image as symbols, in token order.

    chars (N, SLOTS) int64 codes, 0 for nothing; rows (N, 2) bool: a character in the upper, the lower patch row;
    marks (N,) int64: 0 a place, 1 a newline, 2 the separator.
    """

    chars: np.ndarray
    rows: np.ndarray
    marks: np.ndarray


def ranks(groups: np.ndarray) -> np.ndarray:
    """0, 1, 2 ... for the first, second, third ... occurrence of each value, in order: (n,) -> (n,)."""
    order = np.argsort(groups, kind="stable")
    ordered = groups[order]
    starts = np.r_[True, ordered[1:] != ordered[:-1]]
    first = np.maximum.accumulate(np.where(starts, np.arange(len(groups)), 0))
    result = np.empty(len(groups), np.int64)
    result[order] = np.arange(len(groups)) - first
    return result


def grid_symbols(
    codes: np.ndarray, x: np.ndarray, y: np.ndarray, *, rows: int, columns: int
) -> tuple[np.ndarray, np.ndarray]:
    """Characters at pixel places -> ((rows, columns, SLOTS) codes, (rows, columns, 2) row flags)."""
    chars = np.zeros((rows, columns, SLOTS), np.int64)
    flags = np.zeros((rows, columns, 2), bool)
    inside = (x >= 0) & (y >= 0) & (x < columns * TOKEN) & (y < rows * TOKEN)
    codes, x, y = codes[inside], x[inside], y[inside]
    order = np.lexsort((x, y))
    codes, x, y = codes[order], x[order], y[order]
    px, py = (x // PATCH).astype(np.int64), (y // PATCH).astype(np.int64)
    rank = ranks((py // 2) * 2 * columns + px)
    kept = rank < RANKS
    codes, px, py, rank = codes[kept], px[kept], py[kept], rank[kept]
    chars[py // 2, px // 2, (px % 2) * RANKS + rank] = codes
    flags[py // 2, px // 2, py % 2] = True
    return chars, flags


def with_newlines(chars: np.ndarray, flags: np.ndarray, *, newline: bool = True) -> GlyphTokens:
    """A grid in reading order with a newline behind every row, or without any."""
    rows, columns = chars.shape[:2]
    marks = np.zeros((rows, columns + newline), np.int64)
    marks[:, columns:] = MARK_NEWLINE
    return GlyphTokens(
        chars=np.pad(chars, ((0, 0), (0, int(newline)), (0, 0))).reshape(-1, SLOTS),
        rows=np.pad(flags, ((0, 0), (0, int(newline)), (0, 0))).reshape(-1, 2),
        marks=marks.reshape(-1),
    )


def seen_on(page: DrawnPage, place: Partition) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Codes, x, y on the canvas, and the font size in canvas pixels of every character."""
    codes, x, y = characters(page)
    sx, sy = place.resized_width / page.width, place.resized_height / page.height
    sizes = np.concatenate([np.full(len(t.string), t.size * min(sx, sy)) for t in page.texts] or [np.zeros(0)])
    return codes, x * sx + place.pad_left, y * sy + place.pad_top, sizes


def seen_by(
    page: DrawnPage, *, hd: int, rule: str = "native"
) -> tuple[Partition, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Partition, codes, x, y on the canvas, and the font size in canvas pixels of every character."""
    place = partition(page.width, page.height, hd=hd, rule=rule)
    return place, *seen_on(page, place)


Grid = tuple[np.ndarray, np.ndarray]
"""What `grid_symbols` gives."""


def page_grids(
    page: DrawnPage, place: Partition, *, side: int = SIDE, legible: tuple[float, float] = (LEGIBLE, inf)
) -> tuple[Grid, Grid]:
    """What a perfect eye sees in the overview and in the tiles, letters outside of `legible` canvas pixels left out."""
    codes, x, y, sizes = seen_on(page, place)
    near = (sizes >= legible[0]) & (sizes <= legible[1])
    local = grid_symbols(codes[near], x[near], y[near], rows=side * place.grid_h, columns=side * place.grid_w)
    shrink_x, shrink_y = 1 / place.grid_w, 1 / place.grid_h
    far = (sizes * min(shrink_x, shrink_y) >= legible[0]) & (sizes * min(shrink_x, shrink_y) <= legible[1])
    return grid_symbols(codes[far], x[far] * shrink_x, y[far] * shrink_y, rows=side, columns=side), local


def joined(view: GlyphTokens, local: GlyphTokens, *, separator: bool = True) -> GlyphTokens:
    """Overview, separator, tiles."""
    between = int(separator)
    return GlyphTokens(
        chars=np.concatenate([view.chars, np.zeros((between, SLOTS), np.int64), local.chars]),
        rows=np.concatenate([view.rows, np.zeros((between, 2), bool), local.rows]),
        marks=np.concatenate([view.marks, [MARK_SEPARATOR] * between, local.marks]).astype(np.int64),
    )


def page_symbols(page: DrawnPage, *, hd: int, rule: str = "native") -> GlyphTokens:
    """A whole image as the model reads it: overview, separator, tiles (spec e)."""
    place = partition(page.width, page.height, hd=hd, rule=rule)
    symbols = joined(*(with_newlines(*grid) for grid in page_grids(page, place)))
    assert len(symbols.marks) == Layout(grid_h=place.grid_h, grid_w=place.grid_w).num_tokens
    return symbols


class GlyphTokenEmbedding(nn.Module):
    """Symbols -> visual tokens in the language model's space.

    The place matrices are fixed, orthogonal and turn every `BLOCK` channels among themselves, so that a wider one says
    the same in its first channels; the row vectors, newline and separator are learned.
    """

    def __init__(self, width: int, *, seed: int = 0) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        blocks = [min(BLOCK, width - start) for start in range(0, width, BLOCK)]
        turns = [torch.linalg.qr(torch.randn(SLOTS, n, n, generator=generator))[0] for n in blocks]
        self.register_buffer("turns", torch.stack([torch.block_diag(*place) for place in zip(*turns, strict=True)]))
        self.rows = nn.Parameter(torch.randn(2, width, generator=generator) * 0.3 * width**-0.5)
        self.marks = nn.Parameter(torch.randn(2, width, generator=generator) * width**-0.5)

    def grown(self, found: dict[str, Tensor]) -> dict[str, Tensor]:
        """Learned vectors of a narrower one for this one; its further channels say nothing yet."""
        return {k: nn.functional.pad(v, (0, self.rows.shape[1] - v.shape[1])) for k, v in found.items()}

    def forward(self, chars: Tensor, rows: Tensor, marks: Tensor, embedding: Tensor, *, noise: float) -> Tensor:
        """(B, N, SLOTS), (B, N, 2), (B, N) and the token embedding matrix (V, D) -> (B, N, D)."""
        letters = embedding[chars % SPACE + FIRST_ID] * (chars > 0)[..., None]  # (B, N, SLOTS, D)
        x = torch.einsum("bnsd,sde->bne", letters, self.turns) + rows.to(letters.dtype) @ self.rows
        x = x + torch.randn_like(x) * noise * x.shape[-1] ** -0.5
        learned = torch.cat([torch.zeros_like(self.marks[:1]), self.marks])  # (3, D)
        return torch.where((marks > 0)[..., None], learned[marks], x)


assert TILE == SIDE * TOKEN
