"""Dispatch to the attention kernels (eager, sdpa, flash, flex); the configuration chooses.

Shapes: B batch, H query heads, K key heads (H a multiple of K), T queries, S keys, D head width.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from ixc.model.kernels import many_queries, ops
from ixc.model.sizes import PLAIN


def eager_attention(
    module: nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float,
    dropout: float = 0.0,
    **kwargs: Any,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Compute attention step by step: softmax in float32; the (B, H, T, S) weights are materialized and returned.

    ``attention_mask`` is additive, or bool with True where a query may attend; None masks nothing.
    """
    groups = query.shape[1] // key.shape[1]
    key, value = (x.repeat_interleave(groups, dim=1) if groups > 1 else x for x in (key, value))
    scores = query @ key.transpose(-1, -2) * scaling  # (B, H, T, S)
    if attention_mask is not None and attention_mask.dtype == torch.bool:
        scores = scores.masked_fill(~attention_mask, torch.finfo(scores.dtype).min)
    elif attention_mask is not None:
        scores = scores + attention_mask
    weights = F.softmax(scores, dim=-1, dtype=torch.float32).to(query.dtype)
    weights = F.dropout(weights, p=dropout, training=module.training)
    return (weights @ value).transpose(1, 2), weights  # (B, T, H, D)


def attend(
    module: Any,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    *,
    mask: torch.Tensor | None,
    dropout: float,
    **kwargs: Any,
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Run the kernel named by ``module.config``.

    Args:
        module: the attention module; its ``config``, ``is_causal``, ``head_dim`` and ``training`` are read.
        query: (B, H, T, D).
        key, value: (B, K, S, D).
        mask: as ``eager_attention``; None with ``is_causal`` lets the kernel apply the causal mask without a matrix.
        dropout: probability on the weights, in training only.

    Returns:
        (B, T, H, D), and the attention weights where the kernel returns them, else None.
    """
    name = module.config._attn_implementation
    chance = dropout if module.training else 0.0
    if name in ("sdpa", PLAIN) and query.shape[2] == 1 and query.shape[1] > key.shape[1] and not chance:
        return _one_query(query, key, value, mask, scaling=module.head_dim**-0.5), None
    causal = bool(kwargs.get("is_causal", module.is_causal))
    if (
        name in ("sdpa", PLAIN)
        and mask is None
        and not chance
        and (not causal or query.shape[2] == key.shape[2])
        and many_queries.usable(query, key, value)
    ):
        return many_queries.attend_many(query, key, value, causal=causal), None
    if name == PLAIN:
        return _plain(module, query, key, value), None
    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS  # imported here: standalone.py runs without it

    kernel = ALL_ATTENTION_FUNCTIONS.get_interface(name, eager_attention)
    return kernel(module, query, key, value, mask, dropout=chance, scaling=module.head_dim**-0.5, **kwargs)


def _plain(module: Any, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
    """Make the torch call that the "sdpa" kernel of transformers makes where there is no mask. -> (B, T, H, D)"""
    causal = module.is_causal and query.shape[2] > 1
    grouped = query.shape[1] > key.shape[1]
    found = F.scaled_dot_product_attention(
        query, key, value, is_causal=causal, scale=module.head_dim**-0.5, enable_gqa=grouped
    )
    return found.transpose(1, 2).contiguous()


def _one_query(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, mask: torch.Tensor | None, *, scaling: float
) -> torch.Tensor:
    """Attend in a decode step: query heads that share a key head become its queries. -> (B, 1, H, D)

    The keys are read once. Repeating them for each query head, as the general kernel does under a mask, copies the
    whole cache in every step.
    """
    batch, heads, _, width = query.shape
    grouped = query.reshape(batch, key.shape[1], -1, width)  # (B, K, H / K, D)
    if mask is None and scaling == width**-0.5 and ops.can_attend(grouped, key, value):
        return ops.attend_one(grouped, key, value).reshape(batch, 1, heads, width)
    found = F.scaled_dot_product_attention(grouped, key, value, attn_mask=mask, scale=scaling)
    return found.reshape(batch, 1, heads, width)
