"""Curves and gauges: event files another library reads, costs counted by hand, packages that are not there."""

from __future__ import annotations

import builtins
from pathlib import Path
from typing import Any

import pytest
import torch

from ixc.errors import UsageError
from ixc.runlog.trackers import EVENTS, check, trackers
from ixc.train import throughput


def test_an_unknown_tracker_is_refused() -> None:
    with pytest.raises(UsageError, match="no tracker 'mlflow'; use tensorboard, wandb, trackio"):
        check(["tensorboard", "mlflow"])


@pytest.mark.parametrize("name", ["tensorboard", "wandb", "trackio"])
def test_a_missing_package_is_named(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(wanted: str, *rest: Any) -> Any:
        if wanted.startswith((name, "torch.utils.tensorboard")):
            raise ImportError(wanted)
        return real(wanted, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    with (
        pytest.raises(UsageError, match=f"package {name} is not installed; .*pip install"),
        trackers([name], tmp_path, {}),
    ):
        pass


def test_a_service_gets_every_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "trackio.py").write_text(
        "calls = []\n"
        "def init(**how): calls.append(how)\n"
        "def log(numbers, step=None): calls.append((step, numbers))\n"
        "def finish(): calls.append('end')\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    with trackers(["trackio"], Path("runs/mine"), {"recipe": "r"}) as [curve]:
        curve(7, {"loss": 0.5})
        curve(3, {"loss": 0.2}, stage="sight")
    calls = __import__("trackio").calls
    assert calls[0] == {"project": "ixc-4khd", "name": "mine", "config": {"recipe": "r"}}
    assert calls[1:] == [(7, {"loss": 0.5}), (None, {"sight/step": 3, "sight/loss": 0.2}), "end"]


@pytest.mark.slow
def test_tensorboard_reads_the_events(tmp_path: Path) -> None:
    reader = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    for steps in ((1, 2, 3), (3, 4)):  # a kill behind step 2, then resumed
        with trackers(["tensorboard"], tmp_path, {}) as [curve]:
            for step in steps:
                curve(step, {"loss": 1 / step})
    events = reader.EventAccumulator(str(tmp_path / EVENTS)).Reload()
    assert [one.step for one in events.Scalars("train/loss")] == [1, 2, 3, 4]


@pytest.mark.slow
def test_tensorboard_keeps_the_stages_apart(tmp_path: Path) -> None:
    reader = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    for steps in ((1, 2, 3), (3, 4)):  # a kill behind step 2, then resumed
        with trackers(["tensorboard"], tmp_path, {}) as [curve]:
            for step in steps:
                curve(step, {"loss": 1 / step}, stage="sight")
                curve(10 * step, {"loss": step}, stage="language")
    for stage, wanted in (("sight", [1, 2, 3, 4]), ("language", [10, 20, 30, 40])):
        events = reader.EventAccumulator(str(tmp_path / EVENTS / stage)).Reload()
        assert [one.step for one in events.Scalars("train/loss")] == wanted


def test_operations_are_those_of_a_linear_map() -> None:
    # 100 frozen weights: forward 200, back to the inputs 200; 10 that learn: 20 + 20 and 20 for their own gradient.
    assert throughput.flops_per_token({"LLM": (0, 100), "LoRA": (10, 10), "vision tower": (0, 999)}) == 400 + 60


def test_the_share_of_a_known_peak(monkeypatch: pytest.MonkeyPatch) -> None:
    assert throughput.peak_flops("NVIDIA H200") == 989e12
    assert throughput.peak_flops("NVIDIA GeForce GTX 1080") is None
    reading = throughput.ThroughputMeter(1e9, 1e12)(500)
    assert reading.utilization == 0.5
    assert reading.text().endswith("GB, 50% of the peak")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    plain = throughput.ThroughputMeter(0.0, None)(500)
    assert plain.utilization is None
    assert 1e7 < plain.memory < 1e12  # a Python with torch in it
