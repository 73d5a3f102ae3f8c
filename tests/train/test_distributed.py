"""Several ranks, and runs killed at any moment: `fleet.py` in a process of its own, and both launchers.

The curves of one and two ranks differ by the order of sums in float32; 1e-4 sees a sample lost, a label counted twice
or a gradient divided wrongly, each of which shows in the second digit.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

FLEET = Path(__file__).with_name("fleet.py")
MINUTES = 20


def fleet_result(*arguments: object, folder: Path, tiny_folder: Path) -> dict[str, Any]:
    shutil.copytree(tiny_folder, folder / "tiny")
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(FLEET), str(arguments[0]), str(folder), *map(str, arguments[1:])]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60 * MINUTES, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout)


@pytest.mark.slow
def test_run_on_two_ranks_equals_one_rank(tiny_folder: Path, tmp_path: Path) -> None:
    curves = fleet_result("losses", folder=tmp_path, tiny_folder=tiny_folder)
    assert {name: len(losses) for name, losses in curves.items()} == dict.fromkeys(curves, 21)
    for name in ("two", "two-then-one", "two-then-four"):
        assert curves[name] == pytest.approx(curves["one"], abs=1e-4), name
    assert curves["one"][-1] < curves["one"][0] - 0.1
    weights = {name: load_file(tmp_path / name / "model" / "model.safetensors") for name in curves}
    for name, found in weights.items():
        assert list(found) == list(weights["one"]), name
        far = [key for key, value in found.items() if (value - weights["one"][key]).abs().max() > 1e-4]
        assert not far, name
    assert "vit.vision_tower.vision_model.encoder.layers.0.mlp.fc1.weight" in weights["two-then-four"]  # as published


@pytest.mark.slow
def test_run_killed_fifty_times_ends_like_an_unbroken_one(tiny_folder: Path, tmp_path: Path) -> None:
    found = fleet_result("kills", 50, folder=tmp_path, tiny_folder=tiny_folder)
    assert [run["run"] for run in found["runs"] if not run["same"]] == []
    assert len(found["runs"]) == 50
    assert len({run["stopped"] for run in found["runs"]}) > 3  # at many moments
    assert sum(run["writing"] for run in found["runs"]) >= 15  # with a checkpoint half written


@pytest.mark.slow
def test_load_shards_reads_only_own_rows(tiny_folder: Path, tmp_path: Path) -> None:
    found = fleet_result("shards", folder=tmp_path, tiny_folder=tiny_folder)
    for name, (tensors, cut, wrong) in found.items():
        assert (cut, wrong) == (tensors - 2, []), name  # newline and separator, of one row, stay whole
    assert found["lora"][0] == found["all"][0] + 20  # A and B of five linear maps in two blocks


@pytest.mark.slow
def test_run_stopped_by_sigterm_on_all_ranks_writes_a_checkpoint(tiny_folder: Path, tmp_path: Path) -> None:
    found = fleet_result("ended", folder=tmp_path, tiny_folder=tiny_folder)
    assert found["codes"] == [0, 0]
    assert 0 < found["steps"] < 40
    assert found["checkpoints"] == [f"step-{found['steps']:08d}"]
    assert found["then"] == 40


@pytest.mark.slow
@pytest.mark.parametrize(
    "launcher",
    [
        ["torch.distributed.run", "--standalone", "--nproc-per-node", "2"],
        ["accelerate.commands.launch", "--cpu", "--num_processes", "2", "--num_machines", "1"],
    ],
    ids=["torchrun", "accelerate"],
)
def test_train_command_under_launchers(tiny_folder: Path, tmp_path: Path, launcher: list[str]) -> None:
    """The command of one device, behind a launcher: a model under published names, one log, one line printed."""
    recipe, talks, out = tmp_path / "recipe.py", tmp_path / "talks.jsonl", tmp_path / "run"
    recipe.write_text(RECIPE.format(fleet=str(FLEET.parent), base=str(tiny_folder)))
    turns = [{"from": "human", "value": "What?"}, {"from": "gpt", "value": "That."}]
    talks.write_text("\n".join(json.dumps({"conversations": turns}) for _ in range(4)))
    command = [sys.executable, "-m", *launcher, "-m", "ixc", "train", str(recipe), "--data", f"{talks}:1"]
    command += ["--model", str(tiny_folder), "--out", str(out), "--device", "cpu"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60 * MINUTES, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout == f"{out / 'model'}\n"
    assert [json.loads(line)["step"] for line in (out / "log.jsonl").read_text().splitlines()] == [1, 2, 3]
    assert set(load_file(out / "model" / "model.safetensors")) == set(load_file(tiny_folder / "model.safetensors"))


RECIPE = """
import sys
from pathlib import Path
sys.path.insert(0, {fleet!r})
from fleet import config_of

def recipe():
    return config_of(Path({base!r}), steps=3, samples=2, hd=1)
"""
