"""Curves beside the log: TensorBoard event files, Weights & Biases, trackio; each only if it is named and installed.

tracker("tensorboard", OUT, settings) -> Tracker; tracker(step, {"loss": 0.2, ...}) at every step; tracker.close()

A run of several stages, each with steps of its own, names the stage at every step.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Protocol

from ixc.errors import UsageError

EVENTS = "events"
"""Folder of TensorBoard's files in the run."""

PROJECT = "ixc-4khd"
"""Where the other two put their runs."""


class Tracker(Protocol):
    """Takes the numbers of a step."""

    def __call__(self, step: int, numbers: Mapping[str, float], *, stage: str = "") -> None: ...
    def close(self) -> None: ...


class TensorBoard:
    """Event files in OUT/events; of a stage in a folder of its own there, which TensorBoard shows as a run."""

    def __init__(self, out: Path, settings: Mapping[str, Any]) -> None:
        try:
            from torch.utils.tensorboard.writer import SummaryWriter
        except ImportError as error:
            raise _missing("tensorboard") from error
        # Steps that a resumed run does again replace those a kill left behind.
        self._begin: Callable[[str, int], Any] = lambda stage, step: SummaryWriter(
            str(out / EVENTS / stage), purge_step=step
        )
        self._writers: dict[str, Any] = {}

    def __call__(self, step: int, numbers: Mapping[str, float], *, stage: str = "") -> None:
        """One point of each curve."""
        if stage not in self._writers:
            self._writers[stage] = self._begin(stage, step)
        for name, value in numbers.items():
            self._writers[stage].add_scalar(f"train/{name}", value, step)

    def close(self) -> None:
        """Onto the disk."""
        for writer in self._writers.values():
            writer.close()


class HostedTracker:
    """Weights & Biases or trackio, which have the same three calls."""

    def __init__(self, name: str, out: Path, settings: Mapping[str, Any]) -> None:
        try:
            self._room: Any = __import__(name)
        except ImportError as error:
            raise _missing(name) from error
        self._room.init(project=PROJECT, name=out.name, config=dict(settings))

    def __call__(self, step: int, numbers: Mapping[str, float], *, stage: str = "") -> None:
        """One point of each curve; stages have steps of their own, so theirs are numbered by a curve instead."""
        if stage:
            self._room.log({f"{stage}/{name}": value for name, value in {"step": step, **numbers}.items()})
        else:
            self._room.log(dict(numbers), step=step)

    def close(self) -> None:
        """The run is over."""
        self._room.finish()


TRACKERS: dict[str, Callable[[Path, Mapping[str, Any]], Tracker]] = {
    "tensorboard": TensorBoard,
    "wandb": lambda out, settings: HostedTracker("wandb", out, settings),
    "trackio": lambda out, settings: HostedTracker("trackio", out, settings),
}


def check(names: Sequence[str]) -> None:
    """All of them are known.

    Raises:
        UsageError: one is not.
    """
    unknown = [name for name in names if name not in TRACKERS]
    if unknown:
        raise UsageError(f"no tracker {unknown[0]!r}; use {', '.join(TRACKERS)}")


@contextmanager
def trackers(names: Sequence[str], out: Path, settings: Mapping[str, Any]) -> Iterator[list[Tracker]]:
    """Those named, closed at the end.

    Raises:
        UsageError: unknown, or not installed.
    """
    check(names)
    with ExitStack() as stack:
        made = []
        for name in dict.fromkeys(names):
            made.append(TRACKERS[name](out, settings))
            stack.callback(made[-1].close)
        yield made


def _missing(name: str) -> UsageError:
    extra = " it comes with pip install 'ixc-4khd[train]'" if name == "tensorboard" else f" pip install {name}"
    return UsageError(f"the package {name} is not installed;{extra}, or leave out --track {name}")
