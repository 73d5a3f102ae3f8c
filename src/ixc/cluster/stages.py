"""Units through the stages of Ray Data, results back one by one, in the order in which they are done.

    units --a wave at a time--> [prepare -->] finish, a pool of actors each --> Done

Ray Data schedules, moves what is prepared between the nodes, and holds the first stage back by the bytes that wait for
the second. It repeats what a dead process or node had begun. What is left here: a node that never comes back keeps the
units of its actors (the pool has a fixed size, and an actor that finds no place waits for one). After `stall_seconds`
without any progress the run is ended, and what is missing runs again on the nodes that live.
"""

from __future__ import annotations

import pickle
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from math import floor
from typing import TYPE_CHECKING, Any

from ixc.cluster.tries import Tries
from ixc.cluster.workers import Fatal, FinishUnits, MakeWork, PrepareUnits, row, unpacked
from ixc.errors import CapacityError, IxcError

if TYPE_CHECKING:
    from ray.data import Dataset

WAVE = 2048
"""Units that one execution of Ray Data works on. Actors end with their execution, so that a wave costs the loading of
models; the driver holds a wave's units, pickled."""

FRUITLESS = 3
"""Executions without any result after which a run ends; each waits twice as long as the one before."""

PREPARE_CPUS = 0.25
"""Cores that a worker of the first stage reserves. It takes them from the share of an actor (`Resources.cpus`): actors
that reserve all cores of a node leave none for the stage that feeds them, and the run stands still."""


@dataclass(frozen=True, kw_only=True)
class Resources:
    """What one worker of the last stage is given."""

    cpus: float = 1.0
    """Cores, > `PREPARE_CPUS`; of a machine with four cores, 2.0 makes two workers."""
    gpus: float = 0.0
    """GPUs; 0.5 = two workers share one."""
    stall_seconds: float = 900.0
    """Time without any progress after which what is missing runs again, seconds."""


@dataclass(frozen=True, kw_only=True)
class Stages:
    """The work."""

    finish: MakeWork
    """Last stage, in actors: a `Work` is made once in each."""
    prepare: MakeWork | None = None
    """First stage, in actors too, whose results go to the last one; None = none."""


@dataclass(frozen=True, kw_only=True)
class Done:
    """A unit and what became of it."""

    number: int
    """From 0, in the order in which units were given."""
    parts: list[Any]
    """As they were given."""
    outcomes: list[Any]
    """For every part its result, or the `IxcError` over which it failed."""


def run(units: Iterable[Sequence[Any]], stages: Stages, resources: Resources) -> Iterator[Done]:
    """Work on units in the Ray that this process is connected to (`session.connect`).

    Args:
        units: each a run of parts that is worked on together; pulled a wave at a time. Parts pickle.
        stages: what is done.
        resources: of one worker.

    Yields:
        Each unit exactly once, in any order.

    Raises:
        IxcError: a worker cannot work at all. CapacityError: no node has the resources of one worker; workers die
            without an end. RuntimeError: an error in the code of the work, with the worker's traceback.
    """
    left, first = iter(units), 0
    while wave := {first + at: pickle.dumps(list(parts), protocol=5) for at, parts in enumerate(islice(left, WAVE))}:
        first += len(wave)
        yield from _wave(wave, stages, resources)


def in_order(found: Iterable[Done]) -> Iterator[Done]:
    """Return units in the order in which they were given; what is done early waits for what is not."""
    early: dict[int, Done] = {}
    after = 0
    for done in found:
        early[done.number] = done
        while after in early:
            yield early.pop(after)
            after += 1


def _wave(wave: dict[int, bytes], stages: Stages, resources: Resources) -> Iterator[Done]:
    """Execute until every unit of a wave has its results; a unit without progress for long is begun again."""
    from ray.data.exceptions import ExecutionTimeoutError
    from ray.exceptions import RayError

    stall, fruitless = resources.stall_seconds, 0
    while wave:
        done, reason = 0, ""
        with suppress(ExecutionTimeoutError):  # a node is gone for good: what it held runs again
            try:
                for unit, outcomes in _execution(wave, stages, resources, stall):
                    if unit in wave:
                        done += 1
                        yield Done(number=unit, parts=pickle.loads(wave.pop(unit)), outcomes=_checked(outcomes))
            except RayError as error:
                reason = " ".join(str(error).split())[:400]
        if not wave:
            return
        fruitless = 0 if done else fruitless + 1
        if fruitless and reason:
            raise CapacityError(f"Ray cannot run the workers: {reason}")
        if fruitless == FRUITLESS:
            raise CapacityError(
                f"{FRUITLESS} times no worker finished anything within {stall:.0f} s; look at `ray status`, or give "
                "workers fewer cores or more memory"
            )
        stall = resources.stall_seconds if done else 2 * stall  # it may have been too short for one unit


def _execution(wave: dict[int, bytes], stages: Stages, resources: Resources, stall: float) -> Iterator[tuple[int, Any]]:
    """Run Ray Data once over a wave; what an earlier execution had begun when it was ended counts for no death."""
    import ray

    tries = ray.remote(num_cpus=0, max_restarts=-1, max_task_retries=-1)(Tries).options(**_beside_driver()).remote()
    dataset = _dataset(wave, stages, resources, tries)
    dataset.context.execution_no_progress_timeout_s = stall
    for table in dataset.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0):
        yield from unpacked(table)


def _dataset(wave: dict[int, bytes], stages: Stages, resources: Resources, tries: Any) -> Dataset:
    import ray
    from ray.data import ActorPoolStrategy

    cpus = resources.cpus if stages.prepare is None else resources.cpus - PREPARE_CPUS
    most = min(workers(resources), len(wave))
    one_each = {"batch_size": None, "batch_format": "pyarrow", "zero_copy_batch": True}
    dataset = ray.data.from_arrow([row(unit, parts) for unit, parts in wave.items()])
    if stages.prepare is not None:
        dataset = dataset.map_batches(
            PrepareUnits,
            fn_constructor_args=(stages.prepare, tries),
            compute=ActorPoolStrategy(size=most),
            num_cpus=PREPARE_CPUS,
            **one_each,
        )
    return dataset.map_batches(
        FinishUnits,
        fn_constructor_args=(stages.finish, tries),
        compute=ActorPoolStrategy(size=most),
        num_cpus=cpus,
        num_gpus=resources.gpus,
        **one_each,
    )


def workers(resources: Resources) -> int:
    """Return how many workers of the last stage the living nodes hold.

    Raises:
        CapacityError: none.
    """
    import ray

    nodes = [each["Resources"] for each in ray.nodes() if each["Alive"]]
    found = sum(_fitting(node, resources) for node in nodes)
    if not found:
        most = max((node.get("CPU", 0.0) for node in nodes), default=0.0)
        gpus = f" and {resources.gpus:g} GPU" if resources.gpus else ""
        raise CapacityError(
            f"a worker needs {resources.cpus:g} cores{gpus}, the largest of {len(nodes)} nodes has {most:g} cores and "
            f"{max((node.get('GPU', 0.0) for node in nodes), default=0.0):g} GPUs; ask for less, or add a node"
        )
    return found


def _fitting(node: dict[str, float], resources: Resources) -> int:
    cores = floor(node.get("CPU", 0.0) / resources.cpus)
    return cores if not resources.gpus else min(cores, floor(node.get("GPU", 0.0) / resources.gpus))


def _beside_driver() -> dict[str, Any]:
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    here = ray.get_runtime_context().get_node_id()
    return {"scheduling_strategy": NodeAffinitySchedulingStrategy(here, soft=False)}


def _checked(outcomes: list[Any] | Fatal) -> list[Any]:
    if not isinstance(outcomes, Fatal):
        return outcomes
    if isinstance(outcomes.error, IxcError):
        raise outcomes.error
    raise RuntimeError(f"the code of a worker failed:\n{outcomes.trace}")
