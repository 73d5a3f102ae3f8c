"""Several ranks as one: FSDP2 of torch, started by torchrun or accelerate launch; one process alone needs none of it.

    torchrun --nproc-per-node 2 -m ixc train RECIPE      every rank plans the same step and runs its own packs
    decoder blocks      gathered one at a time, in the forward pass and again in the backward pass
    everything else     gathered once per pass: vision tower (0.3 B), projector, embeddings and head

The vision tower is not sharded by block because ranks encode different numbers of images: it runs once for every 16 of
them, and a rank that runs it more often than the others would wait for a collective that never comes.

Each rank's loss is its share of the sum over all labels. FSDP2 averages gradients over the ranks, so the share is
multiplied by their number first. gloo communicates on CPUs, nccl on GPUs.
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
from ixc.train.loss import LossModule

TIMEOUT = timedelta(minutes=30)
"""How long a rank waits in a collective: reading 17 GB of weights from a slow disk takes minutes."""


@dataclass(frozen=True, kw_only=True)
class ProcessGroup:
    """The ranks that train together, seen from one of them."""

    rank: int = 0
    """Number of this rank, 0 .. world_size - 1."""
    world_size: int = 1
    """Number of ranks."""
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    """Device of this rank."""

    @property
    def is_main(self) -> bool:
        """True for rank 0, which writes files and prints."""
        return self.rank == 0

    def all_reduce_sum(self, *values: float) -> list[float]:
        """Sum each value over all ranks, in float64."""
        if self.world_size == 1:
            return list(values)
        summed = torch.tensor(values, dtype=torch.float64, device=self.device)
        dist.all_reduce(summed)
        return summed.tolist()

    def barrier(self) -> None:
        """Wait until all ranks have called it."""
        self.all_reduce_sum(0.0)

    def all_gather(self, value: Any) -> list[Any]:
        """Return the value of every rank, by rank."""
        if self.world_size == 1:
            return [value]
        gathered: list[Any] = [None] * self.world_size
        dist.all_gather_object(gathered, value)
        return gathered


SINGLE_PROCESS = ProcessGroup()
"""One process on the CPU."""


def current_group(device: torch.device) -> ProcessGroup:
    """Return the group this process is in at the moment.

    Args:
        device: device of this rank.
    """
    if not dist.is_initialized():
        return ProcessGroup(device=device)
    return ProcessGroup(rank=dist.get_rank(), world_size=dist.get_world_size(), device=device)


def launch_environment() -> tuple[int, int, int]:
    """Return (rank, world size, local rank) as torchrun and accelerate set them; (0, 1, 0) without a launcher."""
    number = {name: int(os.environ.get(name) or default) for name, default in _LAUNCH_DEFAULTS.items()}
    return number["RANK"], number["WORLD_SIZE"], number["LOCAL_RANK"]


_LAUNCH_DEFAULTS = {"RANK": 0, "WORLD_SIZE": 1, "LOCAL_RANK": 0}
"""Environment variable -> its value without a launcher."""


@contextmanager
def join_process_group(device_name: str) -> Iterator[ProcessGroup]:
    """Join the group this process was launched into; leave it at the end.

    Args:
        device_name: auto, cpu or cuda.

    Raises:
        UsageError: no such device, or fewer GPUs than ranks on this machine.
    """
    rank, world_size, local_rank = launch_environment()
    device = _device(device_name, local_rank)
    group = ProcessGroup(rank=rank, world_size=world_size, device=device)
    if world_size == 1 or dist.is_initialized():
        yield group
        return
    cuda = device.type == "cuda"
    dist.init_process_group("cpu:gloo,cuda:nccl" if cuda else "gloo", timeout=TIMEOUT)
    try:
        yield group
    finally:
        dist.destroy_process_group()


def _device(name: str, local_rank: int) -> torch.device:
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name not in ("cpu", "cuda"):
        raise UsageError(f"no device {name!r} to train on; use auto, cpu or cuda")
    if name == "cpu":
        return torch.device("cpu")
    count = torch.cuda.device_count()
    if count <= local_rank:
        needed = f"rank {local_rank} of this machine needs {local_rank + 1}" if local_rank else "1 is needed"
        raise UsageError(
            f"device cuda asked for, {count} cuda devices found, {needed}; use --device cpu or fewer ranks"
        )
    torch.cuda.set_device(local_rank)
    return torch.device("cuda", local_rank)


def shard(loss_module: LossModule, group: ProcessGroup, *, bfloat16: bool) -> None:
    """Shard the weights over the ranks in place; which parameters are frozen must be settled before.

    Args:
        bfloat16: gather and compute in bfloat16; gradients are reduced in float32 in any case.
    """
    if group.world_size == 1:
        return
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard

    mesh = init_device_mesh(group.device.type, (group.world_size,))
    policy = MixedPrecisionPolicy(param_dtype=torch.bfloat16, reduce_dtype=torch.float32) if bfloat16 else None
    options: dict[str, Any] = {"mesh": mesh} | ({"mp_policy": policy} if policy else {})
    for block in loss_module.core.model.language_model.layers:
        fully_shard(block, **options)
    fully_shard(loss_module, **options)


@contextmanager
def unsharded_root(loss_module: LossModule, group: ProcessGroup) -> Iterator[None]:
    """Gather everything outside the decoder blocks, so that all ranks may call the inner model directly."""
    fsdp_module: Any = loss_module
    if group.world_size > 1:
        fsdp_module.unshard()
    try:
        yield
    finally:
        if group.world_size > 1:
            fsdp_module.reshard()


def full_tensor(value: Tensor) -> Tensor:
    """Gather a sharded tensor, which all ranks must do together; return a plain tensor as it is."""
    return value.full_tensor() if isinstance(value, DTensor) else value


def clip_grad_norm(model: nn.Module, max_norm: float) -> float:
    """Scale all gradients down to a maximum norm; return the norm before."""
    parameters = [weight for weight in model.parameters() if weight.grad is not None]
    return float(full_tensor(nn.utils.clip_grad_norm_(parameters, max_norm)))
