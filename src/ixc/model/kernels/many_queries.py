"""Attention of many queries on a processor with AVX-512, in float32 (`attend_many.c`): prefill and vision encoder.

torch's own kernel multiplies by torch's BLAS, which on AMD reaches a half of the processor's rate and less in small
pieces: 58 GFLOP/s at 1,500 tokens of 8 heads of 32, 41 at 512 tokens of 32 heads of 128, where this one gives two to
three times as much. Its bfloat16 kernel gives 77 there: bfloat16 queries, keys and values are widened for this one, and
the result is rounded.
"""

from __future__ import annotations

import ctypes
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from ixc.model.kernels import build, products

SOURCE = Path(__file__).with_name("attend_many.c")
"""The kernel."""

MIN_QUERIES = 16
"""Queries from which packing the keys pays."""

MAX_WIDTH, WIDTH_MULTIPLE = 256, 32
"""Widths of a head that the kernel takes."""

PROBE_HEADS, PROBE_LENGTH, PROBE_WIDTH = 4, 320, 64
"""What the two kernels are compared on, 0.1 GFLOP."""

SIDE = 32
"""Keys packed side by side."""


@cache
def library() -> Any | None:
    """Return the compiled kernel; None where it cannot be had or the processor has no AVX-512."""
    found = build.compile_library(SOURCE)
    return found if hasattr(found, "ixc_attend_many") else None


def usable(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> bool:
    """Return True if `attend_many` takes (B, H, T, D) queries, (B, K, S, D) keys and values, float32 or bfloat16."""
    return (
        query.shape[2] >= MIN_QUERIES
        and query.shape[3] <= MAX_WIDTH
        and query.shape[3] % WIDTH_MULTIPLE == 0
        and not torch.is_grad_enabled()
        and not torch.compiler.is_compiling()
        and query.dtype in (torch.float32, torch.bfloat16)
        and all(x.dtype == query.dtype and x.device.type == "cpu" and x.stride(3) == 1 for x in (query, key, value))
        and key.shape[2] >= query.shape[2]
        and library() is not None
        and _is_faster(query.dtype)
    )


@cache
@torch.inference_mode()
def _is_faster(kind: torch.dtype) -> bool:
    """Return True if this kernel is faster than torch's on this processor: measured once, in some milliseconds."""
    x = torch.ones(1, PROBE_HEADS, PROBE_LENGTH, PROBE_WIDTH, dtype=kind)
    return products.is_faster(
        lambda: attend_many(x, x, x, causal=False), lambda: F.scaled_dot_product_attention(x, x, x)
    )


def attend_many(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, *, causal: bool) -> torch.Tensor:
    """Attend with (B, H, T, D) to keys and values (B, K, S, D). -> (B, T, H, D)

    Args:
        causal: the last query sees all keys, each one before it one less; otherwise all queries see all keys.
    """
    kind = query.dtype
    query, key, value = (x.float() for x in (query, key, value))
    (batch, heads, length, width), (_, key_heads, keys, _) = query.shape, key.shape
    y = query.new_empty(batch, length, heads, width)
    lanes = query.new_empty(batch * key_heads * -(-keys // SIDE) * SIDE * width)
    strides = np.array([x.stride()[:3] for x in (query, key, value)], dtype=np.int64)
    sizes = np.array([batch, heads, key_heads, length, keys, width, causal], dtype=np.int64)
    pointers = [x.data_ptr() for x in (query, key, value)]
    pointers += [strides.ctypes.data, lanes.data_ptr(), y.data_ptr(), sizes.ctypes.data]
    kernel: Any = library()
    kernel.ixc_attend_many(*map(ctypes.c_void_p, pointers))
    return y.to(kind)
