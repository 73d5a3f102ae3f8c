"""Data parallelism over CPU cores: every replica of a step draws its own pages, and gradients are averaged.

The replicas' processes communicate through gloo on this machine. Where there is one core, one process computes all
replicas one after the other. A sum of two numbers has the same bits either way, so two replicas give the same weights
on one core and on two.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import torch
import torch.distributed as dist
from numpy.random import Generator, default_rng
from torch import Tensor

Result = TypeVar("Result")


class DataParallel:
    """The replicas of a step that this process computes.

    Args:
        world_size: replicas of a step.
        rank: the only one of this process, which has joined the group (`init_replicas`); None: all are computed here.
    """

    def __init__(self, world_size: int = 1, rank: int | None = None) -> None:
        self.world_size, self.rank = world_size, rank

    @property
    def local_ranks(self) -> range:
        """Ranks computed by this process."""
        return range(self.world_size) if self.rank is None else range(self.rank, self.rank + 1)

    @property
    def is_main(self) -> bool:
        """Whether this process writes states and logs."""
        return not self.rank

    def generator(self, shared: Generator, *key: int, rank: int) -> Generator:
        """Random generator of a replica; a single replica uses the step's own."""
        return shared if self.world_size == 1 else default_rng([*key, rank + 1])

    def average_gradients(self, parameters: Iterable[Tensor]) -> None:
        """Replace every gradient by its mean over the replicas; parameters without one have none in any replica."""
        if self.world_size == 1:
            return
        grads = [p.grad for p in parameters if p.grad is not None]
        if self.rank is None:
            torch._foreach_div_(grads, self.world_size)  # pyright: ignore[reportPrivateImportUsage]  # untyped in torch
            return
        flat = torch.cat([g.flatten() for g in grads])
        dist.all_reduce(flat)
        flat /= self.world_size
        for grad, mean in zip(grads, flat.split([g.numel() for g in grads]), strict=True):
            grad.copy_(mean.view_as(grad))

    def gather(self, results: list[Result]) -> list[Result]:
        """Collect the results of all replicas, in order of rank, from those computed here."""
        if self.rank is None:
            return results
        gathered: list[list[Result]] = [[]] * self.world_size
        dist.all_gather_object(gathered, results)
        return [result for some in gathered for result in some]


@contextmanager
def init_replicas(world_size: int, rank: int, rendezvous: Path) -> Iterator[DataParallel]:
    """Join the processes of the other replicas through a file that does not exist yet and is theirs alone."""
    dist.init_process_group("gloo", init_method=f"file://{rendezvous}", world_size=world_size, rank=rank)
    try:
        yield DataParallel(world_size, rank)
    finally:
        dist.destroy_process_group()
