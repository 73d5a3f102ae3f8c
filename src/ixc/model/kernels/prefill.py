"""Products of many rows with quantized weights: a strip of weights is unpacked to bfloat16, then all rows pass through.

    8 bits    q (out, in) --unpack.c, a strip at a time--> bfloat16 (strip, in) --torch's product--> y[:, strip] float32
    4 bits    the same, or product4.c: activations rounded to 8 bits a group, products of whole numbers (AVX512-VNNI)

The kernel of a decode step (`ops.py`) unpacks every weight again for every few rows. Here it happens once a call, and
the product is the processor's own: AMX or AVX512-BF16, with sums in float32. Activations are rounded to bfloat16, as
are 4-bit weights (by a hundredth of their step); 8-bit weights are exact. Which way 4 bits take is measured once, in
some milliseconds: AVX512-VNNI has twice the rate of AVX512-BF16 (AMD: 794 against 440 GFLOP/s), AMX has more. Where the
processor has no bfloat16 products, `usable` says no, and the kernel of a decode step stays.
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

PRODUCT4 = Path(__file__).with_name("product4.c")
"""The product of whole numbers for 4 bits."""

STEP4 = 64
"""The width of its weights is a multiple of this number."""

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
    if low is not None and x.shape[-1] % STEP4 == 0 and library4() is not None and _whole_numbers_are_faster():
        return whole_number_linear(x, q, scale, low)
    return unpacked_linear(x, q, scale, low)


def whole_number_linear(x: torch.Tensor, q: torch.Tensor, scale: torch.Tensor, low: torch.Tensor) -> torch.Tensor:
    """Multiply x (..., in) float32, rounded to 8 bits a group, by 4-bit weights. -> (..., out)"""
    flat = x.reshape(-1, x.shape[-1]).contiguous()
    (rows, width), (out, groups) = flat.shape, scale.shape
    rounded = flat.new_empty(groups, rows, width // groups, dtype=torch.int8)
    scales, sums = flat.new_empty(groups, rows), flat.new_empty(groups, rows)
    _call4("ixc_round8", flat, rounded, scales, sums, rows, width, width // groups)
    y = torch.mm(sums.t(), low.float().t())
    _call4("ixc_product4", rounded, scales, q, scale, y, rows, width, out, width // groups)
    return y.view(*x.shape[:-1], out)


def unpacked_linear(x: torch.Tensor, q: torch.Tensor, scale: torch.Tensor, low: torch.Tensor | None) -> torch.Tensor:
    """Multiply x (..., in) float32, rounded to bfloat16, by weights of 8 or 4 bits, unpacked. -> (..., out)"""
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


@cache
def library4() -> Any | None:
    """Return the compiled product of 4 bits; None where it cannot be had or the processor has no AVX512-VNNI."""
    found = build.compile_library(PRODUCT4)
    return found if hasattr(found, "ixc_product4") else None


@cache
@torch.inference_mode()
def _whole_numbers_are_faster() -> bool:
    """Return True if `whole_number_linear` is faster than `unpacked_linear` here: measured once, in milliseconds."""
    x, groups = torch.ones(products.ROWS, products.WIDTH), products.WIDTH // 128
    q = torch.zeros(products.OUT, products.WIDTH // 2, dtype=torch.uint8)
    scale = torch.ones(products.OUT, groups, dtype=torch.bfloat16)
    return products.is_faster(
        lambda: whole_number_linear(x, q, scale, scale), lambda: unpacked_linear(x, q, scale, scale)
    )


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
    _call_in(library(), name, *arguments)


def _call4(name: str, *arguments: torch.Tensor | int) -> None:
    _call_in(library4(), name, *arguments)


def _call_in(kernels: Any, name: str, *arguments: torch.Tensor | int) -> None:
    found = [ctypes.c_void_p(a.data_ptr()) if isinstance(a, torch.Tensor) else ctypes.c_long(a) for a in arguments]
    getattr(kernels, name)(*found)
