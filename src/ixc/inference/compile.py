"""torch.compile on vision tower, prefill and decode step: off by default, as the first answers wait for the compiler.

    vision tower  one graph: passes have one shape (`IxcModel.encode_tiles`)
    prefill       one graph for every length: the decoder with a dynamic length; image positions come as a mask,
                  because spans would make one graph for each layout
    decode step   one graph for every length, over a static cache

The length of a static cache is a power of two, so that few are made; the next call reuses it, so the prefix cache and
compile exclude each other. On a GPU its address is fixed and the decode step becomes CUDA graphs, one a length. Only
the engine passes such a cache; a bare `generate` of the model would compile for every length.
"""

from __future__ import annotations

from typing import Any

from transformers import CompileConfig, StaticCache

from ixc.model.transformers_contract import CACHE_NAME

MIN_CACHE_LENGTH = 1024
"""Positions of the smallest static cache."""

STATIC_ADDRESS_ATTRIBUTE = "_dynamo_static_input_type"
"""Attribute that `torch._dynamo.mark_static_address` sets."""


def cache_length(tokens: int, limit: int) -> int:
    """Positions of a static cache for `tokens` tokens.

    The smallest power of two that holds them, at least `MIN_CACHE_LENGTH` and at most `limit`; never below `tokens`.
    """
    return max(tokens, min(limit, max(MIN_CACHE_LENGTH, 1 << (tokens - 1).bit_length())))


class CompiledSteps:
    """Compiles vision tower and decoder in place, and returns the arguments of `generate` for compiled steps."""

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
        """Return the arguments of `generate`.

        Args:
            tokens: of the prompt and the longest answer.
            rows: of the batch, times beams.
        """
        text = self.model.config.text_config
        key = (rows, cache_length(tokens, text.max_position_embeddings))
        if self._cache is None or self._cache[0] != key:
            self._cache = None  # free the old one before the new one is allocated
            self._cache = key, self._new_cache(*key)
        cache = self._cache[1]
        cache.reset()
        return {CACHE_NAME: cache, "compile_config": self.config}

    def _new_cache(self, rows: int, length: int) -> StaticCache:
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
    """Remove the mark of a fixed address, under which every length would become a graph of its own."""
    layers: Any = cache.layers
    for layer in layers:
        for tensor in (layer.keys, layer.values, layer.cumulative_length):
            if hasattr(tensor, STATIC_ADDRESS_ATTRIBUTE):
                delattr(tensor, STATIC_ADDRESS_ATTRIBUTE)
