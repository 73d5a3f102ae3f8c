"""Every example runs as its first line says."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
NOTE, QUESTION = "examples/receipt.png", "What is the title?"
ARGUMENTS = {
    "ask.py": [NOTE, QUESTION],
    "auto_classes.py": ["src/ixc/models/nano", NOTE, QUESTION],
    "fine_grid.py": ["3840", "2160"],
}
LONGEST = 40


def test_every_example_is_run() -> None:
    assert {f.name for f in (ROOT / "examples").glob("*.py")} == set(ARGUMENTS)


@pytest.mark.parametrize("name", ARGUMENTS)
def test_it_runs(name: str) -> None:
    path = ROOT / "examples" / name
    assert len(path.read_text().splitlines()) <= LONGEST
    done = subprocess.run(
        [sys.executable, path, *ARGUMENTS[name]], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()
