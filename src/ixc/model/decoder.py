"""The reader: InternLM2 with a Partial LoRA on every linear map (paper, section 3.1; spec g and h).

    h = tok_embeddings(ids)                           (B, T, C), image rows replaced by the caller
    h += wo(attention(wqkv(norm(h))))                 both PLoRA, told the image mask
    h += w2(silu(w1(n)) * w3(n)),  n = norm(h)        all three PLoRA, told the image mask
    last_hidden_state = norm(h)

``wqkv`` stays fused as published: its rows are, for each key head, its query heads, one key head, one value head; so
it is sharded by key head and loaded and saved without a split. Rotary angles are computed from the positions in every
call: there is no buffer that loading could spoil.

Legend: B batch, T tokens, C width (4096), H query heads (32), K key heads (8), D = C / H (128).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from transformers import Cache, DynamicCache
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.modeling_outputs import BaseModelOutputWithPast
from transformers.utils.output_capturing import capture_outputs

from ixc.errors import UsageError
from ixc.model import blocks
from ixc.model.base import IxcPreTrainedModel
from ixc.model.blocks import Attention, RMSNorm
from ixc.model.configuration import IxcTextConfig
from ixc.model.plora import Places
from ixc.model.rope import rotary
from ixc.model.transformers_contract import CACHE_NAME, causal_mask, one_cache


class TextBlock(GradientCheckpointingLayer, blocks.TextBlock):
    """The block with the contract of activation checkpointing."""


class Decoder(IxcPreTrainedModel):
    """InternLM2 without its output head. See the head of the file."""

    config: IxcTextConfig
    config_class = IxcTextConfig
    base_model_prefix = "language_model"
    input_modalities = ["text"]  # noqa: RUF012
    _can_record_outputs = {"hidden_states": TextBlock, "attentions": Attention}  # noqa: RUF012

    def __init__(self, config: IxcTextConfig) -> None:
        super().__init__(config)
        self.tok_embeddings = nn.Embedding(config.vocab_size, config.hidden_size, padding_idx=config.pad_token_id)
        self.layers = nn.ModuleList([TextBlock(config, index) for index in range(config.num_hidden_layers)])
        self.norm = RMSNorm(config.hidden_size, eps=config.rms_norm_eps)
        self.post_init()

    def get_input_embeddings(self) -> nn.Module:
        return self.tok_embeddings

    def set_input_embeddings(self, value: nn.Module) -> None:
        self.tok_embeddings = value

    @capture_outputs
    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        *,
        inputs_embeds: torch.Tensor | None = None,
        image_mask: Places = None,
        mm_token_type_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        position_ids: torch.Tensor | None = None,
        cache: Cache | None = None,
        past_key_values: Cache | None = None,
        use_cache: bool | None = None,
        **kwargs: Any,
    ) -> BaseModelOutputWithPast:
        """Reads tokens.

        Args:
            input_ids: (B, T) long, text only (no token is then an image's); or
            inputs_embeds: (B, T, C) with ``image_mask`` (bool (B, T), or spans as in ``plora.py``) or
                ``mm_token_type_ids`` (B, T), 1 = image.
            attention_mask: (B, S) with 0 at padding, or (B, 1, T, S) bool or additive, taken as it is.
            position_ids: (B, T) long; default: counting on from the cache.
            cache: keys and values of earlier tokens; past_key_values: its name before transformers 5.24.
            use_cache: whether to keep keys and values (default: the config's, never in training).

        Returns:
            last_hidden_state (B, T, C) after the final norm, keys and values, and on request hidden_states.

        Raises:
            UsageError: embeddings came without saying which of them are image tokens; a cache came twice, or under a
                name that is not read.
        """
        cache = one_cache(cache, past_key_values, kwargs)
        image_mask = _image_mask(inputs_embeds, image_mask, mm_token_type_ids)
        hidden = self.tok_embeddings(input_ids) if inputs_embeds is None else inputs_embeds
        use_cache = self.config.use_cache and not self.training if use_cache is None else use_cache
        if use_cache and cache is None:
            cache = DynamicCache(config=self.config)
        if position_ids is None:
            position_ids = _positions(hidden, cache)
        mask = causal_mask(self.config, hidden, attention_mask=attention_mask, cache=cache, position_ids=position_ids)
        angles = rotary(self.config, position_ids, dtype=hidden.dtype)
        for layer in self.layers:
            hidden = layer(
                hidden,
                image_mask=image_mask,
                attention_mask=mask,
                position_embeddings=angles,
                position_ids=position_ids,
                # By the library's own name: GradientCheckpointingLayer takes the cache away from blocks whose
                # activations are recomputed, and knows it by that name only.
                **{CACHE_NAME: cache},
                **kwargs,
            )
        named: dict[str, Any] = {CACHE_NAME: cache}
        return BaseModelOutputWithPast(last_hidden_state=self.norm(hidden), **named)


def _positions(embeds: torch.Tensor, cache: Cache | None) -> torch.Tensor:
    """0, 1, 2, ... continued behind what the cache holds; (1, T)."""
    seen = cache.get_seq_length() if cache is not None else 0
    return (torch.arange(embeds.shape[1], device=embeds.device) + seen).unsqueeze(0)


def _image_mask(embeds: torch.Tensor | None, image_mask: Places, types: torch.Tensor | None) -> Places:
    """Where the image tokens are; None where spans say that there are none. A mask is not asked: that would wait."""
    if image_mask is None and types is not None:
        image_mask = types == 1
    if embeds is None and image_mask is None:
        return None
    if image_mask is None:
        raise UsageError(
            "inputs_embeds came without image_mask or mm_token_type_ids, so PLoRA would be off without a word; "
            "pass mm_token_type_ids of shape (B, T) with 1 at image tokens, all zeros for text"
        )
    return image_mask if isinstance(image_mask, torch.Tensor) else image_mask or None


__all__ = ["Decoder"]
