"""The C kernels of a decode step: compiled once by the machine's own compiler, called through three torch operators.

    kernels.c --cc -O3 -march=native--> <cache>/ixc/kernels-<hash>.so --ctypes--> ixc::linear8, linear4, attend_one

torch's own kernels of 4 bits reach a quarter of the speed on AVX2; its product of 8-bit numbers rounds all activations
by one scale, which a single large one spoils. These read the weights as they are stored, at the memory's rate. Where
there is no compiler everything still works, unpacked by torch, and slowly. `IXC_KERNELS=0` switches them off.
torch's attention reads the keys of one query at a third of the memory's rate; the kernel here at two thirds.
"""

from __future__ import annotations

import ctypes
import hashlib
import logging
import os
import platform
import shutil
import subprocess
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import torch

SOURCE = Path(__file__).with_name("decode.c")
"""The kernels."""

FLAGS = ("-O3", "-march=native", "-ffast-math", "-fopenmp", "-fPIC")
"""How they are compiled. Linked without OpenMP: the symbols are those of torch's, so both share one set of threads."""

MOST = 8
"""Query heads of one key head that the kernel takes."""

VECTORS = 32
"""What the width of a head must be a multiple of."""

CHUNKS, SHORTEST = 64, 256
"""Keys are cut for the cores into at most so many chunks of at least so many keys."""

_LONGEST_COMPILATION = 60
"""Seconds."""


@cache
def library() -> Any | None:
    """The compiled kernels, or None where they cannot be had."""
    return compiled(SOURCE)


def compiled(source: Path) -> Any | None:
    """A file of C, compiled for this machine and loaded; None where there is no compiler, or none is wanted."""
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if os.environ.get("IXC_KERNELS") == "0" or compiler is None or platform.system() != "Linux":
        return None
    try:
        return ctypes.CDLL(str(_compiled(source, compiler)))
    except (OSError, subprocess.SubprocessError) as error:
        logging.getLogger(__name__).warning("%s could not be compiled, so what it does is slow: %s", source.name, error)
        return None


def _compiled(source: Path, compiler: str) -> Path:
    """The shared library, made if this machine has none yet; it appears under its name whole or not at all."""
    cpu = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").split("\n\n")[0]
    features = "".join(line for line in cpu.splitlines() if line.startswith(("flags", "Features", "model name")))
    seen = hashlib.sha256(source.read_bytes() + f"{compiler} {FLAGS} {features}".encode()).hexdigest()[:16]
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "ixc"
    target = folder / f"{source.stem}-{seen}.so"
    if target.is_file():
        return target
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as draft:
        parts, whole = Path(draft) / "kernels.o", Path(draft) / "kernels.so"
        for command in ([*FLAGS, "-c", str(source), "-o", str(parts)], ["-shared", str(parts), "-o", str(whole)]):
            subprocess.run([compiler, *command], check=True, capture_output=True, timeout=_LONGEST_COMPILATION)
        whole.replace(target)
    return target


def usable(x: torch.Tensor) -> bool:
    """True where the kernels can take x: float32 on a CPU, and compiled."""
    return x.dtype == torch.float32 and x.device.type == "cpu" and library() is not None


def _call(name: str, *arguments: torch.Tensor | int) -> None:
    found = [ctypes.c_void_p(a.data_ptr()) if isinstance(a, torch.Tensor) else ctypes.c_long(a) for a in arguments]
    getattr(library(), name)(*found)


_operators = torch.library.Library("ixc", "DEF")
_operators.define("linear8(Tensor x, Tensor q, Tensor scale) -> Tensor")
_operators.define("linear4(Tensor x, Tensor q, Tensor scale, Tensor low) -> Tensor")
_operators.define("attend_one(Tensor query, Tensor key, Tensor value) -> Tensor")


def _linear8(x: torch.Tensor, q: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
    x = x.contiguous()
    rows, width = x.numel() // x.shape[-1], x.shape[-1]
    y = x.new_empty(*x.shape[:-1], q.shape[0])
    rounded, scales = x.new_empty(x.shape, dtype=torch.int16), x.new_empty(rows)
    _call("ixc_linear8", x, q, scale, rounded, scales, y, rows, width, q.shape[0])
    return y


def _linear4(x: torch.Tensor, q: torch.Tensor, scale: torch.Tensor, low: torch.Tensor) -> torch.Tensor:
    x = x.contiguous()
    rows, width, groups = x.numel() // x.shape[-1], x.shape[-1], scale.shape[1]
    y = x.new_empty(*x.shape[:-1], q.shape[0])
    rounded, scales, sums = x.new_empty(x.shape, dtype=torch.int8), x.new_empty(rows, groups), x.new_empty(rows, groups)
    _call("ixc_linear4", x, q, scale, low, rounded, scales, sums, y, rows, width, q.shape[0], width // groups)
    return y


def _shape(x: torch.Tensor, q: torch.Tensor, *_: torch.Tensor) -> torch.Tensor:
    return x.new_empty(*x.shape[:-1], q.shape[0])


for _name, _kernel in (("linear8", _linear8), ("linear4", _linear4)):
    _operators.impl(_name, _kernel, "CPU")
    torch.library.register_fake(f"ixc::{_name}", _shape, lib=_operators)


def _attend_one(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
    query = query.contiguous()
    (batch, heads, group, width), keys = query.shape, key.shape[2]
    chunk = max(SHORTEST, -(-keys // CHUNKS))
    y, parts = torch.empty_like(query), query.new_empty(batch * heads * -(-keys // chunk), group, width + 2)
    strides = key.stride(1), value.stride(1)
    _call("ixc_attend", query, key, value, parts, y, batch * heads, group, keys, width, *strides, chunk)
    return y


_operators.impl("attend_one", _attend_one, "CPU")
torch.library.register_fake("ixc::attend_one", lambda query, key, value: torch.empty_like(query), lib=_operators)


def attends(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> bool:
    """True where `attend_one` takes them: float32 on a CPU, no gradients, widths of whole vectors, rows in a row."""
    return (
        query.shape[2] <= MOST
        and query.shape[3] % VECTORS == 0
        and not torch.is_grad_enabled()
        and not torch.compiler.is_compiling()
        and all(_in_a_row(x) for x in (key, value))
        and usable(query)
        and key.dtype == value.dtype == torch.float32
    )


def _in_a_row(x: torch.Tensor) -> bool:
    """(B, K, S, D): rows of a head one behind the other, heads at equal distances."""
    batch, heads, _, width = x.shape
    return x.stride()[2:] == (width, 1) and (batch == 1 or x.stride(0) == heads * x.stride(1))


def attend_one(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
    """Attention of the queries (B, K, G, D) of one position over all keys (B, K, S, D), none masked. -> (B, K, G, D)"""
    return torch.ops.ixc.attend_one(query, key, value)


def linear8(x: torch.Tensor, q: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
    """x (..., in), rounded to 16 bits, times int8 weights (out, in) with scale (out, 1) bfloat16. -> (..., out)"""
    return torch.ops.ixc.linear8(x, q, scale)


def linear4(x: torch.Tensor, q: torch.Tensor, scale: torch.Tensor, low: torch.Tensor) -> torch.Tensor:
    """x (..., in), rounded to 8 bits a group, times 4-bit weights (out, in / 2) of scale and low. -> (..., out)"""
    return torch.ops.ixc.linear4(x, q, scale, low)
