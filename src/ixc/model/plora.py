"""Partial LoRA: a linear map with a low-rank addition that only image tokens see (InternLM-XComposer2, section 3.2).

    y = W x                                         for every token
    y = W x + (alpha / r) * B A dropout(x)          for image tokens

Three plain ``nn.Linear`` side by side and no subclass of Linear: quantisers and serving engines replace every
``nn.Linear`` they find, and a subclass would lose its addition to them without a word.

Shapes: B batch, T tokens, r rank.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn


class PLoRALinear(nn.Module):
    """``base`` (in -> out), ``Plora_A`` (in -> r) and ``Plora_B`` (r -> out), none with a bias.

    Args:
        in_features, out_features: widths.
        r: rank of the addition, at least 1.
        alpha: numerator of its scale, alpha / r.
        dropout: probability on the input of the addition, in training only (0.05 as published).
    """

    def __init__(self, in_features: int, out_features: int, *, r: int, alpha: float, dropout: float = 0.0) -> None:
        super().__init__()
        self.base = nn.Linear(in_features, out_features, bias=False)
        self.Plora_A = nn.Linear(in_features, r, bias=False)
        self.Plora_B: Any = nn.Linear(r, out_features, bias=False)
        # Children are drawn before parents, each by its own kind: the zero start is a property of the child.
        self.Plora_B.starts_at_zero = True
        nn.init.zeros_(self.Plora_B.weight)
        self.dropout = nn.Dropout(dropout)
        self.scaling = alpha / r

    def forward(self, x: torch.Tensor, image_mask: torch.Tensor | None) -> torch.Tensor:
        """Maps tokens.

        Args:
            x: (B, T, in).
            image_mask: bool (B, T), True at image tokens; None says that there are none, and saves the work.

        Returns:
            (B, T, out).
        """
        y = self.base(x)
        if image_mask is None:
            return y
        low = self.Plora_A(self.dropout(x))  # (B, T, r)
        # Masked in rank space: a text token adds exact zeros, no index is gathered, nothing waits for the device.
        low = low * (image_mask.unsqueeze(-1) * self.scaling).to(low.dtype)
        return y + self.Plora_B(low)
