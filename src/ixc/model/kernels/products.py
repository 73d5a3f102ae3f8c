"""Which matrix product is fastest on this processor: measured once a process, in milliseconds, when first needed.

Processors differ by factors: MKL's float32 product reaches half of oneDNN's rate on AMD and as much on Intel; a
bfloat16 product takes a fifth of float32's time with AMX, a third with AVX512-BF16, and several times as long without
either. Both libraries are inside torch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from time import perf_counter
from typing import Any

import torch
import torch.nn.functional as F

ROWS, WIDTH, OUT = 512, 1024, 1024
"""The measured product, 1.1 GFLOP: 8 ms at 130 GFLOP/s. Fewer rows or weights rank the libraries otherwise."""

TRIES = 3
"""Runs of each, after one that does not count; the fastest counts."""

ADVANTAGE = 1.1
"""A choice other than torch's own must be faster by this factor, so that noise does not make it."""


@cache
def has_fast_bfloat16() -> bool:
    """Return True where bfloat16 products have units of their own and are faster than float32's."""
    return _has_units() and _fastest("float32", "onednn", "bfloat16") == "bfloat16"


@cache
def prefers_onednn() -> bool:
    """Return True where oneDNN's float32 product of many rows is faster than that of torch's BLAS."""
    return torch.backends.mkldnn.is_available() and _fastest("float32", "onednn") == "onednn"


def onednn(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
    """Compute ``F.linear`` by oneDNN, which takes few rows to all cores. (..., in) -> (..., out)"""
    kernel: Any = torch.ops.mkldnn._linear_pointwise
    return kernel(x, weight, bias, "none", [], "")


def _has_units() -> bool:
    return torch.backends.mkldnn.is_available() and (
        torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    )


def is_faster(other: Callable[[], object], usual: Callable[[], object]) -> bool:
    """Return True where `other` is faster than `usual` by `ADVANTAGE`; they take turns."""
    best = _best_seconds({"other": other, "usual": usual})
    return best["other"] * ADVANTAGE < best["usual"]


@torch.inference_mode()
def _fastest(*names: str) -> str:
    """Return the fastest of "float32" (torch's own), "onednn" and "bfloat16", which take turns."""
    x, w = torch.ones(ROWS, WIDTH), torch.ones(OUT, WIDTH)
    half = w.bfloat16()
    ways: dict[str, Callable[[], object]] = {
        "float32": lambda: F.linear(x, w),
        "onednn": lambda: onednn(x, w, None),
        "bfloat16": lambda: F.linear(x.bfloat16(), half).float(),
    }
    best = _best_seconds({name: ways[name] for name in names})
    return min(names, key=lambda name: best[name] * (1 if name == "float32" else ADVANTAGE))


def _best_seconds(ways: Mapping[str, Callable[[], object]]) -> dict[str, float]:
    """Return the seconds of the fastest of `TRIES` runs of each, in turns, after one that does not count."""
    times: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(TRIES + 1):
        for name, way in ways.items():
            start = perf_counter()
            way()
            if number:
                times[name].append(perf_counter() - start)
    return {name: min(found) for name, found in times.items()}
