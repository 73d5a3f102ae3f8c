"""The machine: its name, what it can compute and read at most (measured), and how much memory is in use."""

from __future__ import annotations

import ctypes
import gc
import os
import platform
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from threading import Event, Thread
from time import perf_counter

import torch
from torch import nn

from ixc.model.linear import linear

MATRIX = (1024, 4096, 14336)
"""Rows, inner and outer width of the measured product: a prefill through the 7B's w1."""

READ_BYTES = 1 << 30
"""Size of the matrix that is read through."""

READ_WIDTH = 4096
"""Its columns."""

TRIES = 9
"""Runs of a ceiling, the best of which counts."""

SAMPLED = 0.005
"""Seconds between two looks at the memory in use."""


@dataclass(frozen=True, kw_only=True)
class Times:
    """Repeated measurements, seconds."""

    values: tuple[float, ...]
    """In order."""

    @property
    def median(self) -> float:
        """The middle one."""
        return median(self.values)


def name(device: torch.device) -> str:
    """For people: "AMD EPYC, 2 cores"."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    model = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.is_file():
        found = re.search(r"^model name\s*: (.+)$", info.read_text(encoding="utf-8", errors="replace"), re.M)
        model = found[1].strip() if found else model
    return f"{model}, {torch.get_num_threads()} threads of {os.cpu_count()} cores"


def slug(device: torch.device) -> str:
    """For file names: "amd-epyc-2-threads"."""
    return re.sub(r"-of-\d+-cores$", "", re.sub(r"[^a-z0-9]+", "-", name(device).lower()).strip("-"))


def wait(device: torch.device) -> None:
    """Until the device has done all it was told."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def best(run: Callable[[], object], device: torch.device, *, tries: int = TRIES) -> float:
    """Seconds of the fastest of `tries` runs, after one for warming."""
    found = []
    for _ in range(tries + 1):
        wait(device)
        start = perf_counter()
        run()
        wait(device)
        found.append(perf_counter() - start)
    return min(found[1:])


@torch.inference_mode()
def matrix_rate(device: torch.device, dtype: torch.dtype, *, tries: int = TRIES) -> float:
    """FLOP a second of a large matrix product."""
    m, k, n = MATRIX
    x, w = torch.randn(m, k, device=device, dtype=dtype), torch.randn(n, k, device=device, dtype=dtype)
    y = torch.empty(m, n, device=device, dtype=dtype)
    return 2 * m * k * n / best(lambda: torch.mm(x, w.T, out=y), device, tries=tries)


@torch.inference_mode()
def read_rate(device: torch.device, *, tries: int = TRIES) -> float:
    """Bytes a second of reading memory once through: the best of a sum and of a matrix with one row."""
    matrix = nn.Linear(READ_WIDTH, READ_BYTES // 4 // READ_WIDTH, bias=False, device="meta").to_empty(device=device)
    matrix.weight.fill_(1.0)
    row = torch.ones(1, READ_WIDTH, device=device)
    return READ_BYTES / min(best(way, device, tries=tries) for way in (matrix.weight.sum, lambda: linear(matrix, row)))


def resident(device: torch.device) -> int:
    """Bytes in use now."""
    if device.type == "cuda":
        return torch.cuda.memory_allocated(device)
    statm = Path("/proc/self/statm")
    return int(statm.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") if statm.is_file() else 0


@contextmanager
def peak(device: torch.device) -> Iterator[list[int]]:
    """Most bytes in use inside the block beyond those before it, in a list of one.

    On a GPU by torch's allocator, on Linux by the system's high-water mark, which misses nothing, elsewhere by looking
    every few milliseconds. What the allocator held free before is given back first, else it would hide the growth.
    """
    _give_back()
    before = resident(device)
    found = [0]
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        yield found
        found[0] = torch.cuda.max_memory_allocated(device) - before
    elif _reset_high_water():
        yield found
        found[0] = _high_water() - before
    else:
        with _watched(device) as most:
            yield found
        found[0] = most[0] - before


def _give_back() -> None:
    """Free memory back to the system, where the C library can do that."""
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if os.name == "posix" else None
    if trim is not None:
        trim(0)


def _reset_high_water() -> bool:
    """The kernel's high-water mark of this process set to what it holds now; False where there is none."""
    try:
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    except OSError:
        return False
    return True


def _high_water() -> int:
    """Most bytes this process held since the mark was set."""
    found = re.search(r"^VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text(encoding="ascii"), re.M)
    assert found is not None
    return int(found[1]) * 1024


@contextmanager
def _watched(device: torch.device) -> Iterator[list[int]]:
    """Most bytes in use, by looking."""
    found, done = [resident(device)], Event()

    def look() -> None:
        while not done.wait(SAMPLED):
            found[0] = max(found[0], resident(device))

    thread = Thread(target=look, daemon=True)
    thread.start()
    try:
        yield found
    finally:
        done.set()
        thread.join()
