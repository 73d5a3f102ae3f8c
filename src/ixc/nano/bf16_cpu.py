"""bf16 matrix products on processors with AVX512-BF16: several times the speed of float32 for training.

    with bf16_products():  linear maps ------> float32 in and out, operands rounded to bf16 once
                           other products ---> rounded by torch for each product
                           packed attention -> packed_attention.c, compiled by the machine's own compiler
                           Muon -------------> Newton-Schulz in bf16

Weights, accumulation and updates stay in float32; outputs of linear maps and their gradients are rounded to bf16. On
other processors, and with `IXC_KERNELS=0`, everything is float32. A run is reproducible on processors of one kind, not
across the two kinds.

Shapes: B pages, H heads, S = P + Q * T rows: P of the prefix, Q questions of T; D = 32.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from ixc.model.kernels import build
from ixc.model.vision import VisionTower

SOURCE = Path(build.__file__).with_name("packed_attention.c")
"""Source of the kernel."""
WIDTH, GROUP = 32, 16
"""Width of a head, and multiple to which rows are padded, as in the kernel."""
TILES = "ixc_bf16_tiles"
"""Name of the vision tower's attention in the attention registry of transformers."""
MANY = 64
"""Rows from which rounding the weight of a linear map pays."""
_state = {"active": False}


def units() -> bool:
    """Whether the processor has AVX512-BF16."""
    return bool(getattr(torch.cpu, "_is_avx512_bf16_supported", bool)())


@cache
def library() -> Any | None:
    """Compile the kernel; None where the processor or the compiler is missing."""
    found = build.compile_library(SOURCE) if units() else None
    return found if hasattr(found, "ixc_packed_forward") else None


@contextmanager
def bf16_products(*, wanted: bool = True) -> Iterator[None]:
    """Compute products in bf16 inside the block, on processors that can; `wanted=False` changes nothing."""
    before = _state["active"], torch.get_float32_matmul_precision()
    on = wanted and library() is not None
    if on:
        _state["active"] = True
        torch.set_float32_matmul_precision("medium")
    try:
        with _Maps() if on else nullcontext():
            yield
    finally:
        _state["active"] = before[0]
        torch.set_float32_matmul_precision(before[1])


def is_active() -> bool:
    """Whether products are computed in bf16 here."""
    return _state["active"]


class _Maps(TorchFunctionMode):
    """Routes linear maps of many rows through `_Map`."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is F.linear and not kwargs and _is_large(*args):
            return _Map.apply(*args, *(None,) * (3 - len(args)))
        return func(*args, **kwargs or {})


def _is_large(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> bool:
    cpu = x.device.type == weight.device.type == "cpu" and x.dtype == weight.dtype == torch.float32
    return cpu and x.numel() >= MANY * x.shape[-1]


class _Map(torch.autograd.Function):
    """Linear map: x (..., in), weight (out, in), bias (out) or None -> (..., out)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        low = x.bfloat16(), weight.bfloat16()
        ctx.save_for_backward(*low)
        y = F.linear(*low).float()
        return y if bias is None else y.add_(bias)

    @staticmethod
    @once_differentiable
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]  # torch types ctx as a keyword
        ctx: Any, *grads: Tensor
    ) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        of_x, of_weight, of_bias = ctx.needs_input_grad
        low, rows = grads[0].bfloat16(), grads[0].flatten(0, -2)
        return (
            (low @ weight).float() if of_x else None,
            (low.flatten(0, -2).t() @ x.flatten(0, -2)).float() if of_weight else None,
            rows.sum(0) if of_bias else None,
        )


def takes(query: Tensor) -> bool:
    """Whether the kernel is active and supports such heads."""
    return is_active() and query.shape[-1] == WIDTH and query.dtype == torch.float32 and query.device.type == "cpu"


def attend(
    query: Tensor, key: Tensor, value: Tensor, *, prefix: int, questions: int, scaling: float, causal: bool = True
) -> Tensor:
    """Attention of packed questions with bf16 products.

    Args:
        query, key, value: (B, H, S, D) float32.
        prefix: P.
        questions: Q.
        scaling: factor of the scores.
        causal: a token of the prefix attends to earlier ones only; False: to the whole prefix.

    Returns:
        (B, H, S, D).
    """
    return _Packed.apply(query, key, value, prefix, questions, causal, scaling)


@contextmanager
def tower_attention(tower: VisionTower) -> Iterator[None]:
    """Use the kernel for the vision tower inside the block, where it is active and the heads have its width."""
    config = tower.config
    before = config._attn_implementation
    if is_active() and config.hidden_size == WIDTH * config.num_attention_heads:
        config._attn_implementation = TILES
    try:
        yield
    finally:
        config._attn_implementation = before


def _attend_tiles(
    module: nn.Module, query: Tensor, key: Tensor, value: Tensor, mask: None, *, scaling: float, **kwargs: Any
) -> tuple[Tensor, None]:
    """Bidirectional attention of the patches (N, H, S, D) of each tile: (N, S, H, D) and no weights."""
    out = attend(query, key, value, prefix=query.shape[2], questions=0, scaling=scaling, causal=False)
    return out.transpose(1, 2), None


ALL_ATTENTION_FUNCTIONS.register(TILES, _attend_tiles)


class _Packed(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        prefix: int,
        questions: int,
        causal: bool,
        scaling: float,
    ) -> Tensor:
        given = [x if x.stride(-1) == 1 else x.contiguous() for x in (query, key, value)]
        batch, heads, rows, _ = query.shape
        length = (rows - prefix) // questions if questions else 0
        padded = _whole(prefix) + questions * _whole(length)
        out, total = query.new_empty(query.shape), query.new_empty(batch, heads, padded)
        sizes = [ctypes.c_long(n) for n in (batch, heads, prefix, questions, length, causal)]
        found = library()
        assert found is not None
        found.ixc_packed_forward(*_at(*given), _strides(*given), *_at(out, total), *sizes, ctypes.c_float(scaling))
        ctx.save_for_backward(*given, out, total)
        ctx.sizes, ctx.scaling = sizes, scaling
        return out

    @staticmethod
    @once_differentiable
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]  # torch types ctx as a keyword
        ctx: Any, *grads: Tensor
    ) -> tuple[Tensor | None, ...]:
        *given, out, total = ctx.saved_tensors
        given.append(grads[0] if grads[0].stride(-1) == 1 else grads[0].contiguous())
        back = [torch.empty_like(out) for _ in range(3)]
        found = library()
        assert found is not None
        found.ixc_packed_backward(
            *_at(*given), _strides(*given), *_at(out, total, *back), *ctx.sizes, ctypes.c_float(ctx.scaling)
        )
        return *back, None, None, None, None


def _whole(rows: int) -> int:
    return -(-rows // GROUP) * GROUP


def _at(*tensors: Tensor) -> list[ctypes.c_void_p]:
    return [ctypes.c_void_p(x.data_ptr()) for x in tensors]


def _strides(*tensors: Tensor) -> ctypes.Array[ctypes.c_long]:
    return (ctypes.c_long * (3 * len(tensors)))(*(n for x in tensors for n in x.stride()[:3]))
