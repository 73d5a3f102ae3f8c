"""Ground-truth glyph tokens: visual tokens made from the characters of a page, without pixels (layout pre-training).

A visual token is the sum of its characters' embeddings, each rotated by the matrix of its slot (patch column and rank
inside the patch), plus a vector for the patch row of its line. The projector later learns to produce the same from
pixels.

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
RANKS = 3  # characters distinguished inside one patch
SLOTS = 2 * RANKS
LEGIBLE = 19.0  # font size on the canvas, pixels, below which characters are left out: the tower learns from 18 px
FIRST_ID = 4  # token id of the blank, code 0 (processing/tokenization.py: ids of ASCII begin here)
BLOCK = 128  # channels
NEWLINE, SEPARATOR = 1, 2  # values of `GlyphTokens.special`


@dataclass(frozen=True, kw_only=True)
class GlyphTokens:
    """One image as glyph tokens, in the model's token order."""

    chars: np.ndarray
    """(N, SLOTS) int64 character codes, 0 for none."""
    rows: np.ndarray
    """(N, 2) bool: a character in the upper, in the lower patch row."""
    special: np.ndarray
    """(N,) int64: 0 an image position, 1 a newline, 2 the separator."""


def ranks(groups: np.ndarray) -> np.ndarray:
    """Number the occurrences of each value from 0, in order: (n,) -> (n,) int64."""
    order = np.argsort(groups, kind="stable")
    ordered = groups[order]
    starts = np.r_[True, ordered[1:] != ordered[:-1]]
    first = np.maximum.accumulate(np.where(starts, np.arange(len(groups)), 0))
    result = np.empty(len(groups), np.int64)
    result[order] = np.arange(len(groups)) - first
    return result


def glyph_grid(
    codes: np.ndarray, x: np.ndarray, y: np.ndarray, *, rows: int, columns: int
) -> tuple[np.ndarray, np.ndarray]:
    """Sort characters at pixel positions into a grid: codes (rows, columns, SLOTS), row flags (rows, columns, 2)."""
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
    """Flatten a grid in reading order, with a newline after every row or without any."""
    rows, columns = chars.shape[:2]
    special = np.zeros((rows, columns + newline), np.int64)
    special[:, columns:] = NEWLINE
    return GlyphTokens(
        chars=np.pad(chars, ((0, 0), (0, int(newline)), (0, 0))).reshape(-1, SLOTS),
        rows=np.pad(flags, ((0, 0), (0, int(newline)), (0, 0))).reshape(-1, 2),
        special=special.reshape(-1),
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
"""What `glyph_grid` gives."""


def page_grids(
    page: DrawnPage, place: Partition, *, side: int = SIDE, legible: tuple[float, float] = (LEGIBLE, inf)
) -> tuple[Grid, Grid]:
    """Glyph grids of the overview and of the tiles; characters outside of `legible` canvas pixels are left out."""
    codes, x, y, sizes = seen_on(page, place)
    near = (sizes >= legible[0]) & (sizes <= legible[1])
    local = glyph_grid(codes[near], x[near], y[near], rows=side * place.grid_h, columns=side * place.grid_w)
    shrink_x, shrink_y = 1 / place.grid_w, 1 / place.grid_h
    far = (sizes * min(shrink_x, shrink_y) >= legible[0]) & (sizes * min(shrink_x, shrink_y) <= legible[1])
    return glyph_grid(codes[far], x[far] * shrink_x, y[far] * shrink_y, rows=side, columns=side), local


def joined(view: GlyphTokens, local: GlyphTokens, *, separator: bool = True) -> GlyphTokens:
    """Concatenate overview, separator and tiles."""
    between = int(separator)
    return GlyphTokens(
        chars=np.concatenate([view.chars, np.zeros((between, SLOTS), np.int64), local.chars]),
        rows=np.concatenate([view.rows, np.zeros((between, 2), bool), local.rows]),
        special=np.concatenate([view.special, [SEPARATOR] * between, local.special]).astype(np.int64),
    )


def page_glyph_tokens(page: DrawnPage, *, hd: int, rule: str = "native") -> GlyphTokens:
    """Glyph tokens of a whole page in the model's order: overview, separator, tiles (spec e)."""
    place = partition(page.width, page.height, hd=hd, rule=rule)
    glyph_tokens = joined(*(with_newlines(*grid) for grid in page_grids(page, place)))
    assert len(glyph_tokens.special) == Layout(grid_h=place.grid_h, grid_w=place.grid_w).num_tokens
    return glyph_tokens


class GlyphTokenEmbedding(nn.Module):
    """Embedding of glyph tokens in the language model's space.

    The slot rotations are fixed orthogonal matrices, block-diagonal in `BLOCK` channels. The row vectors, newline and
    separator are learned.
    """

    def __init__(self, width: int, *, seed: int = 0) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        blocks = [min(BLOCK, width - start) for start in range(0, width, BLOCK)]
        rotations = [torch.linalg.qr(torch.randn(SLOTS, n, n, generator=generator))[0] for n in blocks]
        whole = torch.stack([torch.block_diag(*slot) for slot in zip(*rotations, strict=True)])
        self.slot_rotations: Tensor
        self.register_buffer("slot_rotations", whole)  # (SLOTS, D, D)
        self.rows = nn.Parameter(torch.randn(2, width, generator=generator) * 0.3 * width**-0.5)
        self.special_embeddings = nn.Parameter(torch.randn(2, width, generator=generator) * width**-0.5)

    def forward(self, chars: Tensor, rows: Tensor, special: Tensor, embedding: Tensor, *, noise: float) -> Tensor:
        """Embed chars (B, N, SLOTS), rows (B, N, 2), special (B, N) with the token embeddings (V, D) -> (B, N, D)."""
        letters = embedding[chars % SPACE + FIRST_ID] * (chars > 0)[..., None]  # (B, N, SLOTS, D)
        x = torch.einsum("bnsd,sde->bne", letters, self.slot_rotations) + rows.to(letters.dtype) @ self.rows
        x = x + torch.randn_like(x) * noise * x.shape[-1] ** -0.5
        learned = torch.cat([torch.zeros_like(self.special_embeddings[:1]), self.special_embeddings])  # (3, D)
        return torch.where((special > 0)[..., None], learned[special], x)


assert TILE == SIDE * TOKEN
