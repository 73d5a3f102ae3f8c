"""Layers of the vision encoder in torch alone: embeddings, attention, MLP, blocks (paper, section 3.1; spec c).

    pixels (N, 3, S, S) -> patches (N, P, C) -> [class] + patches + positions -> L blocks -> (N, 1 + P, C)

As in ``blocks.py``, nothing here imports transformers; ``vision.py`` adapts these layers to its contracts.

Legend: N tiles, S = 336 px, P = 24 * 24 = 576 patches of 14 px, C width (1024), H heads, D = C / H.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import nn

from ixc.errors import UsageError
from ixc.model.attention import attend
from ixc.model.linear import linear

if TYPE_CHECKING:
    from ixc.model.configuration import IxcVisionConfig

ROWS_PER_PASS = 64
"""Rows activated together without gradients: 1 MB at the published widths, which stays in a core's cache."""


def quick_gelu(x: torch.Tensor) -> torch.Tensor:
    """Compute OpenAI's x * sigmoid(1.702 x); in place where no gradient is needed."""
    if torch.is_grad_enabled() or torch.compiler.is_compiling():
        return x * torch.sigmoid(1.702 * x)
    # In place and in parts that stay in the core's cache: allocating new pages costs more than the arithmetic.
    for rows in x.view(-1, x.shape[-1]).split(ROWS_PER_PASS):
        rows.mul_(torch.sigmoid_(1.702 * rows))
    return x


ACTIVATIONS = {"quick_gelu": quick_gelu, "gelu": F.gelu}


class VisionEmbeddings(nn.Module):
    """Patches, a class token and learned positions."""

    def __init__(self, config: IxcVisionConfig) -> None:
        super().__init__()
        self.side = config.patches_per_side
        self.patch_embedding = nn.Conv2d(
            config.num_channels,
            config.hidden_size,
            kernel_size=config.patch_size,
            stride=config.patch_size,
            bias=False,
        )
        self.class_embedding = nn.Parameter(torch.randn(config.hidden_size))
        self.position_embedding = nn.Embedding(self.side**2 + 1, config.hidden_size)

    def reset_own_parameters(self) -> None:
        from transformers import initialization as init

        init.normal_(self.class_embedding, mean=0.0, std=self.class_embedding.shape[0] ** -0.5)

    def forward(self, pixel_values: torch.Tensor, window: torch.Tensor | None) -> torch.Tensor:
        patches = self.patch_embedding(pixel_values.to(self.patch_embedding.weight.dtype))
        patches = patches.flatten(2).transpose(1, 2)  # (N, P, C)
        table = self.position_embedding.weight
        positions = table[1:] if window is None else table[1:][window]  # (P, C) or (N, P, C)
        if positions.shape[-2] != patches.shape[1]:
            raise UsageError(
                f"pixels give {patches.shape[1]} patches a tile but there are {positions.shape[-2]} positions; "
                f"give whole tiles of {self.side} x {self.side} patches, or window= with one index a patch"
            )
        first = (self.class_embedding + table[0]).expand(patches.shape[0], 1, -1)
        return torch.cat([first, patches + positions], dim=1)  # (N, 1 + P, C)


class VisionAttention(nn.Module):
    """Bidirectional attention among the patches of one tile."""

    is_causal = False

    def __init__(self, config: IxcVisionConfig) -> None:
        super().__init__()
        width = config.hidden_size
        self.config = config
        self.head_dim = width // config.num_attention_heads
        self.dropout = config.attention_dropout
        self.q_proj = nn.Linear(width, width)
        self.k_proj = nn.Linear(width, width)
        self.v_proj = nn.Linear(width, width)
        self.out_proj = nn.Linear(width, width)

    def forward(self, x: torch.Tensor, **kwargs: Any) -> tuple[torch.Tensor, torch.Tensor | None]:
        shape = (*x.shape[:2], -1, self.head_dim)
        q, k, v = (linear(proj, x).view(shape).transpose(1, 2) for proj in (self.q_proj, self.k_proj, self.v_proj))
        y, weights = attend(self, q, k, v, mask=None, dropout=self.dropout, is_causal=False, **kwargs)
        return linear(self.out_proj, y.reshape(x.shape)), weights


class VisionMLP(nn.Module):
    """Two linear maps with an activation between."""

    def __init__(self, config: IxcVisionConfig) -> None:
        super().__init__()
        self.fc1 = nn.Linear(config.hidden_size, config.intermediate_size)
        self.fc2 = nn.Linear(config.intermediate_size, config.hidden_size)
        self.act = ACTIVATIONS[config.hidden_act]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return linear(self.fc2, self.act(linear(self.fc1, x)))


class VisionBlock(nn.Module):
    """Pre-norm transformer block."""

    def __init__(self, config: IxcVisionConfig) -> None:
        super().__init__()
        self.layer_norm1 = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.self_attn = VisionAttention(config)
        self.layer_norm2 = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.mlp = VisionMLP(config)

    def forward(self, x: torch.Tensor, **kwargs: Any) -> torch.Tensor:
        x = x + self.self_attn(self.layer_norm1(x), **kwargs)[0]
        return x + self.mlp(self.layer_norm2(x))


class VisionEncoder(nn.Module):
    """The stack of blocks; a module of its own because the published keys say ``encoder.layers``."""

    def __init__(self, config: IxcVisionConfig, block: type[VisionBlock] = VisionBlock) -> None:
        super().__init__()
        self.layers = nn.ModuleList([block(config) for _ in range(config.num_hidden_layers)])

    def forward(self, x: torch.Tensor, **kwargs: Any) -> torch.Tensor:
        for layer in self.layers:
            x = layer(x, **kwargs)
        return x
