"""The allocator's setting: it is accepted where there is glibc and harmless elsewhere."""

import ctypes
from typing import Any

import pytest

from ixc.utils import allocator


def test_return_large_blocks_sets_the_threshold(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[int, int]] = []

    class Libc:
        def mallopt(self, name: int, value: int) -> int:
            calls.append((name, value))
            return 1

    monkeypatch.setattr(ctypes, "CDLL", lambda name: Libc())
    allocator.return_large_blocks()
    assert calls == [(-3, 1 << 16)]


def test_return_large_blocks_does_nothing_without_glibc(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> Any:
        raise OSError(name)

    monkeypatch.setattr(ctypes, "CDLL", missing)
    allocator.return_large_blocks()
