"""Memory that is given back: glibc keeps what it has freed for itself unless large blocks are mapped one by one."""

from __future__ import annotations

import ctypes
from contextlib import suppress

M_MMAP_THRESHOLD = -3
"""Number of the setting in malloc.h of glibc."""

LARGE_BLOCK = 1 << 16
"""Bytes from which a block is mapped by itself and returned to the system when it is freed."""


def return_large_blocks() -> None:
    """Map large blocks one by one, for processes that keep caches; elsewhere than with glibc it does nothing.

    glibc raises its threshold up to 32 MB by itself, and then the blocks of caches lie between those of requests: what
    is freed stays with the process. Setting the threshold ends that.
    """
    with suppress(OSError, AttributeError):
        ctypes.CDLL("libc.so.6").mallopt(M_MMAP_THRESHOLD, LARGE_BLOCK)
