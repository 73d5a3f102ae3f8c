"""A vision encoder of twice the width that computes what the narrow one does, and goes on learning with all of it.

Every channel is doubled, so the norms see the same mean and variance. What reads a pair of channels takes half of the
old weight from each plus noise of opposite signs: the noise cancels while the two are equal, and sets their gradients
apart (Chen et al. 2016, arXiv 1511.05641, with antisymmetric noise).

Shapes: (out, in) -> (2 out, 2 in) for maps, (n,) -> (2 n,) for biases, norms and positions.
"""

from __future__ import annotations

import torch
from torch import Tensor

READS = ("q_proj.weight", "k_proj.weight", "v_proj.weight", "out_proj.weight", "fc1.weight", "fc2.weight")
"""Ends of the names of maps that read doubled channels; the patch embedding reads pixels."""
NOISE = 0.5
"""Deviation of the noise as a share of the root mean square of the halved weights."""


def doubled_encoder(weights: dict[str, Tensor], *, seed: int, noise: float = NOISE) -> dict[str, Tensor]:
    """Weights of a `VisionTower` -> those of one with twice the width, heads and MLP units."""
    generator = torch.Generator().manual_seed(seed)
    return {name: _doubled(name, value, generator, noise) for name, value in weights.items()}


def _doubled(name: str, value: Tensor, generator: torch.Generator, noise: float) -> Tensor:
    if name.endswith(READS):
        half = torch.cat([value, value]) / 2
        added = torch.randn(half.shape, generator=generator) * noise * half.square().mean().sqrt()
        return torch.cat([half + added, half - added], 1)
    if name.endswith("position_embedding.weight"):
        return torch.cat([value, value], 1)
    return torch.cat([value, value])


__all__ = ["doubled_encoder"]
