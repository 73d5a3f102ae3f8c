"""From tiles of pixels to the tokens of one image (paper, section 3.2; spec b, d, e, f).

    tiles uint8 (sum h*w, 3, S, S), row-major per image
      -> normalised float32                                     /255, CLIP mean and deviation
      -> overview (3, S, S) of the re-assembled canvas          bicubic, no antialias, no clamp, padding included
      -> vision tower, merge, projector, each tile alone        (1 + h*w, t*t, W)
      -> rows of tokens: overview | separator | whole mosaic, a newline vector after every row        (N, W)

Newline and separator go through the projector once, not once a row.

Legend: h, w grid of tiles, S = 336 px, t = 12 tokens on a tile's side, 4C = 4096, W = 4096 width of the decoder,
N = (h*w + 1) * 144 + 1 + (h + 1) * 12 tokens of one image.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F

from ixc.errors import UsageError

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
"""Mean of red, green, blue in [0, 1] (spec a9)."""

CLIP_STD = (0.26862954, 0.26130258, 0.27577711)
"""Deviation of red, green, blue (spec a9)."""


def normalise(tiles: torch.Tensor) -> torch.Tensor:
    """Convert uint8 pixels (N, 3, S, S) to float32 of about -1.8 to 2.2; floating tiles count as normalised already."""
    if tiles.is_floating_point():
        return tiles.float()
    mean = torch.tensor(CLIP_MEAN, device=tiles.device).view(3, 1, 1)
    std = torch.tensor(CLIP_STD, device=tiles.device).view(3, 1, 1)
    return tiles.float().div_(255).sub_(mean).div_(std)  # in place: one float copy of 4K pixels instead of four


def overview(tiles: torch.Tensor, grid: tuple[int, int]) -> torch.Tensor:
    """Resize the whole canvas to one tile, ignoring its aspect ratio. (h*w, 3, S, S) float32 -> (1, 3, S, S)"""
    rows, columns = grid
    _, channels, height, width = tiles.shape
    canvas = tiles.view(rows, columns, channels, height, width).permute(2, 0, 3, 1, 4)
    canvas = canvas.reshape(1, channels, rows * height, columns * width)
    return F.interpolate(canvas, size=(height, width), mode="bicubic", align_corners=False, antialias=False)


def all_views(pixel_values: torch.Tensor, grids: list[tuple[int, int]], *, with_overview: bool) -> torch.Tensor:
    """Return all inputs of the vision tower: for each image the overview, then its tiles. (V, 3, S, S) float32"""
    check_grids(pixel_values, grids)
    parts: list[torch.Tensor] = []
    for tiles, grid in zip(normalise(pixel_values).split([h * w for h, w in grids]), grids, strict=True):
        parts += [overview(tiles, grid), tiles] if with_overview else [tiles]
    return torch.cat(parts)


def check_grids(pixel_values: torch.Tensor, grids: list[tuple[int, int]]) -> None:
    """Check the number of tiles. Raises: UsageError: the grids ask for another number."""
    needed = sum(rows * columns for rows, columns in grids)
    if needed != pixel_values.shape[0]:
        raise UsageError(
            f"image_grids {grids} ask for {needed} tiles but pixel_values holds {pixel_values.shape[0]}; "
            "give rows x columns of tiles for each image, in order"
        )


def mosaic(tokens: torch.Tensor, grid: tuple[int, int], newline: torch.Tensor | None) -> torch.Tensor:
    """Arrange the tokens of tiles in reading order of the whole image. (h*w, t*t, D) -> (h*t * (w*t [+ 1]), D)

    ``newline``: (D,), appended to every full-width row; None leaves it out.
    """
    rows, columns = grid
    side, width = round(tokens.shape[1] ** 0.5), tokens.shape[-1]
    lines = tokens.view(rows, columns, side, side, width).permute(0, 2, 1, 3, 4)
    lines = lines.reshape(rows * side, columns * side, width)
    if newline is not None:
        lines = torch.cat([lines, newline.expand(rows * side, 1, width)], dim=1)
    return lines.flatten(0, 1)


def assemble(
    tokens: torch.Tensor,
    grids: list[tuple[int, int]],
    *,
    newline: torch.Tensor | None,
    separator: torch.Tensor | None,
) -> list[torch.Tensor]:
    """Put the tokens of each image in order.

    Args:
        tokens: (V, t*t, D) in the order of ``all_views``.
        grids: (rows, columns) of tiles, one an image.
        newline: (D,) or None for none.
        separator: (D,), between overview and tiles; None means there are no overviews.

    Returns:
        One (N, D) an image.
    """
    images, start = [], 0
    for grid in grids:
        parts = []
        if separator is not None:
            parts += [mosaic(tokens[start : start + 1], (1, 1), newline), separator.view(1, -1)]
            start += 1
        count = grid[0] * grid[1]
        images.append(torch.cat([*parts, mosaic(tokens[start : start + count], grid, newline)]))
        start += count
    return images
