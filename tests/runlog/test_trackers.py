"""Trackers: event files another library reads, a service that gets every step, packages that are missing."""

from __future__ import annotations

import builtins
from pathlib import Path
from typing import Any

import pytest

from ixc.errors import MissingPackageError, UsageError
from ixc.runlog.trackers import EVENTS, check, trackers


def test_check_refuses_an_unknown_tracker() -> None:
    with pytest.raises(UsageError, match="no tracker 'mlflow'; use tensorboard, wandb, trackio"):
        check(["tensorboard", "mlflow"])


@pytest.mark.parametrize("name", ["tensorboard", "wandb", "trackio"])
def test_trackers_missing_package_is_named(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(wanted: str, *rest: Any) -> Any:
        if wanted.startswith((name, "torch.utils.tensorboard")):
            raise ImportError(wanted)
        return real(wanted, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    with (
        pytest.raises(MissingPackageError, match=f"package {name} is not installed; .*pip install"),
        trackers([name], tmp_path, {}),
    ):
        pass


def test_trackers_service_gets_every_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "trackio.py").write_text(
        "calls = []\n"
        "def init(**how): calls.append(how)\n"
        "def log(numbers, step=None): calls.append((step, numbers))\n"
        "def finish(): calls.append('end')\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    with trackers(["trackio"], Path("runs/mine"), {"recipe": "r"}) as [curve]:
        curve(7, {"loss": 0.5})
        curve(3, {"loss": 0.2}, stage="vision_pretrain")
    calls = __import__("trackio").calls
    assert calls[0] == {"project": "ixc-4khd", "name": "mine", "config": {"recipe": "r"}}
    assert calls[1:] == [(7, {"loss": 0.5}), (None, {"vision_pretrain/step": 3, "vision_pretrain/loss": 0.2}), "end"]


@pytest.mark.slow
def test_trackers_tensorboard_reads_the_events(tmp_path: Path) -> None:
    reader = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    for steps in ((1, 2, 3), (3, 4)):  # a kill behind step 2, then resumed
        with trackers(["tensorboard"], tmp_path, {}) as [curve]:
            for step in steps:
                curve(step, {"loss": 1 / step})
    events = reader.EventAccumulator(str(tmp_path / EVENTS)).Reload()
    assert [one.step for one in events.Scalars("train/loss")] == [1, 2, 3, 4]


@pytest.mark.slow
def test_trackers_tensorboard_keeps_the_stages_apart(tmp_path: Path) -> None:
    reader = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    for steps in ((1, 2, 3), (3, 4)):  # a kill behind step 2, then resumed
        with trackers(["tensorboard"], tmp_path, {}) as [curve]:
            for step in steps:
                curve(step, {"loss": 1 / step}, stage="vision_pretrain")
                curve(10 * step, {"loss": step}, stage="layout_lm")
    for stage, wanted in (("vision_pretrain", [1, 2, 3, 4]), ("layout_lm", [10, 20, 30, 40])):
        events = reader.EventAccumulator(str(tmp_path / EVENTS / stage)).Reload()
        assert [one.step for one in events.Scalars("train/loss")] == wanted
