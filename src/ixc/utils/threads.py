"""Threads of the libraries beneath: how many, and how they wait. Environment variables, read when torch is loaded.

Waiting. Between two pieces of work the threads of GNU's OpenMP spin for milliseconds. On a core that somebody else uses
that is work for nothing, and each barrier then waits for a thread that was put aside. Answer of the embedded model, two
threads on two cores, seconds of wall time: with other work on both cores 6.3 to 10.8 spinning, 0.16 to 0.30 passive; at
a higher priority than the other work 0.68 to 1.9 and 0.16 to 0.21. So waits are passive unless the user chose.

Number. Libraries count the cores they may run on. A container's CPU quota (``docker run --cpus 2``) limits time, not
cores: more threads than it allows are stopped in the middle of each barrier.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, MutableMapping
from math import ceil
from pathlib import Path

WAIT_POLICY = "OMP_WAIT_POLICY"
THREADS = "OMP_NUM_THREADS"
WAITS = (WAIT_POLICY, "GOMP_SPINCOUNT", "KMP_BLOCKTIME")
"""Variables by which a user chooses how threads wait."""

COUNTS = (THREADS, "MKL_NUM_THREADS")
"""Variables by which a user chooses how many threads there are."""


def configure_threads(environ: MutableMapping[str, str] = os.environ, *, root: Path = Path("/")) -> None:
    """Set passive waits and, under a CPU quota, the number of threads, unless the user chose; before torch is loaded.

    Nothing is done where torch is loaded already: its OpenMP has read its settings.

    Args:
        environ: where the variables are set; child processes inherit them.
        root: of the file system, for tests.
    """
    if "torch" in sys.modules:
        return
    if not any(name in environ for name in WAITS):
        environ[WAIT_POLICY] = "passive"
    cores = available_cores(root)
    if cores < _cores() and not any(name in environ for name in COUNTS):
        environ[THREADS] = str(cores)


def available_cores(root: Path = Path("/")) -> int:
    """Return how many threads can run at once: the cores of this process, and the CPU quota of its control groups.

    A quota of 1.5 cores counts as 2, as in the JVM and in Go 1.25: its last half is used, too.
    """
    return max(1, min([_cores(), *(ceil(quota) for quota in _quotas(root))]))


def _cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _quotas(root: Path) -> Iterator[float]:
    """Yield the quotas, in cores, of the control groups of this process and of those above them."""
    for line in _read(root / "proc/self/cgroup").splitlines():
        number, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        for folder in _groups(root / "sys/fs/cgroup", number, controllers, path.lstrip("/")):
            if (quota := _quota(folder)) is not None:
                yield quota


def _groups(mount: Path, number: str, controllers: str, path: str) -> Iterator[Path]:
    """Yield the folders of a control group and its parents, up to where the controller is mounted."""
    if number == "0" and not controllers:  # version 2
        mounts = [mount]
    elif "cpu" in controllers.split(","):
        mounts = [mount / controllers, mount / "cpu"]
    else:
        return
    for top in mounts:
        # Inside a container the path may be the host's, and only the mount itself is this group's.
        folder = top / path
        yield from (each for each in (folder, *folder.parents) if each.is_relative_to(top))


def _quota(folder: Path) -> float | None:
    """Return a group's quota in cores; None where it has none."""
    limit, _, period = _read(folder / "cpu.max").strip().partition(" ")
    if not limit:
        limit, period = (_read(folder / f"cpu.cfs_{name}_us").strip() for name in ("quota", "period"))
    try:
        quota, each = int(limit), int(period)
    except ValueError:  # "max": no limit
        return None
    return quota / each if quota > 0 and each > 0 else None


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii", errors="replace")
    except OSError:
        return ""
