"""Compiling a C file once with the machine's own compiler, and loading it.

    source.c --cc -O3 -march=native--> <cache>/ixc/<source>-<hash>.so --ctypes--> library

The hash covers the source, the compiler, its flags and the processor's features, so a cache on a shared disk never
serves a library to another kind of machine. `IXC_KERNELS=0` switches all kernels off.
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
from pathlib import Path

FLAGS = ("-O3", "-march=native", "-ffast-math", "-fopenmp", "-fPIC")
"""Compiler flags. The shared library is linked without OpenMP: its symbols resolve to those of torch's OpenMP, so both
use one set of threads."""

COMPILERS = ("cc", "gcc", "clang")
"""Compilers in order of preference."""

_TIMEOUT_SECONDS = 300
"""Longest time of one compiler call."""


def compile_library(source: Path) -> ctypes.CDLL | None:
    """Compile and load a C file; None where there is no compiler, kernels are switched off or compiling fails."""
    compiler = next(filter(None, map(shutil.which, COMPILERS)), None)
    if os.environ.get("IXC_KERNELS") == "0" or compiler is None or platform.system() != "Linux":
        return None
    try:
        return ctypes.CDLL(str(_shared_library(source, compiler)))
    except (OSError, subprocess.SubprocessError) as error:
        logging.getLogger(__name__).warning(
            "%s could not be compiled; slower torch code is used instead: %s", source.name, error
        )
        return None


def _shared_library(source: Path, compiler: str) -> Path:
    """Return the path of the shared library, compiled unless the cache holds it.

    Several processes may compile at once: each renames its own finished file to the same name.
    """
    cpu = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").split("\n\n")[0]
    features = "".join(line for line in cpu.splitlines() if line.startswith(("flags", "Features", "model name")))
    files = b"".join(path.read_bytes() for path in (source, *sorted(source.parent.glob("*.h"))))
    key = hashlib.sha256(files + f"{compiler} {FLAGS} {features}".encode()).hexdigest()[:16]
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "ixc"
    target = folder / f"{source.stem}-{key}.so"
    if target.is_file():
        return target
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        compiled, linked = Path(scratch) / "kernels.o", Path(scratch) / "kernels.so"
        for arguments in (
            [*FLAGS, "-c", str(source), "-o", str(compiled)],
            ["-shared", str(compiled), "-o", str(linked)],
        ):
            subprocess.run([compiler, *arguments], check=True, capture_output=True, timeout=_TIMEOUT_SECONDS)
        linked.replace(target)
    return target
