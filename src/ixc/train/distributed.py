"""Several devices as one: FSDP2 of torch, started by torchrun or accelerate launch; alone it costs nothing.

    torchrun --nproc-per-node 2 -m ixc train RECIPE      every rank plans the same step, runs its own packs
    blocks of the decoder   gathered one at a time, in the forward pass and again in the backward pass
    all the rest            gathered once a pass: tower (0.3 B), projector, embeddings and head

The tower stays whole because ranks look at different numbers of pictures: it runs once for every 16 of them, and ranks
that ran it more often than others would wait for an exchange that never comes.

Every rank's loss is its share of the sum over all labels; FSDP2 averages gradients, so the share is first multiplied by
the number of ranks. gloo carries the exchange on CPUs, nccl on GPUs.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from ixc.errors import UsageError
from ixc.train.loss import Learner

PATIENCE = timedelta(minutes=30)
"""How long a rank waits for the others: reading 17 GB of weights from a slow disk takes minutes."""


@dataclass(frozen=True, kw_only=True)
class ProcessGroup:
    """The ranks that train together, seen from one of them."""

    rank: int = 0
    """Its number."""
    ranks: int = 1
    """How many there are."""
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    """Its own."""

    @property
    def leads(self) -> bool:
        """True for the one that writes and speaks."""
        return self.rank == 0

    def sums(self, *values: float) -> list[float]:
        """Each value summed over all ranks."""
        if self.ranks == 1:
            return list(values)
        summed = torch.tensor(values, dtype=torch.float64, device=self.device)
        dist.all_reduce(summed)
        return summed.tolist()

    def wait(self) -> None:
        """Until all ranks are here."""
        self.sums(0.0)

    def gathered(self, value: Any) -> list[Any]:
        """What every rank gave, by rank."""
        if self.ranks == 1:
            return [value]
        found: list[Any] = [None] * self.ranks
        dist.all_gather_object(found, value)
        return found


def present(device: torch.device) -> ProcessGroup:
    """The team this process is in at the moment.

    Args:
        device: its own.
    """
    if not dist.is_initialized():
        return ProcessGroup(device=device)
    return ProcessGroup(rank=dist.get_rank(), ranks=dist.get_world_size(), device=device)


def launched() -> tuple[int, int, int]:
    """(rank, ranks, number among those of this machine), as torchrun and accelerate tell it; (0, 1, 0) without them."""
    number = {name: int(os.environ.get(name) or default) for name, default in _TOLD.items()}
    return number["RANK"], number["WORLD_SIZE"], number["LOCAL_RANK"]


_TOLD = {"RANK": 0, "WORLD_SIZE": 1, "LOCAL_RANK": 0}
"""Variable -> what it is without a launcher."""


@contextmanager
def joined(name: str) -> Iterator[ProcessGroup]:
    """The team this process was launched into; it is left again at the end.

    Args:
        name: auto, cpu or cuda.

    Raises:
        UsageError: no such device, or fewer than ranks on this machine.
    """
    rank, ranks, local = launched()
    device = _device(name, local)
    if ranks == 1 or dist.is_initialized():
        yield ProcessGroup(rank=rank, ranks=ranks, device=device)
        return
    cuda = device.type == "cuda"
    dist.init_process_group("cpu:gloo,cuda:nccl" if cuda else "gloo", timeout=PATIENCE)
    try:
        yield ProcessGroup(rank=rank, ranks=ranks, device=device)
    finally:
        dist.destroy_process_group()


def _device(name: str, local: int) -> torch.device:
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name not in ("cpu", "cuda"):
        raise UsageError(f"no device {name!r} to train on; use auto, cpu or cuda")
    if name == "cpu":
        return torch.device("cpu")
    found = torch.cuda.device_count()
    if found <= local:
        wanted = f"rank {local} of this machine needs {local + 1}" if local else "1 is needed"
        raise UsageError(
            f"device cuda asked for, {found} cuda devices found, {wanted}; use --device cpu or fewer ranks"
        )
    torch.cuda.set_device(local)
    return torch.device("cuda", local)


def shard(learner: Learner, team: ProcessGroup, *, half: bool) -> None:
    """Spreads the weights over the ranks in place; what learns and what is frozen must be settled before.

    Args:
        half: gather and compute in bfloat16; gradients are summed in float32 all the same.
    """
    if team.ranks == 1:
        return
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard

    mesh = init_device_mesh(team.device.type, (team.ranks,))
    policy = MixedPrecisionPolicy(param_dtype=torch.bfloat16, reduce_dtype=torch.float32) if half else None
    settings: dict[str, Any] = {"mesh": mesh} | ({"mp_policy": policy} if policy else {})
    for block in learner.core.model.language_model.layers:
        fully_shard(block, **settings)
    fully_shard(learner, **settings)


@contextmanager
def callable_alone(learner: Learner, team: ProcessGroup) -> Iterator[None]:
    """The model below may be called by itself, by all ranks alike: what is no block of the decoder is gathered."""
    gather: Any = learner
    if team.ranks > 1:
        gather.unshard()
    try:
        yield
    finally:
        if team.ranks > 1:
            gather.reshard()


def whole(value: Tensor) -> Tensor:
    """A tensor with the shards of all ranks, which must all ask; as it is, if it never was sharded."""
    return value.full_tensor() if isinstance(value, DTensor) else value


def clip(model: nn.Module, most: float) -> float:
    """Scales all gradients down to a norm; returns the norm they had."""
    found = [weight for weight in model.parameters() if weight.grad is not None]
    return float(whole(nn.utils.clip_grad_norm_(found, most)))
