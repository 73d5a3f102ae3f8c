"""torch.compile on tower, reading and decode step: off by default, as the first answers wait for the compiler.

    tower         one graph: passes have one shape (`IxcModel.encode_tiles`)
    reading       one graph for every length: the layers of the decoder with a dynamic length; where image tokens are
                  comes as a mask, as spans would be a graph a layout
    decode step   one graph for every length, over a static cache

A static cache has a power of two of positions, so that few are made, and is used again by the next call: kept prefixes
and compile exclude each other. On a GPU its address is fixed and the decode step becomes CUDA graphs, one a length.
Only what goes through the engine has such a cache; a bare `generate` of the model would compile for every length.
"""

from __future__ import annotations

from typing import Any

from transformers import CompileConfig, StaticCache

from ixc.model.transformers_contract import CACHE_NAME

MIN_CACHE_LENGTH = 1024
"""Positions of the smallest static cache."""

STATIC_ADDRESS_ATTRIBUTE = "_dynamo_static_input_type"
"""What `torch._dynamo.mark_static_address` sets."""


def cache_length(tokens: int, limit: int) -> int:
    """Positions of a static cache for `tokens` tokens.

    The smallest power of two that holds them, at least `MIN_CACHE_LENGTH` and at most `limit`; never below `tokens`.
    """
    return max(tokens, min(limit, max(MIN_CACHE_LENGTH, 1 << (tokens - 1).bit_length())))


class CompiledSteps:
    """Compiles tower and decoder in place, and says what `generate` needs for compiled steps."""

    def __init__(self, model: Any) -> None:
        self.model = model
        graphs = model.device.type == "cuda"
        model.model.vision_tower.compile(dynamic=False)
        model.model.language_model.compile(dynamic=True)
        mode: Any = "reduce-overhead" if graphs else None
        self.config: Any = CompileConfig(mode=mode, fullgraph=False, dynamic=not graphs)
        self.config._compile_all_devices = True
        self._fixed = graphs
        self._cache: tuple[tuple[int, int], StaticCache] | None = None

    def arguments(self, tokens: int, *, rows: int) -> dict[str, Any]:
        """What `generate` takes.

        Args:
            tokens: prompt and longest answer.
            rows: of the batch, times beams.
        """
        text = self.model.config.text_config
        key = (rows, cache_length(tokens, text.max_position_embeddings))
        if self._cache is None or self._cache[0] != key:
            self._cache = None  # first let go of the old one
            self._cache = key, self._made(*key)
        cache = self._cache[1]
        cache.reset()
        return {CACHE_NAME: cache, "compile_config": self.config}

    def _made(self, rows: int, length: int) -> StaticCache:
        text = self.model.config.text_config
        cache = StaticCache(config=text, max_cache_len=length)
        cache.early_initialization(
            batch_size=rows,
            num_heads=text.num_key_value_heads,
            head_dim=text.head_dim,
            dtype=self.model.dtype,
            device=self.model.device,
        )
        if not self._fixed:
            _unmark_static_address(cache)
        return cache


def _unmark_static_address(cache: StaticCache) -> None:
    """Takes the mark of a fixed address away: with it every length would be a graph."""
    layers: Any = cache.layers
    for layer in layers:
        for tensor in (layer.keys, layer.values, layer.cumulative_length):
            if hasattr(tensor, STATIC_ADDRESS_ATTRIBUTE):
                delattr(tensor, STATIC_ADDRESS_ATTRIBUTE)
