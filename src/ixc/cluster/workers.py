"""What runs in Ray's processes: one row of the data set is one unit, pickled; so is its result.

    {"unit", "data": parts} --PrepareUnits--> {"unit", "data": prepared parts} --FinishUnits-->
    {"unit", "data": outcomes}

A unit is a short run of parts (pages, questions) that are worked on together. Where a worker has died over one of its
parts, they are worked on one by one, and the part over which two have died fails. Errors travel as values: an exception
in a stage of Ray Data would end the whole run, or drop the unit (`max_errored_blocks`).
"""

from __future__ import annotations

import pickle
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from ixc.cluster.tries import DIED, MOST_TRIES
from ixc.errors import CapacityError, IxcError

if TYPE_CHECKING:
    import pyarrow

Work = Callable[[Sequence[Any]], Sequence[Any]]
"""Parts -> one result each, in their order; may be called with any run of a unit's parts."""

MakeWork = Callable[[], Work]
"""Makes a `Work` in the process of a worker, e.g. loads a model; it pickles."""


@dataclass(frozen=True, kw_only=True)
class Fatal:
    """What ends the run: the worker cannot work at all, or its code is wrong."""

    error: IxcError | None = None
    """The error, where it is one for users."""
    trace: str = ""
    """Traceback of another exception."""


class PrepareUnits:
    """First stage: an actor that prepares the parts of units, e.g. opens pages. It stays for the run.

    Ray 2.60 ends the process of a task after a second without work where a node has more processes than cores, and
    the next task waits for a new one and its imports.

    Args:
        make: makes what prepares parts.
        tries: handle of the `Tries` actor.
    """

    def __init__(self, make: MakeWork, tries: Any) -> None:
        self._stage = _Stage("prepare", make, tries)

    def __call__(self, table: pyarrow.Table) -> pyarrow.Table:
        """Prepare the units of a table, one row each."""
        return _mapped(table, self._stage)


class FinishUnits:
    """Last stage: an actor that makes its `Work` once, e.g. loads a model, and works on units until the run ends.

    Args:
        make: makes the `Work`.
        tries: handle of the `Tries` actor.
    """

    def __init__(self, make: MakeWork, tries: Any) -> None:
        self._stage = _Stage("finish", make, tries)

    def __call__(self, table: pyarrow.Table) -> pyarrow.Table:
        """Work on the units of a table, one row each."""
        return _mapped(table, self._stage)


def row(unit: int, data: bytes) -> pyarrow.Table:
    """Return the row of a unit as a table.

    Args:
        unit: number of the unit.
        data: parts, or their outcomes, pickled.
    """
    import pyarrow

    return pyarrow.table({"unit": [unit], "data": [data]}, schema=_schema())


def unpacked(table: pyarrow.Table) -> list[tuple[int, Any]]:
    """Return (number, data) of every unit of a table."""
    numbers, column = table["unit"].to_pylist(), table["data"]
    return [(number, pickle.loads(column[at].as_buffer())) for at, number in enumerate(numbers)]


def _schema() -> pyarrow.Schema:
    import pyarrow

    return pyarrow.schema({"unit": pyarrow.int64(), "data": pyarrow.large_binary()})


def _mapped(table: pyarrow.Table, stage: _Stage) -> pyarrow.Table:
    import pyarrow

    found = [(unit, stage.outcomes(unit, parts)) for unit, parts in unpacked(table)]
    return pyarrow.concat_tables([row(unit, pickle.dumps(outcomes, protocol=5)) for unit, outcomes in found])


class _Stage:
    """One stage in one process."""

    def __init__(self, name: str, make: MakeWork, tries: Any) -> None:
        import ray

        self._name, self._tries = name, tries
        self._worker, self._node = uuid4().hex, ray.get_runtime_context().get_node_id()
        try:
            self._work: Work | Fatal = make()
        except IxcError as error:
            self._work = Fatal(error=error)
        except Exception:
            self._work = Fatal(trace=traceback.format_exc())

    def outcomes(self, unit: int, parts: Sequence[Any] | Fatal) -> list[Any] | Fatal:
        """Return one result or `IxcError` a part, or what ends the run."""
        if isinstance(parts, Fatal):
            return parts
        if isinstance(self._work, Fatal):
            return self._work
        try:
            return self._outcomes(unit, parts, self._work)
        except IxcError as error:
            return Fatal(error=error)
        except Exception:
            return Fatal(trace=traceback.format_exc())

    def _outcomes(self, unit: int, parts: Sequence[Any], work: Work) -> list[Any]:
        found = list(parts)
        sound = [at for at, part in enumerate(parts) if not isinstance(part, IxcError)]
        deaths = self._begin(unit, sound)
        if not any(deaths):
            self._do(unit, sound, work, found)
            return found
        for at in sound:  # one by one, to find the part over which workers die
            if self._begin(unit, [at])[0] < MOST_TRIES:
                self._do(unit, [at], work, found)
            else:
                found[at] = CapacityError(f"{MOST_TRIES} workers {DIED}; give workers more memory, or leave it out")
        return found

    def _do(self, unit: int, positions: Sequence[int], work: Work, found: list[Any]) -> None:
        if not positions:
            return
        results = work([found[at] for at in positions])
        for at, result in zip(positions, results, strict=True):
            found[at] = result
        self._tries.end.remote(self._keys(unit, positions))

    def _begin(self, unit: int, positions: Sequence[int]) -> list[int]:
        import ray

        if not positions:
            return []
        return ray.get(self._tries.begin.remote(self._worker, self._node, self._keys(unit, positions)))

    def _keys(self, unit: int, positions: Sequence[int]) -> list[tuple[str, int, int]]:
        return [(self._name, unit, at) for at in positions]
