"""Differences of the contract of transformers within the range this package supports (5.18 to 5.x).

Each difference is detected on the object that has it, not by a version number, so that a release between two tested
ones, or a later one that keeps a name, works without a change here.

    5.20.0  generate slices mm_token_type_ids itself; before, a step received the mask of the whole sequence.
            Bridged in IxcGenerative.prepare_inputs_for_generation, whose slice changes nothing on later releases.
    5.23.0  gradient_checkpointing* became activation_checkpointing* on models; the old names warn.
            Bridged by enable_activation_checkpointing.
    5.24.0  past_key_values became cache in generate, forward, masks, layers and outputs.
            Bridged by CACHE_NAME, one_cache, cache_in, cache_of and causal_mask.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

import torch
from torch import nn
from transformers import Cache
from transformers.masking_utils import create_causal_mask
from transformers.modeling_outputs import CausalLMOutputWithPast

from ixc.errors import UsageError

CACHE_NAME = "cache" if "cache" in {field.name for field in fields(CausalLMOutputWithPast)} else "past_key_values"
"""Name of keys and values in the installed transformers: ``cache`` since 5.24.0, ``past_key_values`` before."""

CACHE_NAMES = ("cache", "past_key_values")
"""Both names; ``forward`` and ``generate`` of this package accept either on every release."""

_OTHER_CACHE_NAMES = frozenset({"cache_params", "past_key_value", "layer_past", "past", "past_buckets_states", "mems"})
"""Names of caches in other releases and models."""


def one_cache(cache: Any, past_key_values: Any, others: Mapping[str, Any]) -> Any:
    """Return the keys and values of a call, given under either of their two names.

    Args:
        cache, past_key_values: values of the two arguments.
        others: the call's further keyword arguments.

    Returns:
        The one that was given, or None.

    Raises:
        UsageError: both were given, or another name holds a cache. Swallowed by ``**kwargs``, it would silently leave
            every generated token without context.
    """
    if cache is not None and past_key_values is not None:
        raise UsageError("both cache and past_key_values were given; they are two names of one argument, pass one")
    for name, value in others.items():
        if isinstance(value, Cache) or (name in _OTHER_CACHE_NAMES and value is not None):
            raise UsageError(f"{name} is not read here; pass keys and values as {CACHE_NAME}")
    return past_key_values if cache is None else cache


def cache_in(given: Mapping[str, Any]) -> Any:
    """Return the keys and values among keyword arguments, or None."""
    return next((given[name] for name in CACHE_NAMES if given.get(name) is not None), None)


def cache_of(outputs: Any) -> Any:
    """Return the keys and values of a model's outputs, of this package or of transformers."""
    return getattr(outputs, CACHE_NAME)


def causal_mask(
    config: Any,
    embeds: torch.Tensor,
    *,
    attention_mask: torch.Tensor | None,
    cache: Cache | None,
    position_ids: torch.Tensor,
) -> Any:
    """Return the causal mask in the form of the configured attention kernel.

    Args:
        config: of the decoder; its ``_attn_implementation`` decides the form.
        embeds: (B, T, C).
        attention_mask: (B, S) with 0 at padding, or (B, 1, T, S), taken as it is.
        cache: keys and values before the T tokens.
        position_ids: (B, T) long. Several sequences in one row are recognized by positions that restart at 0:
            the packing mask, block-diagonal.
    """
    # By position: the fourth argument is past_key_values up to 5.23 and cache since 5.24.
    return create_causal_mask(config, embeds, attention_mask, cache, position_ids)


def enable_activation_checkpointing(model: nn.Module, **kwargs: Any) -> None:
    """Recompute the activations of the blocks in the backward pass instead of storing them.

    Args:
        model: a model of transformers.
        kwargs: passed to ``torch.utils.checkpoint``, e.g. ``use_reentrant=False``.
    """
    enable: Any = getattr(model, "activation_checkpointing_enable", None)
    if enable is None:  # before 5.23.0
        enable = model.gradient_checkpointing_enable
    enable(kwargs)
