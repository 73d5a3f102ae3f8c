"""Words that a user may say for device, number type and speed, checked without torch."""

from __future__ import annotations

from ixc.errors import UsageError
from ixc.geometry import RULES

DEVICES = ("cpu", "cuda", "mps")
"""What `load` accepts besides "auto"; "cuda:1" and the like as well."""

DTYPES = ("float32", "bfloat16", "float16")
"""What `load` accepts besides "auto"."""

PLORA = ("low_rank", "folded", "auto")
"""How `load` may run PLoRA."""


def check_device(name: str) -> None:
    """Raises: UsageError: no such word; whether the device is here, `device.device_of` finds."""
    kind, colon, number = name.partition(":")
    if name != "auto" and (kind not in DEVICES or (colon and not number.isdecimal())):
        raise UsageError(f"no device {name!r}; use auto, {', '.join(DEVICES)}")


def check_dtype(name: str) -> None:
    """Raises: UsageError: no such number type."""
    if name != "auto" and name not in DTYPES:
        raise UsageError(f"no dtype {name!r}; use auto, {', '.join(DTYPES)}")


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
