"""One memory limit for several caches: what was used longest ago leaves first, whichever cache holds it.

    TileCache   -- LruStore --|
    PrefixCache -- LruStore --|--> CacheMemory: the limit of their sum, their lock, the order of use

Sizes are what the allocator hands out for the storages of tensors, not what the tensors show: a view keeps its whole
storage, and large blocks are counted as whole pages, as if each were mapped by itself.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import count
from threading import RLock
from typing import Generic, TypeVar

import torch

LARGE_BLOCK = 1 << 17
"""Bytes from which glibc 2.36 maps a block by itself, at least at first (`M_MMAP_THRESHOLD`)."""

PAGE = 4096
"""Bytes of a page of memory; a mapped block is a whole number of them."""

BLOCK_HEADER = 112
"""Bytes that glibc 2.36's aligned malloc adds to a mapped block: alignment to 64, least block of 32, header of 16."""

CUDA_BLOCK = 512
"""Sizes of blocks of torch's CUDA allocator are a multiple of it (`kMinBlockSize`, torch 2.13)."""

K = TypeVar("K")
V = TypeVar("V")


def allocated_bytes(tensors: Iterable[torch.Tensor]) -> int:
    """Return the memory that the storages of tensors take; a storage that several tensors share counts once."""
    storages = {tensor.untyped_storage().data_ptr(): tensor.untyped_storage() for tensor in tensors}
    return sum(_block_bytes(storage.nbytes(), storage.device.type) for storage in storages.values())


def _block_bytes(size: int, device: str) -> int:
    if device == "cuda":
        return -(-size // CUDA_BLOCK) * CUDA_BLOCK
    return size if size < LARGE_BLOCK else -(-(size + BLOCK_HEADER) // PAGE) * PAGE


class CacheMemory:
    """The limit of the sum of several stores.

    Args:
        limit: most bytes of all stores together, >= 0.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.lock = RLock()
        """Held while a store is read or changed."""
        self._stores: list[LruStore] = []
        self._uses = count()

    @property
    def bytes(self) -> int:
        """Bytes of all stores."""
        return sum(store.bytes for store in self._stores)

    def add(self, store: LruStore) -> None:
        """Let a store count; called by the store."""
        self._stores.append(store)

    def next_use(self) -> int:
        """Return a number above all earlier ones."""
        return next(self._uses)

    def shrink(self) -> None:
        """Drop what was used longest ago until the sum is within the limit."""
        while self.bytes > self.limit:
            min((store for store in self._stores if len(store)), key=lambda store: store.oldest_use).drop_oldest()


@dataclass(kw_only=True)
class _Entry(Generic[V]):
    """A value that is kept."""

    value: V
    size: int
    """Bytes."""
    used: int
    """When it was last used, by `CacheMemory.next_use`."""


class LruStore(Generic[K, V]):
    """Values by key, ordered by use. Callers hold the memory's lock over whatever must happen together.

    Args:
        limit: most bytes of this store, >= 0.
        memory: the limit it shares with others; None = of its own.
    """

    def __init__(self, limit: int, memory: CacheMemory | None = None) -> None:
        self.memory = CacheMemory(limit) if memory is None else memory
        self.limit = min(limit, self.memory.limit)
        self.bytes = 0
        self._entries: OrderedDict[K, _Entry[V]] = OrderedDict()
        self.memory.add(self)

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, key: K) -> bool:
        return key in self._entries

    @property
    def oldest_use(self) -> int:
        """When the value that was used longest ago was used; the store holds one."""
        return next(iter(self._entries.values())).used

    def items(self) -> list[tuple[K, V]]:
        """Return keys and values; the values count as unused."""
        return [(key, entry.value) for key, entry in self._entries.items()]

    def use(self, key: K) -> V:
        """Return the value of a known key, which is then the one used last."""
        entry = self._entries[key]
        entry.used = self.memory.next_use()
        self._entries.move_to_end(key)
        return entry.value

    def put(self, key: K, value: V, size: int) -> None:
        """Keep a value under a new key if it fits, and drop older ones until the limits hold.

        Args:
            size: bytes, see `allocated_bytes`.
        """
        if size > self.limit:
            return
        self._entries[key] = _Entry(value=value, size=size, used=self.memory.next_use())
        self.bytes += size
        while self.bytes > self.limit:
            self.drop_oldest()
        self.memory.shrink()

    def drop(self, key: K) -> None:
        """Forget a known key."""
        self.bytes -= self._entries.pop(key).size

    def drop_oldest(self) -> None:
        """Forget what was used longest ago; the store holds something."""
        self.drop(next(iter(self._entries)))

    def clear(self) -> None:
        """Forget everything."""
        self._entries.clear()
        self.bytes = 0
