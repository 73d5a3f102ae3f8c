"""Names of devices and dtypes, checked without torch."""

from __future__ import annotations

from ixc.errors import UsageError

DEVICES = ("cpu", "cuda", "mps")
"""Devices that `load` accepts besides "auto"; "cuda:1" and the like as well."""

DTYPES = ("float32", "bfloat16", "float16")
"""Dtypes that `load` accepts besides "auto"."""


def check_device(name: str) -> None:
    """Check the form of a device name; `device.resolve_device` finds whether it exists. Raises: UsageError."""
    kind, colon, number = name.partition(":")
    if name != "auto" and (kind not in DEVICES or (colon and not number.isdecimal())):
        raise UsageError(f"no device {name!r}; use auto, {', '.join(DEVICES)}")


def check_dtype(name: str) -> None:
    """Check the name of a dtype. Raises: UsageError: it is unknown."""
    if name != "auto" and name not in DTYPES:
        raise UsageError(f"no dtype {name!r}; use auto, {', '.join(DTYPES)}")
