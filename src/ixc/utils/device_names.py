"""Names of devices and number types that a user may give, checked without torch."""

from __future__ import annotations

from ixc.errors import UsageError

DEVICES = ("cpu", "cuda", "mps")
"""What `load` accepts besides "auto"; "cuda:1" and the like as well."""

DTYPES = ("float32", "bfloat16", "float16")
"""What `load` accepts besides "auto"."""


def check_device(name: str) -> None:
    """Raises: UsageError: no such word; whether the device is here, `device.resolve_device` finds."""
    kind, colon, number = name.partition(":")
    if name != "auto" and (kind not in DEVICES or (colon and not number.isdecimal())):
        raise UsageError(f"no device {name!r}; use auto, {', '.join(DEVICES)}")


def check_dtype(name: str) -> None:
    """Raises: UsageError: no such number type."""
    if name != "auto" and name not in DTYPES:
        raise UsageError(f"no dtype {name!r}; use auto, {', '.join(DTYPES)}")
