"""Products of many rows with quantized weights: a strip of weights is unpacked to bfloat16, then all rows pass through.

    q (out, in) --unpack.c, a strip at a time--> bfloat16 (strip, in) --torch's product--> y[:, strip] float32

The kernel of a decode step (`ops.py`) unpacks every weight again for every few rows. Here it happens once a call, and
the product is the processor's own: AMX or AVX512-BF16, with sums in float32. Activations are rounded to bfloat16, as
are 4-bit weights (by a hundredth of their step); 8-bit weights are exact. Where the processor has no bfloat16 products,
`usable` says no, and the kernel of a decode step stays.
"""

from __future__ import annotations

import ctypes
from functools import cache
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F

from ixc.model.kernels import build, products

SOURCE = Path(__file__).with_name("unpack.c")
"""The unpacking kernels."""

MIN_ROWS = 32
"""Rows from which unpacking pays (measured: at 16 both take the same time)."""

MIN_WEIGHT_SIZE = 1 << 20
"""Numbers of a weight from which it pays."""

STRIP_BYTES = 8 << 20
"""Bytes of a strip of weights in bfloat16: 1,024 rows of 4,096. Smaller ones make the product slower (measured: 1,024
rows 850, 256 rows 563 GFLOP/s), larger ones take memory."""

STRIP_MULTIPLE = 32
"""Rows of a strip are a multiple of this number, but in the last one: whole tiles of the product."""


@cache
def library() -> Any | None:
    """Return the compiled kernels, or None where they cannot be had."""
    return build.compile_library(SOURCE)


def usable(x: torch.Tensor, weights: int) -> bool:
    """Return True where the functions below take x (..., in) and is the faster way.

    Args:
        x: activations.
        weights: numbers of the matrix.
    """
    return (
        x.numel() >= MIN_ROWS * x.shape[-1]
        and weights >= MIN_WEIGHT_SIZE
        and x.dtype == torch.float32
        and x.device.type == "cpu"
        and not torch.is_grad_enabled()
        and not torch.compiler.is_compiling()
        and products.has_fast_bfloat16()
        and library() is not None
    )


def quantized_linear(x: torch.Tensor, q: torch.Tensor, scale: torch.Tensor, low: torch.Tensor | None) -> torch.Tensor:
    """Multiply x (..., in) float32 by weights of 8 bits (``low`` None) or 4 bits, as `ops` takes them. -> (..., out)"""
    rows, width, out = x.numel() // x.shape[-1], x.shape[-1], len(q)
    flat = x.reshape(rows, width).bfloat16()
    y = x.new_empty(rows, out)
    size = max(STRIP_MULTIPLE, STRIP_BYTES // (2 * width) // STRIP_MULTIPLE * STRIP_MULTIPLE)
    strip = flat.new_empty(min(size, out), width)
    product = flat.new_empty(rows, min(size, out))
    for start in range(0, out, size):
        stop = min(start + size, out)
        weights, part = strip[: stop - start], product[:, : stop - start]
        _unpack(q[start:stop], scale[start:stop], None if low is None else low[start:stop], weights)
        torch.mm(flat, weights.t(), out=part)
        if low is None:
            torch.mul(part, scale[start:stop].float().t(), out=y[:, start:stop])
        else:
            y[:, start:stop] = part
    return y.view(*x.shape[:-1], out)


def half_linear(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
    """Multiply x (..., in) float32 by bfloat16 weights (out, in); the bias is added in float32. -> (..., out)"""
    y = F.linear(x.reshape(-1, x.shape[-1]).bfloat16(), weight).float()
    if bias is not None:
        y += bias
    return y.view(*x.shape[:-1], len(weight))


def _unpack(q: torch.Tensor, scale: torch.Tensor, low: torch.Tensor | None, into: torch.Tensor) -> None:
    rows, width = into.shape
    if low is None:
        _call("ixc_unpack8", q, into, rows, width)
    else:
        _call("ixc_unpack4", q, scale, low, into, rows, width, width // scale.shape[1])


def _call(name: str, *arguments: torch.Tensor | int) -> None:
    found = [ctypes.c_void_p(a.data_ptr()) if isinstance(a, torch.Tensor) else ctypes.c_long(a) for a in arguments]
    getattr(library(), name)(*found)
