"""The script of `benchmarks/ray_kills_202611.json` with one kill of each kind: command, worker, whole node."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("ray", reason="needs the extra ray")

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_run_killed_three_ways_ends_with_the_rows_of_a_plain_run(tmp_path: Path) -> None:
    out = tmp_path / "kills.json"
    command = [sys.executable, ROOT / "dev" / "ray_kills.py", "--kills", "3", "--pages", "96", "--out", out]
    subprocess.run(command, check=True, timeout=900, cwd=ROOT)
    found = json.loads(out.read_text())
    assert found["kills"] == {"driver": 1, "actor": 1, "node": 1}
    assert all((run["rows"], run["double"], run["missing"], run["different"]) == (96, 0, 0, 0) for run in found["runs"])


def test_run_killed_thirty_times_has_the_rows_of_a_plain_run() -> None:
    found = json.loads((ROOT / "benchmarks" / "ray_kills_202611.json").read_text())
    assert found["kills_in_all"] >= 30
    for run in found["runs"]:
        assert run["rows"] == found["rows_of_the_plain_run"] == found["pages"]
        assert (run["double"], run["missing"], run["different"]) == (0, 0, 0)
