"""All tensors the next step depends on, under flat names: weights that learn, and what the optimiser keeps of each.

    weights/NAME        moments/NAME/KEY        KEY: exp_avg, exp_avg_sq, step of AdamW

A weight that never had a gradient has no moments (the tower before the first picture); what a checkpoint holds is
therefore asked from the checkpoint, never guessed. Moments of 8 bit are written as the float32 they stand for, since
their blocks are cut by shard and another number of ranks has other shards; reading rounds them once more, so such a run
resumed is close to the unbroken one, not equal to it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from ixc.train.checkpoints import Found

WEIGHTS, MOMENTS = "weights/", "moments/"


def taken(trained: Mapping[str, nn.Parameter], optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """The tensors of a run, not copied where they need not be.

    Args:
        trained: name -> parameter that learns.
    """
    tensors = {f"{WEIGHTS}{name}": weight.detach() for name, weight in trained.items()}
    for name, weight in trained.items():
        for key, value in optimizer.state.get(weight, {}).items():
            tensors[f"{MOMENTS}{name}/{key}"] = _plain(value)
    return tensors


def fits(found: Found, trained: Mapping[str, nn.Parameter]) -> bool:
    """True if it holds exactly these weights in these shapes."""
    theirs = {name: size for name, (size, _) in found.tensors.items() if name.startswith(WEIGHTS)}
    return theirs == {f"{WEIGHTS}{name}": weight.shape for name, weight in trained.items()}


def room_for(found: Found, trained: Mapping[str, nn.Parameter]) -> dict[str, Tensor]:
    """Tensors to be filled from a checkpoint: the weights themselves, and fresh ones for the moments."""
    tensors = {f"{WEIGHTS}{name}": weight.detach() for name, weight in trained.items()}
    for name, (size, dtype) in found.tensors.items():
        if name.startswith(MOMENTS):
            weight = trained[name.removeprefix(MOMENTS).rpartition("/")[0]]
            tensors[name] = _empty(weight, size, dtype)
    return tensors


def put_back(
    tensors: Mapping[str, Tensor], trained: Mapping[str, nn.Parameter], optimizer: torch.optim.Optimizer
) -> None:
    """Gives the filled moments to the optimiser, in the form it keeps them in."""
    for name, value in tensors.items():
        if name.startswith(MOMENTS):
            owner, _, key = name.removeprefix(MOMENTS).rpartition("/")
            weight = trained[owner]
            optimizer.state[weight][key] = _kept(value, weight, key, optimizer)


def _kept(value: Tensor, weight: nn.Parameter, key: str, optimizer: Any) -> Tensor:
    """As it is; in 8 bit where this optimiser of torchao would keep it so."""
    make = getattr(optimizer, "_new_buffer", None)
    if make is None or value.shape != weight.shape or not value.ndim:
        return value
    buffer = make(weight, key == "exp_avg")  # only the first moment has a sign
    _local(buffer).copy_(_local(value))
    return buffer


def _plain(value: Tensor) -> Tensor:
    local = _local(value)
    if type(local) is Tensor:
        return value
    wide = local.dequantize()
    if not isinstance(value, DTensor):
        return wide
    return DTensor.from_local(
        wide, value.device_mesh, value.placements, run_check=False, shape=value.shape, stride=value.stride()
    )


def _local(value: Tensor) -> Tensor:
    return value.to_local() if isinstance(value, DTensor) else value


def _empty(weight: nn.Parameter, size: torch.Size, dtype: torch.dtype) -> Tensor:
    """Sharded like the weight where it has its shape; a number of its own otherwise."""
    if size == weight.shape and len(size):
        return torch.zeros_like(weight, dtype=dtype, requires_grad=False)
    return torch.zeros(size, dtype=dtype)
