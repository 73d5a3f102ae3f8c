"""Where a model runs and in which numbers: the words a user may say for it, and a memory that is full, as one line."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from ixc.errors import CapacityError, UsageError
from ixc.utils.device_names import check_device, check_dtype

_OUT_OF_MEMORY = ("out of memory", "can't allocate memory", "not enough memory")
"""What the allocators of CUDA, MPS and the CPU say; only CUDA's error has a class of its own."""


@contextmanager
def explain_out_of_memory(what: str, device: torch.device, dtype: torch.dtype, remedy: str) -> Iterator[None]:
    """A full memory as one line."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if isinstance(error, RuntimeError) and not any(words in str(error) for words in _OUT_OF_MEMORY):
            raise
        kind = str(dtype).removeprefix("torch.")
        raise CapacityError(f"{what} in {kind} do not fit the memory of {device}; {remedy}") from error


def resolve_device(name: str) -> torch.device:
    """The device of a word as of `load`. Raises: UsageError: none such here."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    check_device(name)
    kind, _, number = name.partition(":")
    there = {"cpu": 1, "cuda": torch.cuda.device_count(), "mps": int(torch.backends.mps.is_available())}[kind]
    if int(number or 0) >= there:
        raise UsageError(f"device {name} asked for, {there} {kind} devices found; use --device cpu")
    return torch.device(name)


def resolve_dtype(name: str, device: torch.device) -> torch.dtype:
    """The number type of a word as of `load`. Raises: UsageError: none such."""
    if name == "auto":
        return torch.float32 if device.type == "cpu" else torch.bfloat16
    check_dtype(name)
    return getattr(torch, name)
