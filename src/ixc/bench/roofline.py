"""Roofline model: the FLOP and memory reads that an answer needs at least, to express a time as a share of a limit.

    prefill    decoder linear layers, PLoRA at image tokens, attention (causal half), head at the last position
    vision     vision encoder and projector
    step       all weights of the decoder's linear layers and the head read once, and the KV cache

The formulas are in `ixc.inference.cost`. One multiply-add = 2 FLOP.
"""

from __future__ import annotations

from ixc.inference.cost import ModelGeometry, Plan

SCALE_BYTES = {32: 0.0, 16: 0.0, 8: 0.0, 4: 4 / 128}
"""Bytes of quantisation scales per weight: in 4 bits two bfloat16 per 128 weights; in 8 bits two bytes per row, ~0."""


def prefill_flops(plan: Plan) -> int:
    """Compute the FLOP of a prefill."""
    return sum(value for name, value in plan.flops().items() if name in ("decoder", "attention", "PLoRA", "head"))


def vision_flops(plan: Plan) -> int:
    """Compute the FLOP of vision encoder and projector."""
    flops = plan.flops()
    return flops["vision tower"] + flops["projector"]


def step_bytes(geometry: ModelGeometry, *, bits: int, tokens: int, value_bytes: int = 4, rows: int = 1) -> int:
    """Compute the bytes that one decode step must read.

    Args:
        geometry: sizes of the model.
        bits: of the decoder's linear layers and the head: 32, 16, 8 or 4.
        tokens: positions in the KV cache.
        value_bytes: bytes of a cached number.
        rows: batch size; sequences share the weights but not the KV cache.
    """
    weights = geometry.layers * geometry.matrices_per_layer + geometry.width * geometry.vocab
    cache = 2 * geometry.layers * geometry.kv_heads * geometry.head_dim * tokens * value_bytes * rows
    return int(weights * (bits / 8 + SCALE_BYTES[bits])) + cache
