"""Units through Ray: each once, whatever dies. One Ray of two cores for the file; the work is arithmetic."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("ray", reason="needs the extra ray")

from ixc.cluster import session, stages
from ixc.cluster.stages import Resources, Stages, run, workers
from ixc.errors import CapacityError, IxcError, WeightsError

pytestmark = pytest.mark.slow
"""A cluster of its own takes tens of seconds, and two at once on two cores starve each other's nodes."""

STORE = 100 << 20


@pytest.fixture(scope="module", autouse=True)
def _ray() -> Iterator[None]:
    with session.connect("local", cpus=2, object_store=STORE):
        import ray

        ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])  # workers do not find modules of tests
        yield


@dataclass(frozen=True)
class Add:
    """Adds; a part in `deadly` ends the process of its worker, as the kernel does where memory runs out."""

    amount: int
    deadly: int | None = None
    once: Path | None = None
    """File that is made by the one death; None = every time."""

    def __call__(self) -> Any:
        return self._add

    def _add(self, parts: Sequence[int]) -> list[int]:
        if self.deadly in parts and (self.once is None or not self.once.exists()):
            if self.once is not None:
                self.once.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return [part + self.amount for part in parts]


def _results(units: list[list[int]], stages: Stages) -> dict[int, list[Any]]:
    found: dict[int, list[Any]] = {}
    for done in run(iter(units), stages, Resources()):
        assert done.number not in found, f"unit {done.number} twice"
        assert done.parts == units[done.number]
        found[done.number] = done.outcomes
    return found


UNITS = [[3 * at, 3 * at + 1, 3 * at + 2] for at in range(12)]


def test_run_gives_every_unit_once() -> None:
    found = _results(UNITS, Stages(prepare=Add(100), finish=Add(1000)))
    assert found == {number: [part + 1100 for part in parts] for number, parts in enumerate(UNITS)}


def test_run_repeats_what_a_killed_worker_had(tmp_path: Path) -> None:
    found = _results(UNITS, Stages(finish=Add(1, deadly=7, once=tmp_path / "killed")))
    assert (tmp_path / "killed").exists()
    assert found == {number: [part + 1 for part in parts] for number, parts in enumerate(UNITS)}


def test_run_fails_the_part_that_kills_two_workers() -> None:
    found = _results(UNITS, Stages(finish=Add(1, deadly=7)))
    error = found[2].pop(1)
    assert isinstance(error, CapacityError)
    assert "2 workers died" in str(error)
    assert found == {n: [part + 1 for part in parts if part != 7] for n, parts in enumerate(UNITS)}


def test_run_fails_the_part_that_kills_two_preparing_workers() -> None:
    found = _results(UNITS, Stages(prepare=Add(100, deadly=20), finish=Add(1000)))
    assert isinstance(found[6].pop(2), CapacityError)
    assert found == {n: [part + 1100 for part in parts if part != 20] for n, parts in enumerate(UNITS)}


def _no_model() -> Any:
    raise WeightsError("no folder /model; copy it")


def _wrong_code() -> Any:
    return lambda parts: [1 // 0 for _ in parts]


def test_run_raises_what_keeps_a_worker_from_working() -> None:
    with pytest.raises(IxcError, match="no folder /model; copy it"):
        _results(UNITS, Stages(finish=_no_model))


def test_run_raises_a_wrong_work_with_its_trace() -> None:
    with pytest.raises(RuntimeError, match="ZeroDivisionError"):
        _results(UNITS, Stages(finish=_wrong_code))


def test_run_of_nothing_is_nothing() -> None:
    assert _results([], Stages(finish=Add(1))) == {}


def test_workers_counts_what_fits() -> None:
    assert workers(Resources()) == 2
    assert workers(Resources(cpus=2.0)) == 1
    with pytest.raises(CapacityError, match=r"a worker needs 3 cores, .* has 2 cores"):
        workers(Resources(cpus=3.0))
    with pytest.raises(CapacityError, match="1 GPU"):
        workers(Resources(gpus=1.0))


@dataclass(frozen=True)
class Slow:
    """Adds nothing, later."""

    seconds: float

    def __call__(self) -> Any:
        return self._wait

    def _wait(self, parts: Sequence[int]) -> list[int]:
        time.sleep(self.seconds)
        return list(parts)


@pytest.mark.slow
def test_run_waits_longer_where_one_unit_takes_longer_than_the_limit() -> None:
    found = {
        done.number: done.outcomes for done in run([[1], [2]], Stages(finish=Slow(9.0)), Resources(stall_seconds=6))
    }
    assert found == {0: [1], 1: [2]}


def test_run_without_progress_ends_with_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stages, "FRUITLESS", 1)
    with pytest.raises(CapacityError, match="1 times no worker finished anything within 2 s"):
        list(run([[1]], Stages(finish=Slow(60.0)), Resources(stall_seconds=2)))


def test_in_order_gives_back_the_order_of_the_units() -> None:
    found = [stages.Done(number=number, parts=[], outcomes=[]) for number in (2, 0, 1, 4, 3)]
    assert [done.number for done in stages.in_order(found)] == [0, 1, 2, 3, 4]
