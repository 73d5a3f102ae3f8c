"""Counting deaths over a part: of living nodes only, forgotten once the part is done."""

from __future__ import annotations

from ixc.cluster.tries import Tries

FIRST, SECOND = ("finish", 0, 0), ("finish", 0, 1)


def test_tries_counts_dead_workers_of_a_part() -> None:
    tries = Tries(set)
    assert tries.begin("a", "node", [FIRST, SECOND]) == [0, 0]
    assert tries.begin("b", "node", [FIRST, SECOND]) == [1, 1]  # not recorded: they are begun again one by one
    assert tries.begin("b", "node", [FIRST]) == [1]
    tries.end([FIRST])
    assert tries.begin("b", "node", [SECOND]) == [1]
    assert tries.begin("c", "node", [FIRST, SECOND]) == [0, 2]


def test_tries_does_not_count_dead_nodes() -> None:
    dead: set[str] = set()
    tries = Tries(lambda: dead)
    tries.begin("a", "lost", [FIRST])
    assert tries.begin("b", "node", [FIRST]) == [1]
    dead.add("lost")
    assert tries.begin("c", "node", [FIRST]) == [1]  # b alone


def test_tries_forgets_what_is_done() -> None:
    tries = Tries(set)
    tries.begin("a", "node", [FIRST, SECOND])
    assert tries.open() == 2
    tries.end([FIRST, SECOND])
    assert tries.open() == 0
    assert tries.begin("b", "node", [FIRST]) == [0]
