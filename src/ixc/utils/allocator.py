"""Memory that is given back: glibc keeps what a process has freed until it is told to trim its heaps."""

from __future__ import annotations

import ctypes
from contextlib import suppress


def release_free_memory() -> None:
    """Return whole free pages to the system; elsewhere than with glibc it does nothing.

    For processes that run long: glibc trims the ends of its heaps by itself, and a block that stays holds all below it.
    """
    with suppress(OSError, AttributeError):
        ctypes.CDLL("libc.so.6").malloc_trim(0)
