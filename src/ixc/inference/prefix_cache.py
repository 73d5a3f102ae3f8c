"""Keys and values of what was read, kept: a second question on an image, or the next turn, reads only what is new.

    ids, images --signature--> numbers --longest common beginning--> Prefix: a cache, cut to it --generate--> put back

A position is known by its token, at an image by the image's bytes and the place in it. An image is kept whole or not at
all. What a call takes leaves the store and comes back longer; if that would cost another conversation its images, a
copy is taken instead.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from threading import Lock
from typing import Any

import numpy as np
import torch
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer

from ixc.inference.vision_cache import check_bytes
from ixc.model.plora import Spans

PREFIX_CACHE_BYTES = 2 << 30
"""Keys and values kept by default: 16,384 tokens of the 7B in bfloat16, half of it in float32."""

SPARE_POSITIONS = 64
"""Positions of spare room behind what a cache holds, at least; else a sixteenth."""


class PreallocatedLayer(DynamicLayer):
    """One layer's keys and values with storage behind them: a new token is written, and the old ones are not copied."""

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """(B, K, T, D) each, appended; returns all. The rows beyond are free room."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
            self._storage: list[torch.Tensor] = []
        held = self.get_seq_length()
        total = held + key_states.shape[-2]
        if not self._fits(held, total, len(key_states)):
            pairs = ((self.keys, key_states), (self.values, value_states))
            self._storage = [_moved(old, new, held, total) for old, new in pairs]
        keys, values = self._storage
        keys[:, :, held:total], values[:, :, held:total] = key_states, value_states
        self.keys, self.values = keys[:, :, :total], values[:, :, :total]
        return self.keys, self.values

    def _fits(self, held: int, total: int, rows: int) -> bool:
        """True if what is held lies in the storage and the new fits behind it: beams put other tensors in its place."""
        if not self._storage or held == 0 or self.keys is None:
            return False
        storage = self._storage[0]
        return self.keys.data_ptr() == storage.data_ptr() and len(storage) == rows and total <= storage.shape[-2]


def _moved(old: Any, new: torch.Tensor, held: int, total: int) -> torch.Tensor:
    batch, heads, _, width = new.shape
    storage = new.new_empty(batch, heads, total + max(SPARE_POSITIONS, total // 16), width)
    if held:
        storage[:, :, :held] = old
    return storage


def preallocated_cache() -> DynamicCache:
    """An empty cache of `PreallocatedLayer`s; they are added as they are written to."""
    cache = DynamicCache()
    cache.layer_class_to_replicate = PreallocatedLayer
    return cache


def bytes_of(cache: DynamicCache) -> int:
    """Memory a cache holds, its spare room counted."""
    return sum(part.nbytes for layer in cache.layers for part in getattr(layer, "_storage", ()))


def prefix_key(ids: list[int], spans: Spans, images: list[bytes], tokens: list[int]) -> np.ndarray:
    """A number a position: the token, or one of an image's bytes and the place in the image. (T,) int64

    Args:
        ids: the prompt.
        spans: where image tokens stand; several images may follow each other in one.
        images: keys of the images, in order.
        tokens: of each image.
    """
    found = np.array(ids, dtype=np.int64)
    places = np.concatenate([np.arange(a, b) for a, b in spans]) if spans else np.zeros(0, dtype=np.int64)
    start = 0
    for key, count in zip(images, tokens, strict=True):
        base = int.from_bytes(key[:8], "little") >> 2  # of 62 bits: far above any token
        found[places[start : start + count]] = -(base + np.arange(count))
        start += count
    return found


@dataclass(eq=False, kw_only=True)
class Prefix:
    """A beginning that was read."""

    identity: bytes
    """Of the weights that read it."""
    numbers: np.ndarray
    """As `prefix_key`; at least as many as positions held."""
    cache: DynamicCache
    """Keys and values of one row."""

    @property
    def length(self) -> int:
        """Positions held."""
        return self.cache.get_seq_length()


def common_prefix_length(one: np.ndarray, other: np.ndarray) -> int:
    """Length of the common beginning of two signatures, an image kept whole."""
    count = min(len(one), len(other))
    different = np.nonzero(one[:count] != other[:count])[0]
    end = int(different[0]) if len(different) else count
    # Within an image the numbers go down by one from its first to its last position.
    if 0 < end < len(one) and one[end] < 0 and one[end - 1] == one[end] + 1:
        inside = one[: end + 1]
        steps = np.nonzero((inside[1:] != inside[:-1] - 1) | (inside[:-1] >= 0))[0]
        end = int(steps[-1]) + 1 if len(steps) else 0
    return end


class PrefixCache:
    """Beginnings, the longest unused going first.

    Args:
        limit: most bytes kept, >= 0; 0 keeps nothing.
    """

    def __init__(self, limit: int = PREFIX_CACHE_BYTES) -> None:
        self.limit = check_bytes("prefix_cache", limit)
        self.bytes = self.tokens_reused = 0
        self._kept: OrderedDict[int, Prefix] = OrderedDict()
        self._lock = Lock()

    def take(self, identity: bytes, numbers: np.ndarray) -> DynamicCache:
        """A cache that holds the longest known beginning of these numbers, short of the last one; it may be empty."""
        with self._lock:
            lengths = {
                name: min(common_prefix_length(numbers, each.numbers[: each.length]), len(numbers) - 1)
                for name, each in self._kept.items()
                if each.identity == identity
            }
            best = max(lengths, key=lambda name: lengths[name], default=None)
            if best is None or lengths[best] <= 1:
                return preallocated_cache()
            length = common_prefix_length(numbers, numbers[: lengths[best]])
            if length <= 1:
                return preallocated_cache()
            self.tokens_reused += length
            chosen = self._kept[best]
            if bool((chosen.numbers[length : chosen.length] < 0).any()):
                self._kept.move_to_end(best)
                return first_row(chosen.cache, length)
            self._drop(best)
            chosen.cache.crop(length - chosen.length)
            return chosen.cache

    def put(self, identity: bytes, numbers: np.ndarray, cache: DynamicCache) -> None:
        """Keeps a cache of one row whose positions are these numbers."""
        size = bytes_of(cache)
        if size > self.limit or cache.get_seq_length() == 0:
            return
        with self._lock:
            prefix = Prefix(identity=identity, numbers=numbers, cache=cache)
            self._kept[id(prefix)] = prefix
            self.bytes += size
            while self.bytes > self.limit:
                self._drop(next(iter(self._kept)))

    def clear(self) -> None:
        """Forgets everything."""
        with self._lock:
            self._kept.clear()
            self.bytes = 0

    def _drop(self, name: int) -> None:
        self.bytes -= bytes_of(self._kept.pop(name).cache)


def first_row(cache: DynamicCache, length: int) -> DynamicCache:
    """A copy of the first `length` positions of the first row."""
    copy = preallocated_cache()
    for index, layer in enumerate(cache.layers):
        assert layer.keys is not None
        assert layer.values is not None
        copy.update(layer.keys[:1, :, :length], layer.values[:1, :, :length], index)
    return copy
