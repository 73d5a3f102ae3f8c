"""Projector merge, from 576 patches to 144 tokens: the three variants compared in the paper (table 9; spec d).

    concat        the four patches of a 2 x 2 square side by side on the channels, nothing learned (as published)
    c_abstractor  convolutions around a 2 x 2 mean (Honeybee, section 3)
    resampler     one learned query a token, attending to its tile (Qwen-VL, section 2)

All have one contract: (N, P, C) -> (N, P / 4, 4 C), row-major on both sides, each tile alone; so the newline and
separator vectors, the projector and the token counts do not depend on the choice.

Legend: N tiles, P = s * s patches, C width of the vision tower.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import nn

if TYPE_CHECKING:
    from ixc.model.configuration import IxcVisionConfig

SIDE = 2
"""Patches on a side of the square that becomes one token."""


class Concat(nn.Module):
    """Concatenate the channels of 2 x 2 patches in the order top-left, top-right, bottom-left, bottom-right."""

    def __init__(self, config: IxcVisionConfig) -> None:
        super().__init__()
        self.side = config.patches_per_side

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        tiles, _, width = x.shape
        half = self.side // SIDE
        x = x.view(tiles, half, SIDE, half, SIDE, width)  # (N, row, dy, column, dx, C)
        return x.permute(0, 1, 3, 2, 4, 5).reshape(tiles, half * half, SIDE * SIDE * width)


class ConvBlock(nn.Module):
    """Residual block with one depth-wise 3 x 3 convolution between two point-wise ones. (N, C, s, s) -> the same"""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(1, width)
        self.widen = nn.Conv2d(width, width, 1)
        self.mix = nn.Conv2d(width, width, 3, padding=1, groups=width)
        self.narrow = nn.Conv2d(width, width, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.narrow(F.silu(self.mix(F.silu(self.widen(self.norm(x))))))


class CAbstractor(nn.Module):
    """C-Abstractor: convolutions, a mean over 2 x 2 squares, convolutions, then a map to 4 C channels."""

    DEPTH = 3

    def __init__(self, config: IxcVisionConfig) -> None:
        super().__init__()
        width = config.hidden_size
        self.side = config.patches_per_side
        self.before = nn.Sequential(*(ConvBlock(width) for _ in range(self.DEPTH)))
        self.after = nn.Sequential(*(ConvBlock(width) for _ in range(self.DEPTH)))
        self.out = nn.Linear(width, SIDE * SIDE * width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        tiles, _, width = x.shape
        x = x.transpose(1, 2).contiguous().view(tiles, width, self.side, self.side)  # channels last crashes backward
        x = self.after(F.avg_pool2d(self.before(x), SIDE))
        return self.out(x.flatten(2).transpose(1, 2))  # (N, P / 4, 4 C)


class ReSampler(nn.Module):
    """Resampler: learned queries, one a token, attend once to all patches of their tile with learned positions."""

    def __init__(self, config: IxcVisionConfig) -> None:
        super().__init__()
        width, side = config.hidden_size, config.patches_per_side
        self.heads = config.num_attention_heads
        self.queries = nn.Parameter(torch.randn((side // SIDE) ** 2, width) * width**-0.5)
        self.places = nn.Parameter(torch.zeros(side * side, width))
        self.norm = nn.LayerNorm(width)
        self.q_proj, self.k_proj, self.v_proj = (nn.Linear(width, width) for _ in range(3))
        self.out = nn.Linear(width, SIDE * SIDE * width)

    def reset_own_parameters(self) -> None:
        from transformers import initialization as init

        init.normal_(self.queries, mean=0.0, std=self.queries.shape[-1] ** -0.5)
        init.zeros_(self.places)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.norm(x)
        q = self.q_proj(self.queries).expand(x.shape[0], -1, -1)
        q, k, v = (self._heads(part) for part in (q, self.k_proj(x + self.places), self.v_proj(x)))
        y = F.scaled_dot_product_attention(q, k, v)  # (N, H, P / 4, C / H)
        return self.out(y.transpose(1, 2).flatten(2))

    def _heads(self, x: torch.Tensor) -> torch.Tensor:
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)


MERGE: dict[str, Callable[[IxcVisionConfig], nn.Module]] = {
    "concat": Concat,
    "c_abstractor": CAbstractor,
    "resampler": ReSampler,
}
"""Name in the configuration -> class, called as ``MERGE[config.merge](config.vision_config)``."""
