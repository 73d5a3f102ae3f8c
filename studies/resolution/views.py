"""Views of a page: partition and tiles at a setting, ground-truth glyph tokens, and the order of image tokens.

original, native, fit   the package's partitions
anyres                  LLaVA-NeXT's any-resolution rule (Liu et al. 2024) with every grid of at most `hd` tiles:
                        of all grids the one that keeps the most pixels, of equals the one with the least padding;
                        the image is centred in it, and rows and columns of tokens that hold only padding are
                        left out of the sequence. Its overview has no newlines, and no separator follows it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ixc.core.tiling import Partition, partition
from ixc.core.token_layout import num_image_tokens
from ixc.model.image_features import all_views, assemble, mosaic
from ixc.nano.data.glyph_tokens import SLOTS, TOKEN, GlyphTokens, joined, page_grids, with_newlines
from ixc.processing.canvas import resize_to_canvas, tiles
from ixc.synth.page import DrawnPage
from studies.resolution.pages import paint
from studies.resolution.scale import LEGIBLE, SIDE, TILE

ANYRES = "anyres"


@dataclass(frozen=True, kw_only=True)
class View:
    """A setting: HD-n and partition."""

    hd: int
    """Largest number of tiles."""
    rule: str = "original"
    """Partition of `ixc.core.tiling`, or `anyres`."""

    @property
    def name(self) -> str:
        """Name in files: `original-25`."""
        return f"{self.rule}-{self.hd}"

    def place(self, width: int, height: int) -> Partition:
        """Partition of a page of this size."""
        if self.rule == ANYRES:
            return anyres(width, height, hd=self.hd)
        return partition(width, height, hd=self.hd, rule=self.rule, tile=TILE)


def anyres(width: int, height: int, *, hd: int) -> Partition:
    """Partition by LLaVA-NeXT's rule with at most `hd` tiles, the image centred in the grid."""
    best = (-1, 0)
    chosen = (1, 1, width, height)
    for rows in range(1, hd + 1):
        for columns in range(1, hd // rows + 1):
            scale = min(columns * TILE / width, rows * TILE / height)
            wide, high = max(1, int(width * scale)), max(1, int(height * scale))
            kept = min(wide * high, width * height)
            score = (kept, kept - rows * columns * TILE * TILE)
            if score > best:
                best, chosen = score, (rows, columns, wide, high)
    rows, columns, wide, high = chosen
    left, top = (columns * TILE - wide) // 2, (rows * TILE - high) // 2
    return Partition(
        width=width, height=height, hd=hd, rule=ANYRES, tile=TILE, transposed=False,
        resized_width=wide, resized_height=high, pad_left=left, pad_top=top,
        pad_right=columns * TILE - wide - left, pad_bottom=rows * TILE - high - top, grid_h=rows, grid_w=columns,
    )  # fmt: skip


def shown(page: DrawnPage, place: Partition) -> Tensor:
    """Render overview and tiles, normalised: (1 + h * w, 3, 112, 112)."""
    cut = torch.from_numpy(tiles(resize_to_canvas(paint(page), partition=place), tile=TILE))
    return all_views(cut, [(place.grid_h, place.grid_w)], with_overview=True)


def written(page: DrawnPage, place: Partition) -> np.ndarray:
    """Characters and rows of every token of overview and tiles: (1 + h * w, 16, SLOTS + 2).

    Codes, 0 = no character; then 1 where a character is in the upper, in the lower row of patches.
    """
    view, local = (np.concatenate(grid, -1) for grid in page_grids(page, place, side=SIDE, legible=LEGIBLE))
    cut = local.reshape(place.grid_h, SIDE, place.grid_w, SIDE, -1).transpose(0, 2, 1, 3, 4)
    return np.concatenate([view[None], cut.reshape(-1, SIDE, SIDE, cut.shape[-1])]).reshape(-1, SIDE * SIDE, SLOTS + 2)


def glyph_tokens(page: DrawnPage, place: Partition, *, newline: bool, overview: bool) -> GlyphTokens:
    """Glyph tokens of a page in the model's order with these switches; any-resolution pages in their own."""
    view, local = page_grids(page, place, side=SIDE, legible=LEGIBLE)
    if place.rule == ANYRES:
        top, bottom, left, right = unpadded(place)
        local = (local[0][top:bottom, left:right], local[1][top:bottom, left:right])
        return joined(with_newlines(*view, newline=False), with_newlines(*local, newline=newline), separator=False)
    rest = with_newlines(*local, newline=newline)
    return joined(with_newlines(*view, newline=newline), rest) if overview else rest


def tokens(place: Partition, *, newline: bool, overview: bool) -> int:
    """Number of image tokens of a page with these switches."""
    if place.rule == ANYRES:
        top, bottom, left, right = unpadded(place)
        return SIDE * SIDE + (bottom - top) * (right - left + newline)
    return num_image_tokens(place.grid_h, place.grid_w, side=SIDE, newline=newline, overview=overview)


def unpadded(place: Partition) -> tuple[int, int, int, int]:
    """Rows and columns of tokens with more than padding: (top, bottom, left, right), ends excluded."""
    return (
        place.pad_top // TOKEN,
        SIDE * place.grid_h - place.pad_bottom // TOKEN,
        place.pad_left // TOKEN,
        SIDE * place.grid_w - place.pad_right // TOKEN,
    )


def sequence(seen: Tensor, place: Partition, *, newline: Tensor | None, separator: Tensor | None) -> Tensor:
    """Arrange the image tokens of one page in the model's order.

    Args:
        seen: (1 + h * w, 16, D), the overview first.
        place: the partition.
        newline: (D,), or None for none.
        separator: (D,), or None for none; the overview is then left out too, except for any-resolution.

    Returns:
        (N, D).
    """
    grid = (place.grid_h, place.grid_w)
    if place.rule != ANYRES:
        kept = seen if separator is not None else seen[1:]
        return assemble(kept, [grid], newline=newline, separator=separator)[0]
    top, bottom, left, right = unpadded(place)
    rows = mosaic(seen[1:], grid, None).unflatten(0, (SIDE * place.grid_h, -1))[top:bottom, left:right]
    if newline is not None:
        rows = torch.cat([rows, newline.expand(len(rows), 1, -1)], 1)
    return torch.cat([seen[0], rows.flatten(0, 1)])
