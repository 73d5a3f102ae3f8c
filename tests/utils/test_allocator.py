"""Freed memory goes back to the system where there is glibc; elsewhere nothing happens."""

import ctypes
import subprocess
import sys
from typing import Any

import pytest

from ixc.utils import allocator

PROGRAM = """
import ctypes
from pathlib import Path
from ixc.utils.allocator import release_free_memory
resident = lambda: int(Path("/proc/self/statm").read_text().split()[1]) * 4096
kept, freed = [], []
for _ in range(4000):  # blocks that stay between blocks that go
    freed.append(bytes(16_000))
    kept.append(bytes(600))
before = resident()
freed.clear()
held = resident()
release_free_memory()
print(before - held, held - resident())
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the memory of the process is read from /proc")
def test_release_free_memory_between_blocks_that_stay() -> None:
    try:
        ctypes.CDLL("libc.so.6")
    except OSError:
        pytest.skip("no glibc")
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)
    by_itself, released = map(int, done.stdout.split())
    assert by_itself < 5_000_000  # of 64 MB freed
    assert released > 30_000_000  # whole pages of each block


def test_release_free_memory_does_nothing_without_glibc(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> Any:
        raise OSError(name)

    monkeypatch.setattr(ctypes, "CDLL", missing)
    allocator.release_free_memory()
