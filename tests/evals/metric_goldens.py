"""The cases of tests/goldens/metrics, and how a whole family of them is compared in one test."""

import json
import math
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

GOLDENS = Path(__file__).parents[1] / "goldens" / "metrics"

Case = dict[str, Any]


@cache
def golden(name: str) -> dict[str, Any]:
    """One file, "cases/anls" for instance."""
    return json.loads((GOLDENS / f"{name}.json").read_text(encoding="utf-8"))


def families(*names: str) -> list[tuple[str, str]]:
    """(metric, family) of every family of the metrics' cases: one test each."""
    return [
        (name, family) for name in names for family in sorted({c["family"] for c in golden(f"cases/{name}")["cases"]})
    ]


def of_family(name: str, family: str) -> list[Case]:
    """The cases of a family, at least one."""
    cases = [case for case in golden(f"cases/{name}")["cases"] if case["family"] == family]
    assert cases
    return cases


def same(found: Any, wanted: Any) -> bool:
    """Equal; floats to 1e-9 (sums in another order differ in the last bits), null = not a number or nothing."""
    if wanted is None:
        return found is None or (isinstance(found, float) and math.isnan(found))
    if isinstance(wanted, dict):
        return (
            isinstance(found, dict) and found.keys() == wanted.keys() and all(same(found[k], wanted[k]) for k in wanted)
        )
    if isinstance(wanted, list):
        return len(found) == len(wanted) and all(same(f, w) for f, w in zip(found, wanted, strict=True))
    if isinstance(wanted, float):
        return isinstance(found, int | float) and math.isclose(found, wanted, rel_tol=1e-9, abs_tol=1e-9)
    return found == wanted


def assert_family(
    cases: list[Case], found: Callable[[Case], Any], wanted: str | Callable[[Case], Any] = "expected"
) -> int:
    """Compare all cases that have the wanted key; every difference is listed by id. Returns the number compared."""
    pick = wanted if callable(wanted) else lambda case: case[wanted]
    mine = [case for case in cases if callable(wanted) or wanted in case]
    results = [(case, found(case), pick(case)) for case in mine]
    wrong = [f"{case.get('id')}: {f!r} for {w!r} ({case.get('input')})" for case, f, w in results if not same(f, w)]
    assert not wrong, f"{len(wrong)} of {len(mine)} differ:\n" + "\n".join(wrong[:20])
    return len(mine)


def scripted(outputs: list[str] | None) -> tuple[Callable[[str], str], list[str]]:
    """A judge that answers from a script, its last line again and again; and the list of what it was asked."""
    asked: list[str] = []

    def judge(prompt: str) -> str:
        assert outputs is not None, "this row needs no judge"
        asked.append(prompt)
        return outputs[min(len(asked), len(outputs)) - 1]

    return judge, asked
