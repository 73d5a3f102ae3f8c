"""Options of loading and tiling, checked without torch."""

from __future__ import annotations

from ixc.core.tiling import RULES
from ixc.errors import UsageError

PLORA = ("low_rank", "folded", "auto")
"""How `load` may run PLoRA."""


def check_plora(value: str, *, compile: bool) -> None:
    """Raises: UsageError: no such way; folded beside compiled steps, which are told of images by a mask."""
    if value not in PLORA:
        raise UsageError(f"plora is {value!r}; use one of {', '.join(PLORA)}")
    if value == "folded" and compile:
        raise UsageError("plora is 'folded', but compiled reading uses low-rank products; leave one of them out")


def check_prefix_cache(value: int | None, *, compile: bool) -> None:
    """Raises: UsageError: bytes of prefixes to keep, beside compiled steps, which keep none."""
    if compile and value:
        raise UsageError(f"prefix_cache is {value} bytes, but compiled steps keep none; leave one of them out")


def check_tiling(hd: int | None, partition: str | None) -> None:
    """Raises: UsageError: fewer tiles than one, or no such rule."""
    if hd is not None and hd < 1:
        raise UsageError(f"hd counts tiles and must be at least 1, got {hd}; use 25 (default) or 55 (4K)")
    if partition is not None and partition not in RULES:
        raise UsageError(f"no partition rule {partition!r}; use one of {', '.join(RULES)}")
