"""The C kernels of a decode step as three torch operators: ixc::linear8, ixc::linear4 and ixc::attend_one.

Why not torch's own: its 4-bit kernels reach a quarter of this speed on AVX2; its 8-bit product rounds all activations
by one scale, which a single large one spoils; its attention reads the keys of one query at a third of the memory's
rate, the kernel here at two thirds. The weights are read as they are stored, at the memory's rate. Where there is no
compiler (`build.py`) the weights are unpacked by torch: correct, and slow.
"""

from __future__ import annotations

import ctypes
from functools import cache
from pathlib import Path
from typing import Any

import torch

from ixc.model.kernels import build

SOURCE = Path(__file__).with_name("decode.c")
"""The kernels of a decode step."""

MAX_GROUP = 8
"""Query heads that share one key head, at most, as the kernel takes them."""

VECTOR_WIDTH = 32
"""The width of a head must be a multiple of this number of channels."""

MAX_CHUNKS, MIN_CHUNK_KEYS = 64, 256
"""Keys are divided among the cores into at most so many chunks of at least so many keys."""


_FLOATS = (torch.float32, torch.bfloat16)


@cache
def library() -> Any | None:
    """Return the compiled kernels, or None where they cannot be had."""
    return build.compile_library(SOURCE)


def usable(x: torch.Tensor) -> bool:
    """Return True where the kernels can take x: float32 on a CPU, and a compiled library."""
    return x.dtype == torch.float32 and x.device.type == "cpu" and library() is not None


def _call(name: str, *arguments: torch.Tensor | int) -> None:
    found = [ctypes.c_void_p(a.data_ptr()) if isinstance(a, torch.Tensor) else ctypes.c_long(a) for a in arguments]
    getattr(library(), name)(*found)


_operators = torch.library.Library("ixc", "DEF")
_operators.define("linear8(Tensor x, Tensor q, Tensor scale) -> Tensor")
_operators.define("linear4(Tensor x, Tensor q, Tensor scale, Tensor low) -> Tensor")
_operators.define("attend_one(Tensor query, Tensor key, Tensor value) -> Tensor")


def _linear8(x: torch.Tensor, q: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
    x = x.contiguous()
    rows, width = x.numel() // x.shape[-1], x.shape[-1]
    y = x.new_empty(*x.shape[:-1], q.shape[0])
    rounded, scales = x.new_empty(x.shape, dtype=torch.int16), x.new_empty(rows)
    _call("ixc_linear8", x, q, scale, rounded, scales, y, rows, width, q.shape[0])
    return y


def _linear4(x: torch.Tensor, q: torch.Tensor, scale: torch.Tensor, low: torch.Tensor) -> torch.Tensor:
    x = x.contiguous()
    rows, width, groups = x.numel() // x.shape[-1], x.shape[-1], scale.shape[1]
    y = x.new_empty(*x.shape[:-1], q.shape[0])
    rounded, scales, sums = x.new_empty(x.shape, dtype=torch.int8), x.new_empty(rows, groups), x.new_empty(rows, groups)
    _call("ixc_linear4", x, q, scale, low, rounded, scales, sums, y, rows, width, q.shape[0], width // groups)
    return y


def _shape(x: torch.Tensor, q: torch.Tensor, *_: torch.Tensor) -> torch.Tensor:
    return x.new_empty(*x.shape[:-1], q.shape[0])


for _name, _kernel in (("linear8", _linear8), ("linear4", _linear4)):
    _operators.impl(_name, _kernel, "CPU")
    torch.library.register_fake(f"ixc::{_name}", _shape, lib=_operators)


def _attend_one(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
    wide = query.float().contiguous()
    (batch, heads, group, width), keys = query.shape, key.shape[2]
    chunk = max(MIN_CHUNK_KEYS, -(-keys // MAX_CHUNKS))
    y, parts = torch.empty_like(wide), wide.new_empty(batch * heads * -(-keys // chunk), group, width + 2)
    strides, half = (key.stride(1), value.stride(1)), int(key.dtype == torch.bfloat16)
    _call("ixc_attend", wide, key, value, parts, y, batch * heads, group, keys, width, *strides, chunk, half)
    return y.to(query.dtype)


_operators.impl("attend_one", _attend_one, "CPU")
torch.library.register_fake("ixc::attend_one", lambda query, key, value: torch.empty_like(query), lib=_operators)


def can_attend(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> bool:
    """Return True where `attend_one` takes them: on a CPU, no gradients, whole vectors, contiguous rows.

    Queries are float32 or bfloat16, and keys and values, both of one dtype, are so too; sums are in float32.
    """
    return (
        query.shape[2] <= MAX_GROUP
        and query.shape[3] % VECTOR_WIDTH == 0
        and not torch.is_grad_enabled()
        and not torch.compiler.is_compiling()
        and all(_has_contiguous_rows(x) for x in (key, value))
        and query.device.type == "cpu"
        and query.dtype in _FLOATS
        and key.dtype == value.dtype
        and key.dtype in _FLOATS
        and library() is not None
    )


def _has_contiguous_rows(x: torch.Tensor) -> bool:
    """Return True if (B, K, S, D) has the rows of a head contiguous and its heads at equal strides."""
    batch, heads, _, width = x.shape
    return x.stride()[2:] == (width, 1) and (batch == 1 or x.stride(0) == heads * x.stride(1))


def attend_one(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
    """Attend with the queries (B, K, G, D) of one position to all keys (B, K, S, D), unmasked. -> (B, K, G, D)"""
    return torch.ops.ixc.attend_one(query, key, value)


def linear8(x: torch.Tensor, q: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
    """Multiply x (..., in), rounded to 16 bits, by int8 weights (out, in), scale (out, 1) bfloat16. -> (..., out)"""
    return torch.ops.ixc.linear8(x, q, scale)


def linear4(x: torch.Tensor, q: torch.Tensor, scale: torch.Tensor, low: torch.Tensor) -> torch.Tensor:
    """Multiply x (..., in), rounded to 8 bits a group, by 4-bit weights (out, in / 2). -> (..., out)"""
    return torch.ops.ixc.linear4(x, q, scale, low)
