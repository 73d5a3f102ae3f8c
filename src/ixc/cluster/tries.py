"""Which worker has begun which part of the work: a part over which workers die is tried twice, then it fails.

Ray Data repeats the work of a dead worker without end (`max_task_retries=-1`): one page that exhausts the memory would
kill a worker after another. `Tries` runs as an actor beside the driver: a worker says what it begins, and learns
over how many of these parts a worker has died.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

MOST_TRIES = 2
"""Deaths of a worker after which a part fails."""

DIED = "died over it, most likely for lack of memory"
"""In the error of such a part: who opens it again may die, too."""

Key = tuple[Any, ...]
"""Name of a part: stage, unit, position."""


@dataclass(frozen=True, kw_only=True)
class Begun:
    """One part that a worker has begun."""

    worker: str
    """Name of the worker; a worker that starts again has another one."""
    node: str
    """Node of the worker."""


class Tries:
    """Counts workers that died over a part.

    A worker whose node died does not count: the part was not the cause.

    Args:
        dead_nodes: the nodes that are gone; asked only where a part was begun before.
    """

    def __init__(self, dead_nodes: Callable[[], set[str]] | None = None) -> None:
        self._dead_nodes = dead_nodes or _dead_nodes
        self._begun: dict[Key, list[Begun]] = {}

    def begin(self, worker: str, node: str, keys: Sequence[Key]) -> list[int]:
        """Record that a worker begins parts, unless one has died over any of them.

        Args:
            worker: name of the worker.
            node: its node.
            keys: of the parts.

        Returns:
            Over each part, how many other workers have died; recorded where all are 0, or there is one part.
        """
        before = [[each for each in self._begun.get(key, ()) if each.worker != worker] for key in keys]
        dead = self._dead_nodes() if any(before) else set()
        deaths = [sum(each.node not in dead for each in found) for found in before]
        if len(keys) == 1 or not any(deaths):
            for key in keys:
                self._begun.setdefault(key, []).append(Begun(worker=worker, node=node))
        return deaths

    def end(self, keys: Sequence[Key]) -> None:
        """Record that parts are done: nothing has died over them."""
        for key in keys:
            self._begun.pop(key, None)

    def open(self) -> int:
        """Return the number of parts that have begun and not ended."""
        return len(self._begun)


def _dead_nodes() -> set[str]:
    import ray

    return {each["NodeID"] for each in ray.nodes() if not each["Alive"]}
