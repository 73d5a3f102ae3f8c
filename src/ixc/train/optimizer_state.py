"""Optimiser state as flat tensors: trained weights, and what the optimiser keeps for each of them.

    weights/NAME        moments/NAME/KEY        KEY: exp_avg, exp_avg_sq, step of AdamW
                        scales/RANK-of-RANKS/NAME/KEY        of 8-bit moments: the scale of every block

A weight that never had a gradient has no moments (the vision tower before the first image), so which tensors exist is
read from the checkpoint.

8-bit moments are written as the float32 values they stand for, because their blocks follow the shards and another
number of ranks has other shards. Quantising those values again would not give the same codes: torchao's code table ends
at 1 and at -0.993, so a block whose largest value is negative would get another scale. The scale is therefore written
too: on the same number of ranks a resumed run is bit-identical, on others moments are rounded once more.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from ixc.train.checkpoint import FoundCheckpoint
from ixc.train.distributed import SINGLE_PROCESS, ProcessGroup

WEIGHTS, MOMENTS, SCALES = "weights/", "moments/", "scales/"


def state_tensors(
    trained: Mapping[str, nn.Parameter], optimizer: torch.optim.Optimizer, *, group: ProcessGroup = SINGLE_PROCESS
) -> dict[str, Tensor]:
    """Return the tensors of a run to be saved, without copying where possible.

    Args:
        trained: name -> trained parameter.
        group: the ranks that train together.
    """
    tensors = {f"{WEIGHTS}{name}": weight.detach() for name, weight in trained.items()}
    for name, weight in trained.items():
        for key, value in optimizer.state.get(weight, {}).items():
            tensors[f"{MOMENTS}{name}/{key}"] = _dequantized(value)
            if _is_eight_bit(value):
                local: Any = _local(value)
                tensors[f"{_scales_prefix(group)}{name}/{key}"] = local.scale
    return tensors


def _scales_prefix(group: ProcessGroup) -> str:
    return f"{SCALES}{group.rank}-of-{group.world_size}/"


def matches(found: FoundCheckpoint, trained: Mapping[str, nn.Parameter]) -> bool:
    """Return whether a checkpoint holds exactly these weights in these shapes."""
    saved = {name: size for name, (size, _) in found.tensors.items() if name.startswith(WEIGHTS)}
    return saved == {f"{WEIGHTS}{name}": weight.shape for name, weight in trained.items()}


def empty_state(
    found: FoundCheckpoint, trained: Mapping[str, nn.Parameter], *, group: ProcessGroup = SINGLE_PROCESS
) -> dict[str, Tensor]:
    """Return tensors for a checkpoint to be read into: the weights themselves, and new ones for the moments."""
    tensors = {f"{WEIGHTS}{name}": weight.detach() for name, weight in trained.items()}
    for name, (size, dtype) in found.tensors.items():
        if name.startswith(MOMENTS):
            weight = trained[name.removeprefix(MOMENTS).rpartition("/")[0]]
            tensors[name] = _empty(weight, size, dtype)
        elif name.startswith(_scales_prefix(group)):
            tensors[name] = torch.zeros(size, dtype=dtype)
    return tensors


def restore(
    tensors: Mapping[str, Tensor],
    trained: Mapping[str, nn.Parameter],
    optimizer: torch.optim.Optimizer,
    *,
    group: ProcessGroup = SINGLE_PROCESS,
) -> None:
    """Give the moments read from a checkpoint to the optimiser, in the form it keeps them in."""
    for name, value in tensors.items():
        if name.startswith(MOMENTS):
            owner, _, key = name.removeprefix(MOMENTS).rpartition("/")
            weight = trained[owner]
            scale = tensors.get(f"{_scales_prefix(group)}{owner}/{key}")
            optimizer.state[weight][key] = _as_kept(value, weight, key, optimizer, scale)


def _as_kept(value: Tensor, weight: nn.Parameter, key: str, optimizer: Any, scale: Tensor | None) -> Tensor:
    """Return a moment as it is, or quantised where torchao's optimiser keeps this one in 8 bit."""
    new_buffer = getattr(optimizer, "_new_buffer", None)
    if new_buffer is None or value.shape != weight.shape or not value.ndim:
        return value
    buffer = new_buffer(weight, key == "exp_avg")  # only the first moment is signed
    if scale is None or not _is_eight_bit(buffer):
        _local(buffer).copy_(_local(value))
    else:
        _quantize(_local(buffer), _local(value), scale.to(value.device))
    return buffer


def _quantize(buffer: Any, value: Tensor, scale: Tensor) -> None:
    """Quantise values under given block scales; values that were dequantised from codes get the same codes back."""
    boundaries = (buffer.qmap[1:] + buffer.qmap[:-1]) / 2
    buffer.codes.copy_(torch.bucketize(value.reshape(len(scale), -1) / scale[:, None], boundaries).view(value.shape))
    buffer.scale.copy_(scale)


def _is_eight_bit(value: Tensor) -> bool:
    """Return whether it is one of torchao's 8-bit tensor subclasses."""
    return type(_local(value)) not in (Tensor, nn.Parameter)


def _dequantized(value: Tensor) -> Tensor:
    if not _is_eight_bit(value):
        return value
    local: Any = _local(value)
    wide = local.dequantize()
    if not isinstance(value, DTensor):
        return wide
    return DTensor.from_local(
        wide, value.device_mesh, value.placements, run_check=False, shape=value.shape, stride=value.stride()
    )


def _local(value: Tensor) -> Tensor:
    return value.to_local() if isinstance(value, DTensor) else value


def _empty(weight: nn.Parameter, size: torch.Size, dtype: torch.dtype) -> Tensor:
    """Return zeros, sharded like the weight if they have its shape."""
    if size == weight.shape and len(size):
        return torch.zeros_like(weight, dtype=dtype, requires_grad=False)
    return torch.zeros(size, dtype=dtype)
