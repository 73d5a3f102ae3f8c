"""Layers of the language model, in torch alone: attention, feed-forward and their block (paper 3.1; spec g, h).

    h += wo(attention(wqkv(norm(h))))                 both PLoRA, given the image mask
    h += w2(silu(w1(n)) * w3(n)),  n = norm(h)        all three PLoRA, given the image mask

Nothing here imports transformers. ``decoder.py`` puts these layers behind its contracts; ``standalone.py`` runs them
without it, because importing ``PreTrainedModel`` costs more CPU time than the embedded model's whole answer.

Legend: B batch, T tokens, C width (4096), H query heads (32), K key heads (8), D = C / H (128).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import nn

from ixc.model.attention import attend
from ixc.model.plora import ImagePositions, PLoRALinear, clip_spans
from ixc.model.rope import rotate

if TYPE_CHECKING:
    from ixc.model.configuration import IxcTextConfig

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
        image_mask: ImagePositions,
        attention_mask: torch.Tensor | None,
        position_embeddings: tuple[torch.Tensor, torch.Tensor],
        cache: Any = None,
        past_key_values: Any = None,
        **kwargs: Any,
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        cache = past_key_values if cache is None else cache  # two names of one argument: see Decoder.forward
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

    def forward(self, x: torch.Tensor, image_mask: ImagePositions) -> torch.Tensor:
        if torch.is_grad_enabled() or torch.compiler.is_compiling():
            return self.w2(F.silu(self.w1(x, image_mask)) * self.w3(x, image_mask), image_mask)
        if x.shape[1] <= TOKENS_AT_ONCE:
            return self._gated(x, image_mask)
        out = torch.empty_like(x)
        for start in range(0, x.shape[1], TOKENS_AT_ONCE):
            stop = min(start + TOKENS_AT_ONCE, x.shape[1])
            out[:, start:stop] = self._gated(x[:, start:stop], _part(image_mask, start, stop))
        return out

    def _gated(self, x: torch.Tensor, image_mask: ImagePositions) -> torch.Tensor:
        """The same numbers with the activation and the product in place: two copies of F channels and no more."""
        gate = F.silu(self.w1(x, image_mask), inplace=True)
        return self.w2(gate.mul_(self.w3(x, image_mask)), image_mask)


class RMSNorm(nn.Module):
    """Root-mean-square norm in float32, cast back, then times the weight (spec h). (..., C) -> (..., C)"""

    def __init__(self, width: int, *, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.eps = eps

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        wide = x.float()
        wide = wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + self.eps)
        return self.weight * wide.to(x.dtype)


class TextBlock(nn.Module):
    """Pre-norm transformer block."""

    def __init__(self, config: IxcTextConfig, layer_idx: int) -> None:
        super().__init__()
        self.attention = Attention(config, layer_idx)
        self.feed_forward = FeedForward(config)
        self.attention_norm = RMSNorm(config.hidden_size, eps=config.rms_norm_eps)
        self.ffn_norm = RMSNorm(config.hidden_size, eps=config.rms_norm_eps)

    def forward(self, x: torch.Tensor, *, image_mask: ImagePositions, **kwargs: Any) -> torch.Tensor:
        x = x + self.attention(self.attention_norm(x), image_mask=image_mask, **kwargs)[0]
        return x + self.feed_forward(self.ffn_norm(x), image_mask)


def _part(places: ImagePositions, start: int, stop: int) -> ImagePositions:
    """Where the image tokens of [start, stop) are; None if spans say that there are none."""
    if isinstance(places, torch.Tensor):
        return places[:, start:stop]
    return None if places is None else clip_spans(places, start, stop) or None
