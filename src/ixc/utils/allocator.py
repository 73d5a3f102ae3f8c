"""Memory that is given back: glibc keeps what a process has freed until it is told to trim its heaps."""

from __future__ import annotations

import ctypes
from contextlib import suppress


def release_free_memory() -> None:
    """Return whole free pages to the system; elsewhere than with glibc it does nothing.

    For processes that keep caches: blocks of caches lie between those of requests, so that the ends of the heaps, which
    glibc trims by itself, are seldom free. Mapping every large block by itself (`mallopt(M_MMAP_THRESHOLD)`) has the
    same effect, but every activation then takes its pages from the system anew: a fifth of the server's CPU time.
    """
    with suppress(OSError, AttributeError):
        ctypes.CDLL("libc.so.6").malloc_trim(0)
