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
import torch.nn.functional as F
from torch import nn
from transformers import Cache, DynamicCache
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.modeling_outputs import BaseModelOutputWithPast
from transformers.utils.output_capturing import capture_outputs

from ixc.errors import UsageError
from ixc.model.attention import attend
from ixc.model.base import IxcPreTrainedModel, RMSNorm
from ixc.model.config import IxcTextConfig
from ixc.model.plora import Places, PLoRALinear, cut
from ixc.model.rope import rotary, rotate
from ixc.model.transformers_contract import CACHE_NAME, causal_mask, one_cache

TOKENS_AT_ONCE = 1024
"""Tokens that go through the feed-forward together where nothing trains. It bounds the widest activations of a prefill:
2 * 1024 * 14336 numbers at true widths instead of 3 * T * 14336; fewer tokens would slow the products down."""


class Attention(nn.Module):
    """Causal attention with grouped heads."""

    is_causal = True

    def __init__(self, config: IxcTextConfig, layer_idx: int) -> None:
        super().__init__()
        heads, key_heads, width = config.num_attention_heads, config.num_key_value_heads, config.head_dim
        assert key_heads is not None  # both are filled in by the config itself
        assert width is not None
        self.config, self.layer_idx, self.head_dim = config, layer_idx, width
        self.num_key_value_groups = heads // key_heads
        self.dropout = config.attention_dropout
        chance = config.plora_dropout
        rank = {"r": config.plora_r, "alpha": config.plora_alpha}
        qkv_rank = {"r": config.plora_qkv_r, "alpha": config.plora_qkv_alpha}
        self.wqkv = PLoRALinear(config.hidden_size, (heads + 2 * key_heads) * width, **qkv_rank, dropout=chance)
        self.wo = PLoRALinear(heads * width, config.hidden_size, **rank, dropout=chance)

    def forward(
        self,
        x: torch.Tensor,
        *,
        image_mask: Places,
        attention_mask: torch.Tensor | None,
        position_embeddings: tuple[torch.Tensor, torch.Tensor],
        cache: Cache | None = None,
        past_key_values: Cache | None = None,
        **kwargs: Any,
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        cache = one_cache(cache, past_key_values, kwargs)
        batch, length, _ = x.shape
        fused = self.wqkv(x, image_mask)
        fused = fused.view(batch, length, -1, self.num_key_value_groups + 2, self.head_dim)  # (B, T, K, H/K + 2, D)
        q, k, v = fused.split([self.num_key_value_groups, 1, 1], dim=3)
        q, k, v = (part.flatten(2, 3).transpose(1, 2) for part in (q, k, v))  # (B, H or K, T, D)
        q, k = rotate(q, *position_embeddings), rotate(k, *position_embeddings)
        if cache is not None:
            k, v = cache.update(k, v, self.layer_idx)
        y, weights = attend(self, q, k, v, mask=attention_mask, dropout=self.dropout, **kwargs)
        return self.wo(y.reshape(batch, length, -1), image_mask), weights


class FeedForward(nn.Module):
    """Gated feed-forward: w2(silu(w1) * w3)."""

    def __init__(self, config: IxcTextConfig) -> None:
        super().__init__()
        rank = {"r": config.plora_r, "alpha": config.plora_alpha, "dropout": config.plora_dropout}
        self.w1 = PLoRALinear(config.hidden_size, config.intermediate_size, **rank)
        self.w3 = PLoRALinear(config.hidden_size, config.intermediate_size, **rank)
        self.w2 = PLoRALinear(config.intermediate_size, config.hidden_size, **rank)

    def forward(self, x: torch.Tensor, image_mask: Places) -> torch.Tensor:
        if torch.is_grad_enabled() or torch.compiler.is_compiling():
            return self.w2(F.silu(self.w1(x, image_mask)) * self.w3(x, image_mask), image_mask)
        if x.shape[1] <= TOKENS_AT_ONCE:
            return self._gated(x, image_mask)
        out = torch.empty_like(x)
        for start in range(0, x.shape[1], TOKENS_AT_ONCE):
            stop = min(start + TOKENS_AT_ONCE, x.shape[1])
            out[:, start:stop] = self._gated(x[:, start:stop], _part(image_mask, start, stop))
        return out

    def _gated(self, x: torch.Tensor, image_mask: Places) -> torch.Tensor:
        """The same numbers with the activation and the product in place: two copies of F channels and no more."""
        gate = F.silu(self.w1(x, image_mask), inplace=True)
        return self.w2(gate.mul_(self.w3(x, image_mask)), image_mask)


class TextBlock(GradientCheckpointingLayer):
    """Pre-norm transformer block."""

    def __init__(self, config: IxcTextConfig, layer_idx: int) -> None:
        super().__init__()
        self.attention = Attention(config, layer_idx)
        self.feed_forward = FeedForward(config)
        self.attention_norm = RMSNorm(config.hidden_size, eps=config.rms_norm_eps)
        self.ffn_norm = RMSNorm(config.hidden_size, eps=config.rms_norm_eps)

    def forward(self, x: torch.Tensor, *, image_mask: Places, **kwargs: Any) -> torch.Tensor:
        x = x + self.attention(self.attention_norm(x), image_mask=image_mask, **kwargs)[0]
        return x + self.feed_forward(self.ffn_norm(x), image_mask)


def _part(places: Places, start: int, stop: int) -> Places:
    """Where the image tokens of [start, stop) are; None if spans say that there are none."""
    if isinstance(places, torch.Tensor):
        return places[:, start:stop]
    return None if places is None else cut(places, start, stop) or None


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
        return BaseModelOutputWithPast(last_hidden_state=self.norm(hidden), **{CACHE_NAME: cache})


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
