"""Progress of the commands on stderr: bars on a terminal, lines elsewhere, JSON lines with `--log-json`, none with
`--quiet`.

    --quiet      stderr is empty unless the command fails: one `error:` line
    --log-json   every line of stderr is one JSON object: {"time", "event", ...}; `event` is one of `EVENTS`
"""

from __future__ import annotations

import json
import logging
import sys
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from threading import Event, Thread
from typing import Annotated, Any, TypeVar

import typer

EVENTS = ("progress", "note", "log", "error")
"""Values of `event` in a line of `--log-json`: progress has what, done, total; note, log and error have message."""

WAIT_SECONDS = 1.0
"""A wait shorter than this is not announced."""

T = TypeVar("T")


@dataclass
class _Stderr:
    """What may be written on stderr; set by the options of the command that runs."""

    quiet: bool = False
    as_json: bool = False


_stderr = _Stderr()


def reset() -> None:
    """Forget the options of an earlier command of this process."""
    _stderr.quiet = _stderr.as_json = False


def _set_quiet(value: bool) -> bool:
    _stderr.quiet = value
    return value


def _set_json(value: bool) -> bool:
    _stderr.as_json = value
    return value


Quiet = Annotated[
    bool,
    typer.Option("--quiet", is_eager=True, callback=_set_quiet, help="Nothing on stderr but the line of an error."),
]
LogJson = Annotated[
    bool,
    typer.Option(
        "--log-json", is_eager=True, callback=_set_json, help="Progress, notes and errors on stderr as JSON lines."
    ),
]


def is_quiet() -> bool:
    """Whether `--quiet` was given."""
    return _stderr.quiet


def is_json() -> bool:
    """Whether `--log-json` was given."""
    return _stderr.as_json


def event(kind: str, **fields: Any) -> None:
    """Print one JSON line on stderr.

    Args:
        kind: one of `EVENTS`.
        fields: of the event, for JSON.
    """
    now = datetime.now(UTC).isoformat(timespec="milliseconds")
    print(json.dumps({"time": now, "event": kind, **fields}, ensure_ascii=False), file=sys.stderr, flush=True)


class _JsonHandler(logging.Handler):
    """Prints the records of a logger as events."""

    def emit(self, record: logging.LogRecord) -> None:
        event("log", message=record.getMessage(), level=record.levelname.lower(), logger=record.name)


def configure_logging() -> None:
    """Send the lines that a library logs to stderr in the form that the options ask for."""
    if _stderr.as_json:
        logging.basicConfig(level=logging.INFO, handlers=[_JsonHandler()], force=True)
        return
    level = logging.ERROR if _stderr.quiet else logging.INFO
    logging.basicConfig(level=level, format="%(asctime)s %(message)s", datefmt="%H:%M:%S", stream=sys.stderr)


def note(text: str) -> None:
    """Print one line on stderr that does not stop the command."""
    line = " ".join(text.split())
    if _stderr.quiet:
        return
    if _stderr.as_json:
        event("note", message=line)
    else:
        print(f"note: {line}", file=sys.stderr, flush=True)


def show_line(text: str) -> None:
    """Print a line of progress on stderr."""
    if _stderr.quiet:
        return
    if _stderr.as_json:
        event("log", message=text)
    else:
        print(text, file=sys.stderr, flush=True)


def progress(what: str) -> Any:
    """Show a progress bar on stderr, updated by calls of (done, total); none if stderr is not a terminal."""
    return _counted(what)


@contextmanager
def _counted(what: str) -> Iterator[Callable[[int, int], None]]:
    with described_progress() as show:
        yield lambda done, total: show(what, done, total)


@contextmanager
def described_progress() -> Iterator[Callable[[str, int, int], None]]:
    """Show a progress bar on stderr, updated by calls of (text, done, total); none if stderr is not a terminal."""
    if _stderr.quiet:
        yield lambda what, done, total: None
        return
    if _stderr.as_json:
        yield _throttled(lambda what, done, total: event("progress", what=what, done=done, total=total), every=1.0)
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    console = Console(stderr=True)
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal, transient=True) as bar:
        task = bar.add_task("", total=None)
        yield lambda what, done, total: bar.update(task, description=what, completed=done, total=total or None)


@contextmanager
def ticker(*, every: float = 10.0) -> Iterator[Callable[[str, int, int], None]]:
    """`described_progress`; if stderr is not a terminal, print the text as lines on it instead.

    Args:
        every: least seconds between two such lines; the last one (done = total) is always printed.
    """

    def say(what: str, done: int, total: int) -> None:
        if not (sys.stderr.isatty() or _stderr.quiet or _stderr.as_json):
            print(what, file=sys.stderr, flush=True)

    line = _throttled(say, every=every)
    with described_progress() as show:

        def update(what: str, done: int, total: int) -> None:
            show(what, done, total)
            line(what, done, total)

        yield update


def _throttled(show: Callable[[str, int, int], None], *, every: float) -> Callable[[str, int, int], None]:
    """Return a function that passes on at most one call in `every` seconds, and the last one (done = total)."""
    last = float("-inf")

    def call(what: str, done: int, total: int) -> None:
        nonlocal last
        if done == total or time.monotonic() - last >= every:
            last = time.monotonic()
            show(what, done, total)

    return call


def watch(done: Generator[Any], *, total: int, what: str) -> Any:
    """Run a generator to its end with a progress bar.

    Args:
        done: yields counts (1 .. total), and a result last if it has one.
        total: last count.
        what: text before the bar.

    Returns:
        The last value.
    """
    last: Any = None
    with closing(done), _counted(what) as show:
        for last in done:
            show(last if isinstance(last, int) else total, total)
    return last


class Waiting:
    """A line on a terminal's stderr about work without an end in sight, with its seconds; erased when it ends.

    Args:
        what: the work: "reading 4,321 tokens".
    """

    def __init__(self, what: str) -> None:
        self._what, self._ended, self._thread = what, Event(), Thread(target=self._run, daemon=True)
        if sys.stderr.isatty() and not (_stderr.quiet or _stderr.as_json):
            self._thread.start()

    def end(self) -> None:
        """Erase the line; a second call does nothing."""
        self._ended.set()
        if self._thread.is_alive():
            self._thread.join()

    def __enter__(self) -> Waiting:
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    def _run(self) -> None:
        start, shown = time.monotonic(), False
        while not self._ended.wait(WAIT_SECONDS):
            shown = True
            self._write(f"\r{self._what}, {time.monotonic() - start:.0f} s")
        if shown:
            self._write("\r\x1b[K")  # erases to the end of the line

    def _write(self, text: str) -> None:
        with suppress(OSError, ValueError):  # the terminal is gone
            sys.stderr.write(text)
            sys.stderr.flush()


def announced(pieces: Callable[[], Iterator[T]], what: str) -> Iterator[T]:
    """Yield the pieces of an answer; until the first one, a line on the terminal says what is being done.

    Args:
        pieces: makes the pieces; called within the wait.
        what: the work before the first piece.
    """
    with Waiting(what) as waiting:
        for piece in pieces():
            waiting.end()
            yield piece
