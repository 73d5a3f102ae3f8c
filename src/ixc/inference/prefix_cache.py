"""Cache of keys and values of prompt prefixes: a second question on an image, or the next turn, prefills only the rest.

    ids, images --position_keys--> (T,) --longest common prefix--> a cache cut to it --generate--> put back, longer

A position is identified by its token; inside an image by the image's bytes and the index in the image. An image is
reused whole or not at all. A cache that is taken leaves the store and comes back longer; if cutting it would cost
another conversation its images, a copy is taken instead.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer

from ixc.inference.cache_memory import CacheMemory, LruStore, allocated_bytes, mapped_empty
from ixc.inference.settings import PREFIX_CACHE_BYTES
from ixc.model.kernels.step import Base
from ixc.model.plora import Spans

SPARE_POSITIONS = 64
"""Least number of free positions allocated beyond those used; a sixteenth of the length where that is more."""


class PreallocatedLayer(DynamicLayer):
    """Keys and values of one layer with free positions behind them.

    `DynamicLayer` of transformers copies all keys and values for each new token; here the new ones are written behind
    the old ones, and only a full storage is copied.
    """

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Append keys and values, (B, K, T, D) each, and return all of them."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
            self._storage: list[torch.Tensor] = []
        used = self.get_seq_length()
        total = used + key_states.shape[-2]
        if not self._fits(used, total, len(key_states)):
            pairs = ((self.keys, key_states), (self.values, value_states))
            self._storage = [_larger_storage(old, new, used, total) for old, new in pairs]
        keys, values = self._storage
        keys[:, :, used:total], values[:, :, used:total] = key_states, value_states
        self.keys, self.values = keys[:, :, :total], values[:, :, :total]
        return self.keys, self.values

    def _fits(self, used: int, total: int, rows: int) -> bool:
        """Return True if the keys lie in the storage and the new ones fit behind them.

        The keys may lie elsewhere: beam search reorders rows and assigns other tensors.
        """
        if not self._storage or used == 0 or self.keys is None:
            return False
        storage = self._storage[0]
        return self.keys.data_ptr() == storage.data_ptr() and len(storage) == rows and total <= storage.shape[-2]


def _larger_storage(old: Any, new: torch.Tensor, used: int, total: int) -> torch.Tensor:
    batch, heads, _, width = new.shape
    storage = mapped_empty(new, batch, heads, total + max(SPARE_POSITIONS, total // 16), width)
    if used:
        storage[:, :, :used] = old
    return storage


def preallocated_cache() -> DynamicCache:
    """Return an empty cache of `PreallocatedLayer`s, which are added as they are written to."""
    cache = DynamicCache()
    cache.layer_class_to_replicate = PreallocatedLayer
    return cache


def cache_bytes(cache: DynamicCache) -> int:
    """Return the memory of a cache, its free positions included."""
    layers: list[Any] = list(cache.layers)  # DynamicLayers: the library's union also has layers without keys
    parts = [part for layer in layers for part in (layer.keys, layer.values, *getattr(layer, "_storage", ()))]
    return allocated_bytes(part for part in parts if part is not None)


def position_keys(ids: list[int], spans: Spans, images: list[bytes], tokens: list[int]) -> np.ndarray:
    """Return one number a position: the token, or a negative number of the image's bytes and the index in it.

    Args:
        ids: the prompt.
        spans: runs of image tokens; several images may follow each other in one.
        images: keys of the images, in order.
        tokens: number of tokens of each image.

    Returns:
        (T,) int64.
    """
    found = np.array(ids, dtype=np.int64)
    places = np.concatenate([np.arange(a, b) for a, b in spans]) if spans else np.zeros(0, dtype=np.int64)
    start = 0
    for key, count in zip(images, tokens, strict=True):
        base = int.from_bytes(key[:8], "little") >> 2  # 62 bits: the negative numbers stay within int64
        found[places[start : start + count]] = -(base + np.arange(count))
        start += count
    return found


@dataclass(eq=False, kw_only=True)
class Prefix:
    """A prefix whose keys and values are kept."""

    identity: bytes
    """Digest of the weights that computed them."""
    positions: np.ndarray
    """As `position_keys`; at least as many as the cache holds."""
    cache: DynamicCache
    """Keys and values of one row."""
    users: int = 0
    """Rows being generated that read it; it is then neither cut nor handed over. Changed under the cache's lock."""
    bases: dict[int, Base] = field(default_factory=dict)
    """Its first positions as rows read them, by their number."""

    def base(self, shared: int) -> Base:
        """Return the first `shared` positions, the same object for every row that reads them."""
        if shared not in self.bases:
            held: list[Any] = list(self.cache.layers)
            self.bases[shared] = Base(layers=[(layer.keys, layer.values) for layer in held], shared=shared)
        return self.bases[shared]

    @property
    def length(self) -> int:
        """Positions held."""
        return self.cache.get_seq_length()


def common_prefix_length(one: np.ndarray, other: np.ndarray) -> int:
    """Return how many leading positions are the same; an image that differs anywhere counts as wholly different."""
    count = min(len(one), len(other))
    different = np.nonzero(one[:count] != other[:count])[0]
    end = int(different[0]) if len(different) else count
    # Within an image the numbers go down by one from its first to its last position.
    if 0 < end < len(one) and one[end] < 0 and one[end - 1] == one[end] + 1:
        inside = one[: end + 1]
        starts = np.nonzero((inside[1:] != inside[:-1] - 1) | (inside[:-1] >= 0))[0]
        end = int(starts[-1]) + 1 if len(starts) else 0
    return end


class PrefixCache:
    """Prefixes; the least recently used leave first.

    Args:
        limit: most bytes kept, >= 0; 0 keeps nothing.
        memory: limit that other caches share; None = no other.
    """

    def __init__(self, limit: int = PREFIX_CACHE_BYTES, *, memory: CacheMemory | None = None) -> None:
        self.tokens_reused = 0
        self._prefixes: LruStore[int, Prefix] = LruStore(limit, memory)

    @property
    def limit(self) -> int:
        """Most bytes kept."""
        return self._prefixes.limit

    @property
    def bytes(self) -> int:
        """Bytes kept, as allocated."""
        return self._prefixes.bytes

    def take(self, identity: bytes, positions: np.ndarray, *, least: int = 1) -> DynamicCache:
        """Return a cache of the longest known prefix, or an empty one.

        The last position is never taken: its hidden state chooses the first token of the answer.

        Args:
            identity: of the weights.
            positions: keys of the prompt's positions, see `position_keys`.
            least: fewest positions that are of use, >= 1.
        """
        with self._prefixes.memory.lock:
            best, length = self._longest(identity, positions)
            if best is None or length < least:
                return preallocated_cache()
            self.tokens_reused += length
            chosen = self._prefixes.use(best)
            if chosen.users or bool((chosen.positions[length : chosen.length] < 0).any()):
                return first_row(chosen.cache, length)
            self._prefixes.drop(best)
            chosen.cache.crop(length - chosen.length)
            return chosen.cache

    def lend(self, identity: bytes, positions: np.ndarray, least: int) -> tuple[Prefix, int] | None:
        """Return the longest known prefix, which stays here for others to read, and how much of it is common.

        It has one user more, until `give_back` or `take_back`.

        Args:
            identity, positions: as `take`.
            least: fewest positions that are of use, >= 1.
        """
        with self._prefixes.memory.lock:
            best, length = self._longest(identity, positions)
            if best is None or length < least:
                return None
            lent = self._prefixes.use(best)
            lent.users += 1
            return lent, length

    def give_back(self, prefix: Prefix) -> None:
        """Count one user of a prefix less."""
        with self._prefixes.memory.lock:
            prefix.users -= 1

    def take_back(self, prefix: Prefix, shared: int) -> bool:
        """Count one user less, and take the prefix out of the store if it may be changed behind its first positions.

        Another thread may look for prefixes at any time, so one that changes must not be in the store.

        Args:
            prefix: one that was lent, or added with a user.
            shared: positions that stay.

        Returns:
            True: nobody else has it, and its cache ends after `shared` positions; `add` keeps it again. False: it stays
            as it is, for others read it, or it holds images behind these positions.
        """
        with self._prefixes.memory.lock:
            prefix.users -= 1
            if prefix.users or bool((prefix.positions[shared : prefix.length] < 0).any()):
                return False
            if id(prefix) in self._prefixes:
                self._prefixes.drop(id(prefix))
        prefix.bases.clear()
        if prefix.length > shared:
            prefix.cache.crop(shared - prefix.length)
        return True

    def _longest(self, identity: bytes, positions: np.ndarray) -> tuple[int | None, int]:
        """Return the key of the longest known prefix, and its length without images cut in two; None if 1 or less."""
        found: dict[int, int] = {}
        for name, each in self._prefixes.items():
            if each.identity == identity:
                found[name] = min(common_prefix_length(positions, each.positions[: each.length]), len(positions) - 1)
        best = max(found, key=lambda name: found[name], default=None)
        length = 0 if best is None else common_prefix_length(positions, positions[: found[best]])
        return (None, 0) if length <= 1 else (best, length)  # one token is the <s> that all prompts share

    def add(self, prefix: Prefix) -> None:
        """Keep a prefix under its own name, or again after it has grown, if it fits the limit."""
        with self._prefixes.memory.lock:
            if id(prefix) in self._prefixes:
                self._prefixes.drop(id(prefix))
            self._prefixes.put(id(prefix), prefix, cache_bytes(prefix.cache) + prefix.positions.nbytes)

    def put(self, identity: bytes, positions: np.ndarray, cache: DynamicCache) -> None:
        """Keep a cache of one row, if it fits the limit.

        Args:
            identity: of the weights.
            positions: as `position_keys`.
            cache: keys and values of these positions.
        """
        if cache.get_seq_length() == 0:
            return
        self.add(Prefix(identity=identity, positions=positions, cache=cache))

    def clear(self) -> None:
        """Forget all prefixes."""
        with self._prefixes.memory.lock:
            self._prefixes.clear()


def first_row(cache: DynamicCache, length: int) -> DynamicCache:
    """Return a copy of the first `length` positions of the first row."""
    copy = preallocated_cache()
    layers: list[Any] = list(cache.layers)  # DynamicLayers: the library's union also has layers without keys
    for index, layer in enumerate(layers):
        copy.update(layer.keys[:1, :, :length], layer.values[:1, :, :length], index)
    return copy
