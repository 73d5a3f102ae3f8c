"""A step in parts, one on each core: every part has pages of its own, and their gradients are averaged.

Processes that share a step meet through gloo on this machine; where there is one core the parts are done one after the
other. A sum of two has the same bits either way, so two parts give the same weights on one core and on two.
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

Note = TypeVar("Note")


class DataParallel:
    """Which parts of a step are done by this process.

    Args:
        count: parts of a step.
        mine: the only one of this process, which has met the others (`init_replicas`); None: all of them are done here.
    """

    def __init__(self, count: int = 1, mine: int | None = None) -> None:
        self.count, self.mine = count, mine

    @property
    def here(self) -> range:
        """Parts of this process."""
        return range(self.count) if self.mine is None else range(self.mine, self.mine + 1)

    @property
    def writes(self) -> bool:
        """This process writes states and logs."""
        return not self.mine

    def draws(self, shared: Generator, *key: int, part: int) -> Generator:
        """What the pages of a part are drawn from; of the only part: what the step itself is drawn from."""
        return shared if self.count == 1 else default_rng([*key, part + 1])

    def mean(self, parameters: Iterable[Tensor]) -> None:
        """Every gradient becomes the mean over the parts; those without one are without one in every part."""
        if self.count == 1:
            return
        grads = [p.grad for p in parameters if p.grad is not None]
        if self.mine is None:
            torch._foreach_div_(grads, self.count)
            return
        flat = torch.cat([g.flatten() for g in grads])
        dist.all_reduce(flat)
        flat /= self.count
        for grad, mean in zip(grads, flat.split([g.numel() for g in grads]), strict=True):
            grad.copy_(mean.view_as(grad))

    def all(self, notes: list[Note]) -> list[Note]:
        """Notes of the parts done here -> of all parts, in order."""
        if self.mine is None:
            return notes
        gathered: list[list[Note]] = [[]] * self.count
        dist.all_gather_object(gathered, notes)
        return [note for some in gathered for note in some]


@contextmanager
def init_replicas(count: int, mine: int, place: Path) -> Iterator[DataParallel]:
    """Wait for the processes of the other parts, at a file that does not exist yet and is theirs alone."""
    dist.init_process_group("gloo", init_method=f"file://{place}", world_size=count, rank=mine)
    try:
        yield DataParallel(count, mine)
    finally:
        dist.destroy_process_group()
