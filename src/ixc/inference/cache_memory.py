"""One memory limit for several caches: what was used longest ago leaves first, whichever cache holds it.

    TileCache   -- LruStore --|
    PrefixCache -- LruStore --|--> CacheMemory: the limit of their sum, their lock, the order of use

What is kept lies in memory of its own (`mapped_empty`), apart from the heap of what requests need and free: the blocks
of caches would lie between theirs, and what is freed would stay with the process. Sizes are what is allocated for the
storages of tensors, not what the tensors show: a view keeps its whole storage, and a mapping is whole pages.
"""

from __future__ import annotations

import math
import mmap
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import count
from threading import RLock
from typing import Generic, TypeVar

import torch

LARGE_BLOCK = 1 << 16
"""Bytes from which a kept tensor is mapped by itself."""

PAGE = mmap.PAGESIZE
"""Bytes of a page of memory; a mapping is a whole number of them."""

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
    return size if size < LARGE_BLOCK else -(-size // PAGE) * PAGE


def mapped_empty(like: torch.Tensor, *shape: int) -> torch.Tensor:
    """Return an uninitialised tensor to be kept, of another tensor's dtype and device.

    On a processor, a large one is mapped by itself, so that all of it goes back to the system when it is freed.
    `mallopt(M_MMAP_THRESHOLD)` would map what requests need too, and faulting its pages in for every activation took a
    fifth of the server's CPU time. Windows has no private mappings; there the heap is used.
    """
    size = math.prod(shape) * like.itemsize
    if like.device.type != "cpu" or size < LARGE_BLOCK or not hasattr(mmap, "MAP_PRIVATE"):
        return like.new_empty(shape)
    block = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    return torch.frombuffer(block, dtype=like.dtype).view(shape)  # holds the mapping, which ends with the tensor


def mapped_copy(tensor: torch.Tensor) -> torch.Tensor:
    """Return a contiguous copy to be kept, see `mapped_empty`."""
    return mapped_empty(tensor, *tensor.shape).copy_(tensor)


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
