"""All tensors the next step depends on, under flat names: weights that learn, and what the optimiser keeps of each.

    weights/NAME        moments/NAME/KEY        KEY: exp_avg, exp_avg_sq, step of AdamW
                        scales/RANK-of-RANKS/NAME/KEY        of moments of 8 bit: the scale of every block

A weight that never had a gradient has no moments (the tower before the first picture); what a checkpoint holds is
therefore asked from the checkpoint, never guessed. Moments of 8 bit are written as the float32 they stand for, since
their blocks are cut by shard and another number of ranks has other shards. Rounding those once more would not give the
same moments: torchao's map ends at 1 and at -0.993, so a block whose largest value is negative comes back under another
scale. Its scale is therefore written too, and the same number of ranks goes on bit by bit; others round.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from ixc.train.checkpoint import ALONE, FoundCheckpoint
from ixc.train.distributed import ProcessGroup

WEIGHTS, MOMENTS, SCALES = "weights/", "moments/", "scales/"


def taken(
    trained: Mapping[str, nn.Parameter], optimizer: torch.optim.Optimizer, *, team: ProcessGroup = ALONE
) -> dict[str, Tensor]:
    """The tensors of a run, not copied where they need not be.

    Args:
        trained: name -> parameter that learns.
        team: the ranks that train together.
    """
    tensors = {f"{WEIGHTS}{name}": weight.detach() for name, weight in trained.items()}
    for name, weight in trained.items():
        for key, value in optimizer.state.get(weight, {}).items():
            tensors[f"{MOMENTS}{name}/{key}"] = _plain(value)
            if _is_small(value):
                tensors[f"{_own_scales(team)}{name}/{key}"] = _small(value).scale
    return tensors


def _own_scales(team: ProcessGroup) -> str:
    return f"{SCALES}{team.rank}-of-{team.ranks}/"


def fits(found: FoundCheckpoint, trained: Mapping[str, nn.Parameter]) -> bool:
    """True if it holds exactly these weights in these shapes."""
    theirs = {name: size for name, (size, _) in found.tensors.items() if name.startswith(WEIGHTS)}
    return theirs == {f"{WEIGHTS}{name}": weight.shape for name, weight in trained.items()}


def room_for(
    found: FoundCheckpoint, trained: Mapping[str, nn.Parameter], *, team: ProcessGroup = ALONE
) -> dict[str, Tensor]:
    """Tensors to be filled from a checkpoint: the weights themselves, and fresh ones for the moments."""
    tensors = {f"{WEIGHTS}{name}": weight.detach() for name, weight in trained.items()}
    for name, (size, dtype) in found.tensors.items():
        if name.startswith(MOMENTS):
            weight = trained[name.removeprefix(MOMENTS).rpartition("/")[0]]
            tensors[name] = _empty(weight, size, dtype)
        elif name.startswith(_own_scales(team)):
            tensors[name] = torch.zeros(size, dtype=dtype)
    return tensors


def put_back(
    tensors: Mapping[str, Tensor],
    trained: Mapping[str, nn.Parameter],
    optimizer: torch.optim.Optimizer,
    *,
    team: ProcessGroup = ALONE,
) -> None:
    """Gives the filled moments to the optimiser, in the form it keeps them in."""
    for name, value in tensors.items():
        if name.startswith(MOMENTS):
            owner, _, key = name.removeprefix(MOMENTS).rpartition("/")
            weight = trained[owner]
            scale = tensors.get(f"{_own_scales(team)}{owner}/{key}")
            optimizer.state[weight][key] = _kept(value, weight, key, optimizer, scale)


def _kept(value: Tensor, weight: nn.Parameter, key: str, optimizer: Any, scale: Tensor | None) -> Tensor:
    """As it is; in 8 bit where this optimiser of torchao would keep it so."""
    make = getattr(optimizer, "_new_buffer", None)
    if make is None or value.shape != weight.shape or not value.ndim:
        return value
    buffer = make(weight, key == "exp_avg")  # only the first moment has a sign
    if scale is None or not _is_small(buffer):
        _local(buffer).copy_(_local(value))
    else:
        _round(_small(buffer), _local(value), scale.to(value.device))
    return buffer


def _round(small: Any, value: Tensor, scale: Tensor) -> None:
    """Values into codes, under a scale for every block that is known: those that came from codes find them again."""
    between = (small.qmap[1:] + small.qmap[:-1]) / 2
    small.codes.copy_(torch.bucketize(value.reshape(len(scale), -1) / scale[:, None], between).view(value.shape))
    small.scale.copy_(scale)


def _is_small(value: Tensor) -> bool:
    """True in 8 bit: a tensor of torchao's."""
    return type(_local(value)) not in (Tensor, nn.Parameter)


def _small(value: Tensor) -> Any:
    return _local(value)


def _plain(value: Tensor) -> Tensor:
    if not _is_small(value):
        return value
    wide = _small(value).dequantize()
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
