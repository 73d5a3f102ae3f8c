"""The arithmetic and the reading that an answer cannot do without; a measured time becomes a share of a ceiling by it.

    prefill    decoder maps, PLoRA at image tokens, attention (causal half), head at the last position
    vision     tower and projector
    step       every weight of the decoder's maps and of the head read once, and the keys and values so far

The formulas stand in `ixc.inference.cost`; here they are only put together. One multiply-add = 2 FLOP.
"""

from __future__ import annotations

from ixc.inference.cost import ModelGeometry, Plan

SCALE_BYTES = {32: 0.0, 16: 0.0, 8: 0.0, 4: 4 / 128}
"""Bytes of scales a weight carries: in 4 bits two bfloat16 for 128 weights, in 8 bits two bytes a row."""


def prefill_flops(plan: Plan) -> int:
    """FLOP of reading the prompt."""
    return sum(value for name, value in plan.flops().items() if name in ("decoder", "attention", "PLoRA", "head"))


def vision_flops(plan: Plan) -> int:
    """FLOP of looking at the image."""
    flops = plan.flops()
    return flops["vision tower"] + flops["projector"]


def step_bytes(geometry: ModelGeometry, *, bits: int, tokens: int, value_bytes: int = 4, rows: int = 1) -> int:
    """Bytes one decode step must read.

    Args:
        bits: of the decoder's maps and the head: 32, 16, 8 or 4.
        tokens: positions in the cache.
        value_bytes: of a cached key or value.
        rows: sequences decoded side by side; they share the weights and not the cache.
    """
    weights = geometry.layers * geometry.matrices_per_layer + geometry.width * geometry.vocab
    cache = 2 * geometry.layers * geometry.kv_heads * geometry.head_dim * tokens * value_bytes * rows
    return int(weights * (bits / 8 + SCALE_BYTES[bits])) + cache
