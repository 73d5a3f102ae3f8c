"""Rotary position embeddings from the positions alone (RoFormer; dynamic NTK as in InternLM2; spec h).

No buffer is stored. With ``rope_type`` dynamic, a row whose highest position T - 1 reaches beyond the trained length
M is computed with the base

    base' = base * (factor * T / M - (factor - 1)) ^ (D / (D - 2))

and every other row with ``base``. The original keeps the last grown table even for later, shorter sequences; that is
not reproduced: the result depends on the positions given and on nothing else. As in the original, keys already in the
cache keep the rotation they were written with.

Legend: B batch, T tokens, D head width; angles pair channel i with channel i + D / 2.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from ixc.model.configuration import IxcTextConfig


def inverse_frequencies(config: IxcTextConfig, length: torch.Tensor) -> torch.Tensor:
    """Return radians per position for each channel pair.

    Args:
        config: rope_parameters, head_dim and max_position_embeddings are read.
        length: (B,) long, tokens up to the highest position of each row.

    Returns:
        (B, D / 2) float32.
    """
    width, parameters = config.head_dim, config.rope_parameters
    assert width is not None  # both are filled in by the config itself
    assert parameters is not None
    exponent = torch.arange(0, width, 2, device=length.device).float() / width  # (D / 2,)
    base = torch.full(length.shape, parameters["rope_theta"], dtype=torch.float32, device=length.device)
    if parameters["rope_type"] == "dynamic":
        factor = parameters["factor"]
        growth = factor * length / config.max_position_embeddings - (factor - 1)
        # At or below the trained length the growth is at most 1: the clamp is the "only beyond" of the formula.
        base = base * growth.clamp(min=1.0) ** (width / (width - 2))
    return 1.0 / base[:, None] ** exponent


def rotary(
    config: IxcTextConfig, position_ids: torch.Tensor, *, dtype: torch.dtype
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return cosines and sines, computed in float32 and rounded to ``dtype``.

    Args:
        position_ids: (B, T) long.

    Returns:
        Two of (B, 1, T, D).
    """
    frequencies = inverse_frequencies(config, position_ids.amax(dim=-1) + 1)
    with torch.autocast(device_type=position_ids.device.type, enabled=False):
        angles = position_ids.float()[:, :, None] * frequencies[:, None, :]  # (B, T, D / 2)
        angles = torch.cat([angles, angles], dim=-1).unsqueeze(1)
        return angles.cos().to(dtype), angles.sin().to(dtype)


def rotate(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    """Rotate queries or keys (B, H, T, D) by the angles of their positions."""
    left, right = x.chunk(2, dim=-1)
    return x * cos + torch.cat([-right, left], dim=-1) * sin
