"""Trackers of a run's scalars beside the log: TensorBoard, Weights & Biases, trackio.

tracker("tensorboard", OUT, settings) -> Tracker; tracker(step, {"loss": 0.2, ...}) after every step; tracker.close()

A tracker is used only if it is named and installed. A run of several stages, each with its own steps, passes the stage.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Protocol

from ixc.errors import MissingPackageError, UsageError

EVENTS = "events"
"""Folder of TensorBoard's event files in the run."""

PROJECT = "ixc-4khd"
"""Project name at the hosted trackers."""


class Tracker(Protocol):
    """Records scalars by step."""

    def __call__(self, step: int, scalars: Mapping[str, float], *, stage: str = "") -> None: ...
    def close(self) -> None: ...


class TensorBoard:
    """Event files in OUT/events, of a stage in a subfolder, which TensorBoard shows as a run."""

    def __init__(self, out: Path, settings: Mapping[str, Any]) -> None:
        try:
            from torch.utils.tensorboard.writer import SummaryWriter
        except ImportError as error:
            raise _missing("tensorboard") from error
        # purge_step: steps that a resumed run repeats replace those written before it was killed.
        self._open: Callable[[str, int], Any] = lambda stage, step: SummaryWriter(
            str(out / EVENTS / stage), purge_step=step
        )
        self._writers: dict[str, Any] = {}

    def __call__(self, step: int, scalars: Mapping[str, float], *, stage: str = "") -> None:
        if stage not in self._writers:
            self._writers[stage] = self._open(stage, step)
        for name, value in scalars.items():
            self._writers[stage].add_scalar(f"train/{name}", value, step)

    def close(self) -> None:
        """Flush all event files to the disk."""
        for writer in self._writers.values():
            writer.close()


class HostedTracker:
    """Weights & Biases or trackio, which share the calls init, log and finish."""

    def __init__(self, name: str, out: Path, settings: Mapping[str, Any]) -> None:
        try:
            self._module: Any = __import__(name)
        except ImportError as error:
            raise _missing(name) from error
        self._module.init(project=PROJECT, name=out.name, config=dict(settings))

    def __call__(self, step: int, scalars: Mapping[str, float], *, stage: str = "") -> None:
        # Steps must rise within a run, and every stage begins at 1: with stages the step is a scalar of its own.
        if stage:
            self._module.log({f"{stage}/{name}": value for name, value in {"step": step, **scalars}.items()})
        else:
            self._module.log(dict(scalars), step=step)

    def close(self) -> None:
        """Finish the run."""
        self._module.finish()


TRACKERS: dict[str, Callable[[Path, Mapping[str, Any]], Tracker]] = {
    "tensorboard": TensorBoard,
    "wandb": lambda out, settings: HostedTracker("wandb", out, settings),
    "trackio": lambda out, settings: HostedTracker("trackio", out, settings),
}


def check(names: Sequence[str]) -> None:
    """Check that all trackers are known.

    Raises:
        UsageError: one is not.
    """
    unknown = [name for name in names if name not in TRACKERS]
    if unknown:
        raise UsageError(f"no tracker {unknown[0]!r}; use {', '.join(TRACKERS)}")


@contextmanager
def trackers(names: Sequence[str], out: Path, settings: Mapping[str, Any]) -> Iterator[list[Tracker]]:
    """Open the named trackers and close them at the end.

    Args:
        names: keys of `TRACKERS`; a repeated one counts once.
        out: folder of the run.
        settings: shown beside the run by hosted trackers.

    Raises:
        UsageError: unknown. MissingPackageError: not installed.
    """
    check(names)
    with ExitStack() as stack:
        opened = []
        for name in dict.fromkeys(names):
            opened.append(TRACKERS[name](out, settings))
            stack.callback(opened[-1].close)
        yield opened


def _missing(name: str) -> MissingPackageError:
    extra = " it comes with pip install 'ixc-4khd[train]'" if name == "tensorboard" else f" pip install {name}"
    return MissingPackageError(f"the package {name} is not installed;{extra}, or leave out --report-to {name}")
