"""Every example runs as its first line says."""

import json
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
NOTE, QUESTION = "examples/receipt.png", "What is the title?"
ARGUMENTS = {
    "ask.py": [NOTE, QUESTION],
    "auto_classes.py": ["src/ixc/pretrained/nano", NOTE, QUESTION],
    "fine_grid.py": ["3840", "2160"],
}
TRAINING = {"trainer.py": "transformers", "trl_sft.py": "trl"}
"""Examples that learn -> the package they show."""
SERVERS = {"docling_server.py", "lmms_eval_server.py"}
"""Examples that need a server and a package of its own environment: run by `serving/test_backends.py`."""
LONGEST = 40


def test_examples_are_all_run() -> None:
    assert {f.name for f in (ROOT / "examples").glob("*.py")} == {*ARGUMENTS, *TRAINING, *SERVERS}


@pytest.mark.parametrize("name", ARGUMENTS)
def test_examples_run(name: str) -> None:
    path = ROOT / "examples" / name
    assert len(path.read_text().splitlines()) <= LONGEST
    done = subprocess.run(
        [sys.executable, path, *ARGUMENTS[name]], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()


@pytest.mark.slow
@pytest.mark.parametrize("name", TRAINING)
def test_examples_of_training_learn(name: str, tmp_path: Path) -> None:
    if find_spec(TRAINING[name]) is None:
        pytest.skip(f"{TRAINING[name]} is not installed: pip install -c constraints.txt -e '.[{TRAINING[name]}]'")
    path = ROOT / "examples" / name
    assert len(path.read_text().splitlines()) <= LONGEST
    turns = [{"from": "user", "value": f"<ImageHere>{QUESTION}"}, {"from": "assistant", "value": "Report Card"}]
    record = {"image": str(ROOT / NOTE), "conversations": turns}
    (tmp_path / "talks.jsonl").write_text(f"{json.dumps(record)}\n" * 4)
    command = [sys.executable, path, tmp_path / "talks.jsonl", tmp_path / "out", "2"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    state = json.loads((tmp_path / "out" / "checkpoint-2" / "trainer_state.json").read_text())
    losses = [entry["loss"] for entry in state["log_history"] if "loss" in entry]
    assert losses[1] < losses[0]  # the same two conversations twice
    assert list((tmp_path / "out").glob("*.safetensors"))
