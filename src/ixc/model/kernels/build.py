"""The C kernels as shared libraries: from the wheel where it has them, else compiled once with the machine's compiler.

    source.c --hatch_build.py, IXC_BUILD_KERNELS=1--> wheel: compiled/<source>-<instructions>-<hash>.so --chosen--|
             --cc -O3 -march=native, announced------> <cache>/ixc/<source>-<hash>.so ----------------ctypes--> library

Of a wheel's libraries the one with the most instructions that this processor has is taken. What is compiled here goes
to a folder that only this user can write; where others can write to the cache, to a new folder that ends with the
process.
The hash covers the sources, the compiler, its flags and the processor's features, so a cache on a shared disk never
serves a library to another kind of machine. `IXC_KERNELS=0` switches all kernels off. Only the standard library is
imported here: the wheel is built with this file.
"""

from __future__ import annotations

import atexit
import ctypes
import hashlib
import logging
import os
import platform
import shutil
import stat
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path

OPTIONS = ("-O3", "-ffast-math", "-fopenmp", "-fPIC")
"""Compiler options besides the instruction set."""

FLAGS = ("-march=native", *OPTIONS)
"""Compiler flags on the user's machine. The shared library is linked without OpenMP: its symbols resolve to those of
torch's OpenMP, so both use one set of threads."""

_V3 = frozenset({"avx2", "bmi2", "f16c", "fma"})
_V4 = _V3 | {"avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl"}

INSTRUCTION_SETS: Mapping[str, tuple[tuple[str, ...], frozenset[str]]] = {
    "v4-bf16": (("-march=x86-64-v4", "-mavx512bf16", "-mavx512vnni"), _V4 | {"avx512_bf16", "avx512_vnni"}),
    "v4": (("-march=x86-64-v4",), _V4),
    "v3": (("-march=x86-64-v3",), _V3),
}
"""Those of a wheel, best first -> flags of the compiler, features of /proc/cpuinfo that they need."""

COMPILED = Path(__file__).with_name("compiled")
"""Libraries that came with the wheel."""

COMPILERS = ("cc", "gcc", "clang")
"""Compilers in order of preference."""

_TIMEOUT_SECONDS = 300
"""Longest time of one compiler call, on a busy machine."""

_log = logging.getLogger(__name__)


def compile_library(source: Path) -> ctypes.CDLL | None:
    """Load a C file's library, compiled where the wheel has none; None where that cannot be, which is said once."""
    if os.environ.get("IXC_KERNELS") == "0" or platform.system() != "Linux":
        return None
    try:
        if (there := _from_wheel(source)) is not None:
            return ctypes.CDLL(str(there))
        compiler = next(filter(None, map(shutil.which, COMPILERS)), None)
        if compiler is None:
            _say_no_compiler()
            return None
        return ctypes.CDLL(str(_shared_library(source, compiler)))
    except (OSError, subprocess.SubprocessError) as error:
        _log.warning("%s could not be compiled; slower torch code is used instead: %s", source.name, error)
        return None


def compile_for_wheel(sources: Path, folder: Path) -> Iterator[Path]:
    """Compile every C file for every instruction set; yield the libraries.

    Args:
        sources: folder of the C files.
        folder: where the libraries go.

    Raises:
        OSError, subprocess.SubprocessError: no compiler, or it fails.
    """
    compiler = next(filter(None, map(shutil.which, COMPILERS)), None)
    if compiler is None or platform.machine() != "x86_64" or platform.system() != "Linux":
        raise OSError(f"kernels are compiled on x86-64 Linux with one of {', '.join(COMPILERS)}; none is here")
    for source in sorted(sources.glob("*.c")):
        for name, (flags, _) in INSTRUCTION_SETS.items():
            target = folder / _wheel_name(source, name)
            _compile(source, target, compiler, (*flags, *OPTIONS))
            yield target


def _from_wheel(source: Path) -> Path | None:
    """Return the best library of the wheel that this processor runs."""
    if not COMPILED.is_dir() or platform.machine() != "x86_64":
        return None
    features = set(_features().split())
    paths = (COMPILED / _wheel_name(source, name) for name, (_, need) in INSTRUCTION_SETS.items() if need <= features)
    return next((path for path in paths if path.is_file()), None)


def _wheel_name(source: Path, name: str) -> str:
    return f"{source.stem}-{name}-{hashlib.sha256(_text(source)).hexdigest()[:16]}.so"


def _text(source: Path) -> bytes:
    """Return a C file and the headers beside it."""
    return b"".join(path.read_bytes() for path in (source, *sorted(source.parent.glob("*.h"))))


def _features() -> str:
    """Return what /proc/cpuinfo says of the first core."""
    cpu = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").split("\n\n")[0]
    return "".join(line for line in cpu.splitlines() if line.startswith(("flags", "Features", "model name")))


def _shared_library(source: Path, compiler: str) -> Path:
    """Return the path of the shared library, compiled unless the cache holds it."""
    key = hashlib.sha256(_text(source) + f"{compiler} {FLAGS} {_features()}".encode()).hexdigest()[:16]
    target = _private_folder() / f"{source.stem}-{key}.so"
    if not (target.is_file() and _is_private(target)):
        _say_compiling(target.parent)
        _compile(source, target, compiler, FLAGS)
    return target


def _compile(source: Path, target: Path, compiler: str, flags: tuple[str, ...]) -> None:
    """Compile and link. Several processes may do so at once: each renames its own finished file to the same name."""
    with tempfile.TemporaryDirectory(dir=target.parent) as scratch:
        compiled, linked = Path(scratch) / "kernels.o", Path(scratch) / "kernels.so"
        for arguments in (
            [*flags, "-c", str(source), "-o", str(compiled)],
            ["-shared", str(compiled), "-o", str(linked)],
        ):
            subprocess.run([compiler, *arguments], check=True, capture_output=True, timeout=_TIMEOUT_SECONDS)
        linked.chmod(0o700)  # whatever the umask: a library that others can write is not loaded
        linked.replace(target)


def _private_folder() -> Path:
    """Return the cache folder, or one of this process where others could write to the cache."""
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "ixc"
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    return folder if _is_private(folder) and _is_private(folder.parent) else _folder_of_this_process(folder)


@cache
def _folder_of_this_process(refused: Path) -> Path:
    folder = Path(tempfile.mkdtemp(prefix="ixc-kernels-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    _log.warning(
        "%s can be written by other users, so no compiled kernels are kept there and each process compiles them; "
        "run chmod go-w on it and its parent folder, or set XDG_CACHE_HOME",
        refused,
    )
    return folder


def _is_private(path: Path) -> bool:
    """Return True if only this user, or root, can write to a file or folder."""
    info = path.stat()
    return info.st_uid in (0, os.getuid()) and not info.st_mode & (stat.S_IWGRP | stat.S_IWOTH)


@cache
def _say_compiling(folder: Path) -> None:
    _log.warning("compiling the C kernels for this processor, once, into %s (IXC_KERNELS=0 does without them)", folder)


@cache
def _say_no_compiler() -> None:
    _log.warning(
        "no C compiler (%s) is here and this installation has no compiled kernels, so slower torch code is used; "
        "install gcc, or set IXC_KERNELS=0 to say that it is meant",
        ", ".join(COMPILERS),
    )
