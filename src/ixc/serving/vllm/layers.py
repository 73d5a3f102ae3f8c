"""The decoder on vLLM's layers: paged attention, tensor-parallel linears, and PLoRA beside each (spec g and h).

    y = W x                             every token
    y = W x + (alpha / r) * B A x       image tokens only: where `input_ids` holds the placeholder

The mask is computed from the ids inside the compiled part, so it is right however vLLM splits a prompt: a chunk, the
rest after a cached prefix, a preempted request that is computed again, a batch of prompts and answers. The placeholder
is never sampled (`serving.vllm.model`), so generated tokens never use PLoRA.

Tensor parallelism: vLLM shards W. Column-parallel linears replicate A and shard B; row-parallel linears shard A and
replicate B, whose partial sums are added to those of W before the one all-reduce. `wqkv` stays fused by key head as
published, so it shards like any column-parallel linear, and LoRA adapters trained beside it fit without a change.

Legend: T tokens of all requests together, C hidden size, r PLoRA rank, R ranks of the tensor-parallel group, H query
and K key heads, D head size.
"""

# pyright: reportMissingImports=false
# vLLM is an extra that developers' machines lack, and its modules are imported at the top of this file.

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from vllm.compilation.decorators import support_torch_compile
from vllm.config import VllmConfig
from vllm.distributed import get_tensor_model_parallel_world_size, tensor_model_parallel_all_reduce
from vllm.model_executor.layers.attention import Attention as PagedAttention
from vllm.model_executor.layers.layernorm import RMSNorm
from vllm.model_executor.layers.linear import (
    ColumnParallelLinear,
    ReplicatedLinear,
    RowParallelLinear,
)
from vllm.model_executor.layers.rotary_embedding import get_rope
from vllm.model_executor.layers.vocab_parallel_embedding import VocabParallelEmbedding

from ixc.errors import UsageError
from ixc.model.configuration import IxcTextConfig

PLAIN: dict[str, Any] = {"bias": False, "return_bias": False}
"""Options of every linear: no bias, and only the result is returned."""


class _PLoRA(nn.Module):
    """A linear with PLoRA: W (`base`), A (`Plora_A`) and B (`Plora_B`)."""

    base: nn.Module
    Plora_A: nn.Module
    Plora_B: nn.Module

    def __init__(self, *, r: int, alpha: float) -> None:
        super().__init__()
        self.scaling = alpha / r

    def forward(self, x: torch.Tensor, image_mask: torch.Tensor) -> torch.Tensor:
        """Map x (T, in) with image_mask (T, 1), 1 at image tokens, in x's dtype -> (T, out / R)."""
        return self.base(x) + self.Plora_B(self.Plora_A(x) * (image_mask * self.scaling))


class ColumnPLoRA(_PLoRA):
    """Column-parallel PLoRA, sharded by output: wqkv, w1 and w3."""

    def __init__(self, inner: int, outer: int, *, r: int, alpha: float, quant: Any, prefix: str) -> None:
        super().__init__(r=r, alpha=alpha)
        self.base = ColumnParallelLinear(inner, outer, quant_config=quant, prefix=f"{prefix}.base", **PLAIN)
        self.Plora_A = ReplicatedLinear(inner, r, prefix=f"{prefix}.Plora_A", **PLAIN)
        self.Plora_B = ColumnParallelLinear(r, outer, prefix=f"{prefix}.Plora_B", **PLAIN)


class RowPLoRA(_PLoRA):
    """Row-parallel PLoRA, sharded by input: wo and w2."""

    def __init__(self, inner: int, outer: int, *, r: int, alpha: float, quant: Any, prefix: str) -> None:
        super().__init__(r=r, alpha=alpha)
        partial = {"reduce_results": False, **PLAIN}
        self.base = RowParallelLinear(inner, outer, quant_config=quant, prefix=f"{prefix}.base", **partial)
        self.Plora_A = RowParallelLinear(inner, r, prefix=f"{prefix}.Plora_A", **partial)
        self.Plora_B = ReplicatedLinear(r, outer, prefix=f"{prefix}.Plora_B", **PLAIN)

    def forward(self, x: torch.Tensor, image_mask: torch.Tensor) -> torch.Tensor:
        """Map x (T, in / R) -> (T, out)."""
        return tensor_model_parallel_all_reduce(super().forward(x, image_mask))


class VllmAttention(nn.Module):
    """Causal attention with grouped heads over vLLM's paged cache."""

    def __init__(self, config: IxcTextConfig, vllm_config: VllmConfig, prefix: str) -> None:
        super().__init__()
        assert config.head_dim is not None  # both are filled in by the config itself
        assert config.rope_parameters is not None
        quant, self.width = vllm_config.quant_config, config.head_dim
        width, heads, key_heads = self.width, config.num_attention_heads, _key_heads(config)
        self.group = heads // key_heads
        self.wqkv = ColumnPLoRA(
            config.hidden_size,
            (heads + 2 * key_heads) * width,
            r=config.plora_qkv_r,
            alpha=config.plora_qkv_alpha,
            quant=quant,
            prefix=f"{prefix}.wqkv",
        )
        self.wo = RowPLoRA(
            heads * width,
            config.hidden_size,
            r=config.plora_r,
            alpha=config.plora_alpha,
            quant=quant,
            prefix=f"{prefix}.wo",
        )
        # Dynamic NTK acts beyond the trained length only, and vLLM's context never exceeds it: plain angles are exact.
        theta = config.rope_parameters["rope_theta"]
        self.rotary = get_rope(
            width,
            max_position=config.max_position_embeddings,
            rope_parameters={"rope_type": "default", "rope_theta": theta},
        )
        ranks = get_tensor_model_parallel_world_size()
        self.attn = PagedAttention(
            heads // ranks,
            width,
            width**-0.5,
            num_kv_heads=key_heads // ranks,
            cache_config=vllm_config.cache_config,
            quant_config=quant,
            prefix=f"{prefix}.attn",
        )

    def forward(self, x: torch.Tensor, positions: torch.Tensor, image_mask: torch.Tensor) -> torch.Tensor:
        fused = self.wqkv(x, image_mask).view(x.shape[0], -1, self.group + 2, self.width)  # (T, K / R, H/K + 2, D)
        q, k, v = (part.flatten(1) for part in fused.split([self.group, 1, 1], dim=2))
        q, k = self.rotary(positions, q, k)
        return self.wo(self.attn(q, k, v), image_mask)


class VllmFeedForward(nn.Module):
    """Gated feed-forward: w2(silu(w1) * w3)."""

    def __init__(self, config: IxcTextConfig, quant: Any, prefix: str) -> None:
        super().__init__()
        rank: dict[str, Any] = {"r": config.plora_r, "alpha": config.plora_alpha, "quant": quant}
        width, inner = config.hidden_size, config.intermediate_size
        self.w1 = ColumnPLoRA(width, inner, **rank, prefix=f"{prefix}.w1")
        self.w3 = ColumnPLoRA(width, inner, **rank, prefix=f"{prefix}.w3")
        self.w2 = RowPLoRA(inner, width, **rank, prefix=f"{prefix}.w2")

    def forward(self, x: torch.Tensor, image_mask: torch.Tensor) -> torch.Tensor:
        return self.w2(F.silu(self.w1(x, image_mask)) * self.w3(x, image_mask), image_mask)


class VllmTextBlock(nn.Module):
    """Pre-norm transformer block."""

    def __init__(self, config: IxcTextConfig, vllm_config: VllmConfig, prefix: str) -> None:
        super().__init__()
        self.attention = VllmAttention(config, vllm_config, f"{prefix}.attention")
        self.feed_forward = VllmFeedForward(config, vllm_config.quant_config, f"{prefix}.feed_forward")
        self.attention_norm = RMSNorm(config.hidden_size, eps=config.rms_norm_eps)
        self.ffn_norm = RMSNorm(config.hidden_size, eps=config.rms_norm_eps)

    def forward(
        self, x: torch.Tensor, residual: torch.Tensor | None, positions: torch.Tensor, image_mask: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        if residual is None:
            added, x = x, self.attention_norm(x)
        else:
            x, added = self.attention_norm(x, residual)
        x, added = self.ffn_norm(self.attention(x, positions, image_mask), added)
        return self.feed_forward(x, image_mask), added


@support_torch_compile(dynamic_arg_dims={"input_ids": 0, "positions": 0, "inputs_embeds": 0})
class VllmDecoder(nn.Module):
    """InternLM2 without its output head."""

    def __init__(self, *, vllm_config: VllmConfig, prefix: str = "") -> None:
        super().__init__()
        whole = vllm_config.model_config.hf_config
        config = whole.text_config
        self.image_token_id = whole.image_token_id
        self.tok_embeddings = VocabParallelEmbedding(config.vocab_size, config.hidden_size)
        self.layers = nn.ModuleList(
            [VllmTextBlock(config, vllm_config, f"{prefix}.layers.{i}") for i in range(config.num_hidden_layers)]
        )
        self.norm = RMSNorm(config.hidden_size, eps=config.rms_norm_eps)

    def embed_input_ids(self, input_ids: torch.Tensor) -> torch.Tensor:
        return self.tok_embeddings(input_ids)

    def forward(
        self,
        input_ids: torch.Tensor,
        positions: torch.Tensor,
        inputs_embeds: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Map input_ids (T,), always given, and inputs_embeds (T, C), given with images, -> (T, C)."""
        x = self.embed_input_ids(input_ids) if inputs_embeds is None else inputs_embeds
        image_mask = (input_ids == self.image_token_id).unsqueeze(-1).to(x.dtype)
        residual: torch.Tensor | None = None
        for layer in self.layers:
            x, residual = layer(x, residual, positions, image_mask)
        return self.norm(x, residual)[0]


def _key_heads(config: IxcTextConfig) -> int:
    """Return K. Raises: UsageError: the ranks cannot share the key heads evenly."""
    found, ranks = config.num_key_value_heads, get_tensor_model_parallel_world_size()
    assert found is not None  # filled in by the config itself
    if found % ranks:
        raise UsageError(
            f"{ranks} ranks cannot share {found} key heads; use a --tensor-parallel-size that divides them"
        )
    return found
