"""The machine: its name, its measured limits (compute and memory bandwidth), and the memory in use."""

from __future__ import annotations

import ctypes
import gc
import os
import platform
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median
from threading import Event, Thread
from time import perf_counter

import torch
from torch import nn

from ixc.model.kernels import ops, prefill, products
from ixc.model.linear import linear
from ixc.model.quantization.layers import GROUPS, QuantizedLinear
from ixc.model.sizes import BITS

MATRIX = (1024, 4096, 14336)
"""(M, K, N) of the measured matrix product: a prefill through the 7B's w1."""

READ_BYTES = 1 << 30
"""Size of the matrix for the bandwidth measurement."""

READ_WIDTH = 4096
"""Columns of that matrix."""

TRIES = 9
"""Runs per limit; the fastest counts."""

SAMPLE_SECONDS = 0.005
"""Interval between two readings of the memory in use."""


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
    """Return a readable name: "AMD EPYC, 2 threads of 2 cores"."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    model = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.is_file():
        found = re.search(r"^model name\s*: (.+)$", info.read_text(encoding="utf-8", errors="replace"), re.M)
        model = found[1].strip() if found else model
    return f"{model}, {torch.get_num_threads()} threads of {os.cpu_count()} cores"


def slug(device: torch.device) -> str:
    """Return a name for file names: "amd-epyc-2-threads"."""
    return re.sub(r"-of-\d+-cores$", "", re.sub(r"[^a-z0-9]+", "-", name(device).lower()).strip("-"))


def wait(device: torch.device) -> None:
    """Wait until all work queued on the device is done."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def best(run: Callable[[], object], device: torch.device, *, tries: int = TRIES) -> float:
    """Time the fastest of `tries` runs after one warm-up, seconds."""
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
    """Measure FLOP per second of a large matrix product in a dtype: the best of those that this machine has."""
    return max(_rates(_products(device, dtype), tries).values())


@torch.inference_mode()
def product_rates(device: torch.device, *, tries: int = TRIES) -> dict[str, float]:
    """Measure FLOP per second of every product that a model here may take, by name: "float32, oneDNN"."""
    kinds = (torch.float32, torch.bfloat16)
    found = {}
    for kind in kinds:
        label = str(kind).removeprefix("torch.")
        found |= {f"{label}, {name}": rate for name, rate in _rates(_products(device, kind), tries).items()}
    return found | (_rates(_quantized_products(), tries) if device.type == "cpu" else {})


def _rates(runs: dict[str, Callable[[], object]], tries: int) -> dict[str, float]:
    m, k, n = MATRIX
    return {name: 2 * m * k * n / best(run, torch.device("cpu"), tries=tries) for name, run in runs.items()}


def _products(device: torch.device, dtype: torch.dtype) -> dict[str, Callable[[], object]]:
    """Return the products of a dtype, ready to run."""
    m, k, n = MATRIX
    x, w = torch.randn(m, k, device=device, dtype=dtype), torch.randn(n, k, device=device, dtype=dtype)
    y = torch.empty(m, n, device=device, dtype=dtype)

    def torchs() -> None:
        torch.mm(x, w.T, out=y)
        wait(device)

    found: dict[str, Callable[[], object]] = {"torch": torchs}
    if device.type == "cpu" and torch.backends.mkldnn.is_available():
        found["oneDNN"] = lambda: products.onednn(x, w, None)
    return found


def _quantized_products() -> dict[str, Callable[[], object]]:
    """Return the products of 8- and 4-bit weights: the kernel of a decode step, and that of a prefill."""
    m, k, n = MATRIX
    x = torch.randn(m, k)
    found: dict[str, Callable[[], object]] = {}
    for bits in BITS:
        module = QuantizedLinear(k, n, bits=bits, group_size=GROUPS[0])
        if ops.usable(x):
            given = (module.q, module.scale) if module.low is None else (module.q, module.scale, module.low)
            kernel = ops.linear8 if bits == 8 else ops.linear4
            found[f"{bits} bits, decode kernel"] = partial(kernel, x, *given)
        if prefill.usable(x, k * n):
            found[f"{bits} bits, bfloat16"] = partial(prefill.quantized_linear, x, module.q, module.scale, module.low)
    return found


@torch.inference_mode()
def read_rate(device: torch.device, *, tries: int = TRIES) -> float:
    """Measure memory bandwidth, bytes per second: the better of a sum and of a matrix-vector product."""
    matrix = nn.Linear(READ_WIDTH, READ_BYTES // 4 // READ_WIDTH, bias=False, device="meta").to_empty(device=device)
    matrix.weight.fill_(1.0)
    row = torch.ones(1, READ_WIDTH, device=device)
    return READ_BYTES / min(best(run, device, tries=tries) for run in (matrix.weight.sum, lambda: linear(matrix, row)))


def resident(device: torch.device) -> int:
    """Return the bytes in use now."""
    if device.type == "cuda":
        return torch.cuda.memory_allocated(device)
    statm = Path("/proc/self/statm")
    return int(statm.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") if statm.is_file() else 0


@contextmanager
def peak(device: torch.device) -> Iterator[list[int]]:
    """Measure the peak memory of a block above the use before it, bytes, in a list of one.

    Source: torch's allocator on a GPU; the kernel's high-water mark on Linux, which misses no short peak; elsewhere
    sampling every few milliseconds. The allocator's free memory is returned first, because it would hide the growth.
    """
    _release_free_memory()
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
        with _sampled(device) as most:
            yield found
        found[0] = most[0] - before


def _release_free_memory() -> None:
    """Return free memory to the system, where the C library can do that."""
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if os.name == "posix" else None
    if trim is not None:
        trim(0)


def _reset_high_water() -> bool:
    """Reset the kernel's high-water mark of this process to its present use; return False if there is none."""
    try:
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    except OSError:
        return False
    return True


def _high_water() -> int:
    """Return the peak bytes of this process since the reset."""
    found = re.search(r"^VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text(encoding="ascii"), re.M)
    assert found is not None
    return int(found[1]) * 1024


@contextmanager
def _sampled(device: torch.device) -> Iterator[list[int]]:
    """Sample the peak bytes in use."""
    found, done = [resident(device)], Event()

    def sample() -> None:
        while not done.wait(SAMPLE_SECONDS):
            found[0] = max(found[0], resident(device))

    thread = Thread(target=sample, daemon=True)
    thread.start()
    try:
        yield found
    finally:
        done.set()
        thread.join()
