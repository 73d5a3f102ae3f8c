"""All tensors the next step depends on, under flat names: weights that learn, and what the optimiser keeps of each.

    weights/NAME        moments/NAME/KEY        KEY: exp_avg, exp_avg_sq, step of AdamW

A weight that never had a gradient has no moments (the tower before the first picture); what a checkpoint holds is
therefore asked from the checkpoint, never guessed.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from ixc.train.checkpoints import Found

WEIGHTS, MOMENTS = "weights/", "moments/"


def taken(trained: Mapping[str, nn.Parameter], optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """The tensors of a run as they are, not copied.

    Args:
        trained: name -> parameter that learns.
    """
    tensors = {f"{WEIGHTS}{name}": weight.detach() for name, weight in trained.items()}
    for name, weight in trained.items():
        for key, value in optimizer.state.get(weight, {}).items():
            tensors[f"{MOMENTS}{name}/{key}"] = value
    return tensors


def fits(found: Found, trained: Mapping[str, nn.Parameter]) -> bool:
    """True if it holds exactly these weights in these shapes."""
    theirs = {name: size for name, (size, _) in found.tensors.items() if name.startswith(WEIGHTS)}
    return theirs == {f"{WEIGHTS}{name}": weight.shape for name, weight in trained.items()}


def room_for(found: Found, trained: Mapping[str, nn.Parameter], optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Tensors to be filled from a checkpoint: the weights themselves, and fresh moments given to the optimiser."""
    for name, weight in trained.items():
        begin = f"{MOMENTS}{name}/"
        kept = {key.removeprefix(begin): found.tensors[key] for key in found.tensors if key.startswith(begin)}
        if kept:
            optimizer.state[weight] = {key: _empty(weight, *form) for key, form in kept.items()}
    return taken(trained, optimizer)


def _empty(weight: nn.Parameter, size: torch.Size, dtype: torch.dtype) -> Tensor:
    """Sharded like the weight where it has its shape; a number of its own otherwise."""
    if size == weight.shape and len(size):
        return torch.zeros_like(weight, dtype=dtype, requires_grad=False)
    return torch.zeros(size, dtype=dtype)
