"""Tensors of one file of weights, safetensors or pickled: keys, shapes and values.

path --stored_shapes--> key -> shape;  path --stored_tensors--> (key, tensor), one at a time
"""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open

from ixc.errors import WeightsError

Shape = tuple[int, ...]


def stored_shapes(path: Path) -> dict[str, Shape]:
    """Return key -> shape of one file; only the header is read of safetensors.

    Raises:
        WeightsError: the file is damaged or cut off.
    """
    if path.suffix == ".bin":
        return {key: tuple(value.shape) for key, value in _read_pickled(path).items()}
    try:
        with safe_open(path, framework="pt") as file:
            return {key: tuple(file.get_slice(key).get_shape()) for key in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise _damaged(path, error) from error


def stored_tensors(path: Path) -> Iterator[tuple[str, torch.Tensor]]:
    """Yield (key, tensor) of one file; of safetensors one tensor is in memory at a time.

    Raises:
        WeightsError: the file is damaged or cut off, or a pickled file holds more than tensors.
    """
    if path.suffix == ".bin":
        yield from _read_pickled(path).items()
        return
    try:
        with safe_open(path, framework="pt") as file:
            for key in file.keys():  # noqa: SIM118 - the file is no mapping
                yield key, file.get_tensor(key)
    except (SafetensorError, OSError) as error:
        raise _damaged(path, error) from error


def _damaged(path: Path, error: Exception) -> WeightsError:
    return WeightsError(f"{path} is damaged or cut off ({error}); fetch it again")


def _read_pickled(path: Path) -> dict[str, torch.Tensor]:
    """Return the tensors of a .bin file, mapped from disk; `weights_only` keeps code in it from running."""
    try:
        found = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, OSError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise WeightsError(f"{path} is damaged, or holds more than tensors ({reason}); fetch it again") from error
    if not isinstance(found, dict) or not all(isinstance(value, torch.Tensor) for value in found.values()):
        raise WeightsError(f"{path} holds a {type(found).__name__} and no table of named tensors; fetch it again")
    return found
