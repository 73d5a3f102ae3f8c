"""One pass of a whole small decoder over the next tokens of several rows, in one call (`step.c`).

    tokens of rows --StepKernel.run--> logits (wanted, V); keys and values are written behind the rows' tails

For a model of a few million weights a pass takes a millisecond and the Python between its layers several. At the widths
of the 7B Python is less than a hundredth of a step and threads matter more: there the layers are called one by one.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from ixc.model.kernels import build
from ixc.model.linear import is_plain
from ixc.model.plora import PLoRALinear
from ixc.model.rope import rotary

SOURCE = Path(__file__).with_name("step.c")
"""The kernel."""

MAX_WEIGHTS = 1 << 26
"""Numbers of the largest decoder that one thread runs: 64 million, some 10 ms a step."""

MAX_TOKENS = 64
"""Tokens of one pass; more are as fast layer by layer."""

MAX_HEAD_WIDTH, MAX_GROUP = 256, 8
"""Largest head, and most query heads of a key head, that the kernel takes."""


@cache
def library() -> Any | None:
    """Return the compiled kernel, or None where it cannot be had."""
    return build.compile_library(SOURCE)


@dataclass(eq=False, kw_only=True)
class Base:
    """Keys and values that several rows read, position 0 to `shared`; a row continues them in a tail of its own."""

    layers: Sequence[tuple[torch.Tensor, torch.Tensor]]
    """Keys and values of every layer, (1, K, S, D) each, rows of a head one behind the other."""
    shared: int
    """Positions read, >= 1."""
    described: np.ndarray = field(init=False)
    """As the kernel reads it."""

    def __post_init__(self) -> None:
        pointers = [part.data_ptr() for pair in self.layers for part in pair]
        self.described = np.array([self.shared, self.layers[0][0].stride(1), *pointers], dtype=np.int64)


@dataclass(eq=False, kw_only=True)
class Tail:
    """Keys and values of one row behind its base."""

    store: torch.Tensor
    """(layers, 2, K, room, D) float32."""
    base: Base | None
    """None = the row has all of its positions here."""
    used: int = 0
    """Positions written."""

    @property
    def length(self) -> int:
        """Positions of the row, those of the base included."""
        return self.used + (0 if self.base is None else self.base.shared)

    def layer(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Return keys and values of a layer, (1, K, used, D) each."""
        keys, values = self.store[index, :, None, :, : self.used]
        return keys, values


class StepKernel:
    """The weights of a decoder as the kernel reads them.

    Args:
        model: an `IxcForConditionalGeneration` that `usable` accepts; its weights must not be replaced afterwards.
    """

    def __init__(self, model: Any) -> None:
        decoder, text = model.model.language_model, model.config.text_config
        self._config = text
        weights = [part for layer in decoder.layers for part in _layer_weights(layer)]
        self._kept = [*weights, decoder.norm.weight, model.output.weight, decoder.tok_embeddings.weight]
        self._weights = np.array([part.data_ptr() for part in self._kept], dtype=np.int64)
        self._eps = np.array([text.rms_norm_eps], dtype=np.float32)
        heads, inner = text.num_attention_heads * text.head_dim, text.intermediate_size
        fused = heads + 2 * text.num_key_value_heads * text.head_dim
        self._work = torch.empty(MAX_TOKENS * (2 * text.hidden_size + heads + max(fused, inner) + inner))
        self._sizes = np.array(
            [text.num_hidden_layers, text.hidden_size, text.num_attention_heads, text.num_key_value_heads,
             text.head_dim, inner, text.vocab_size, 0, 0],
            dtype=np.int64,
        )  # fmt: skip
        self._angles = torch.empty(0), torch.empty(0)

    @torch.inference_mode()
    def tail(self, room: int, base: Base | None) -> Tail:
        """Return an empty tail of at most `room` positions."""
        text = self._config
        shape = (text.num_hidden_layers, 2, text.num_key_value_heads, room, text.head_dim)
        return Tail(store=torch.empty(shape), base=base)

    @torch.inference_mode()
    def run(self, rows: Sequence[tuple[Tail, Sequence[int]]]) -> torch.Tensor:
        """Run the next tokens of rows, at most `MAX_TOKENS` together.

        Args:
            rows: tail and next tokens of each, at least one token, as many as there is room for.

        Returns:
            (rows, V) float32: the scores behind the last token of each row.
        """
        bases = list(dict.fromkeys(tail.base for tail, _ in rows if tail.base is not None))
        places = {base: place for place, base in enumerate(bases)}
        order = sorted(range(len(rows)), key=lambda index: places.get(rows[index][0].base, -1))  # type: ignore[arg-type]
        described = [each for out, index in enumerate(order) for each in _described(*rows[index], places, out)]
        numbers = np.array(described, dtype=np.int64)
        cosines, sines = self._angles_up_to(max(tail.length + len(ids) for tail, ids in rows))
        logits = torch.empty(len(rows), self._config.vocab_size)
        self._sizes[7:] = len(described), len(bases)
        pointers = np.array([base.described.ctypes.data for base in bases], dtype=np.int64)
        _call(self._weights, self._sizes, self._eps, numbers, pointers, cosines, sines, self._work, logits)
        for tail, ids in rows:
            tail.used += len(ids)
        if order == sorted(order):
            return logits
        found = torch.empty_like(logits)
        found[order] = logits
        return found

    def _angles_up_to(self, positions: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Return cosines and sines of at least so many positions, (positions, D) each."""
        if len(self._angles[0]) < positions:
            cosines, sines = rotary(self._config, torch.arange(2 * positions)[None], dtype=torch.float32)
            self._angles = cosines[0, 0].contiguous(), sines[0, 0].contiguous()
        return self._angles


def usable(model: Any) -> bool:
    """Return True if the kernel runs this model: float32 on the CPU, small, plain weights, fixed rotary base."""
    text, output = model.config.text_config, getattr(model, "output", None)
    sizes = (text.hidden_size, text.intermediate_size, text.num_attention_heads * text.head_dim)
    if not isinstance(output, nn.Linear) or text.rope_parameters.get("rope_type") != "default":
        return False
    decoder = model.model.language_model
    maps = [part.base for part in decoder.modules() if isinstance(part, PLoRALinear)] + [output]
    parts = [each.weight for each in maps] if all(map(is_plain, maps)) else []
    parts += [decoder.tok_embeddings.weight, decoder.norm.weight]
    return (
        len(parts) == len(maps) + 2
        and type(decoder.tok_embeddings) is nn.Embedding
        and sum(part.numel() for part in parts) <= MAX_WEIGHTS
        and all(p.dtype == torch.float32 and p.device.type == "cpu" and p.is_contiguous() for p in parts)
        and not any(size % 16 for size in sizes)
        and text.vocab_size % 8 == 0
        and text.head_dim % 16 == 0
        and text.head_dim <= MAX_HEAD_WIDTH
        and text.num_attention_heads // text.num_key_value_heads <= MAX_GROUP
        and library() is not None
    )


def _layer_weights(layer: Any) -> list[torch.Tensor]:
    attention, inner = layer.attention, layer.feed_forward
    maps = attention.wqkv, attention.wo, inner.w1, inner.w3, inner.w2
    first, second, *others = (part.base.weight for part in maps)
    return [layer.attention_norm.weight, first, second, layer.ffn_norm.weight, *others]


def _described(tail: Tail, ids: Sequence[int], places: dict[Base, int], out: int) -> list[list[int]]:
    """Return id, position, tail, its room, place in it, base and place of the logits of each token."""
    assert tail.used + len(ids) <= tail.store.shape[3]
    base = -1 if tail.base is None else places[tail.base]
    store, room, used, length, last = tail.store.data_ptr(), tail.store.shape[3], tail.used, tail.length, len(ids) - 1
    return [[token, length + i, store, room, used + i, base, out if i == last else -1] for i, token in enumerate(ids)]


def _call(*arguments: np.ndarray | torch.Tensor) -> None:
    found = [a.data_ptr() if isinstance(a, torch.Tensor) else a.ctypes.data for a in arguments]
    kernel: Any = library()
    kernel.ixc_step(*map(ctypes.c_void_p, found))
