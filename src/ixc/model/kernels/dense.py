"""A decode step's products with float32 and bfloat16 weights (`dense.c`), where they are faster than torch's.

One row against a weight that fits no cache takes as long as reading the weight. torch reads at two thirds of the
memory's rate on AMD in float32 and at a half in bfloat16; the kernel reads four rows of the weight side by side.
"""

from __future__ import annotations

import ctypes
from functools import cache
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F

from ixc.model.kernels import build, products

SOURCE = Path(__file__).with_name("dense.c")
"""The kernel."""

MAX_ROWS = 4
"""Rows of activations that the kernel takes."""

MIN_WEIGHT_BYTES = 16 << 20
"""Bytes of a weight from which it is read from memory in every step."""

WIDTH_MULTIPLE = 32
"""The width of a weight is a multiple of this number."""

_choices: dict[torch.dtype, bool] = {}
"""dtype -> whether the kernel is the faster way, as measured on the first weight of that dtype."""


@cache
def library() -> Any | None:
    """Return the compiled kernel, or None where it cannot be had."""
    return build.compile_library(SOURCE)


def usable(x: torch.Tensor, weight: torch.Tensor) -> bool:
    """Return True where `multiply` takes x (..., in) and weight (out, in) of one dtype, and is the faster way.

    The first weight of a dtype is multiplied some times by both ways to find out, which takes as long as some layers of
    one step.
    """
    if not (
        x.numel() <= MAX_ROWS * x.shape[-1]
        and weight.nbytes >= MIN_WEIGHT_BYTES
        and x.shape[-1] % WIDTH_MULTIPLE == 0
        and weight.is_contiguous()
        and library() is not None
    ):
        return False
    if weight.dtype not in _choices:
        _choices[weight.dtype] = _is_faster(x, weight)
    return _choices[weight.dtype]


def multiply(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """Multiply x (..., in), at most MAX_ROWS rows, by weight (out, in), float32 or bfloat16; sums are in float32.

    Returns:
        (..., out) in x's dtype.
    """
    wide, out = x.float().contiguous(), len(weight)
    y = wide.new_empty(*x.shape[:-1], out)
    sizes = (x.numel() // x.shape[-1], x.shape[-1], out, int(weight.dtype == torch.bfloat16))
    kernel: Any = library()
    kernel.ixc_dense(*(ctypes.c_void_p(a.data_ptr()) for a in (wide, weight, y)), *map(ctypes.c_long, sizes))
    return y.to(x.dtype)


def _is_faster(x: torch.Tensor, weight: torch.Tensor) -> bool:
    rows = x.reshape(-1, x.shape[-1])
    by_onednn = weight.dtype == torch.float32 and torch.backends.mkldnn.is_available()
    usual = (lambda: products.onednn(rows, weight, None)) if by_onednn else (lambda: F.linear(rows, weight))
    return products.is_faster(lambda: multiply(rows, weight), usual)
