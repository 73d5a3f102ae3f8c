"""Terminal input and output of the commands: lines, streamed text, progress bars, errors and exit codes.

Only the package `cli` reads standard input or writes to standard output and error.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, NoReturn

import typer

from ixc.errors import IxcError, UsageError

INTERRUPTED = 130
"""Exit code after Ctrl-C: 128 + SIGINT, as shells have it."""

# Typer has carried its own copy of click since 0.2x; the class of its usage errors is found through what it exports.
_CommandLineError: type[Exception] = typer.BadParameter.__mro__[2]


def read_standard_input() -> bytes:
    """Read an image from standard input.

    Raises:
        UsageError: standard input is a terminal, or empty.
    """
    if sys.stdin.isatty():
        raise UsageError('- reads an image from standard input: ixc ask - "What is the title?" < page.png')
    data = sys.stdin.buffer.read()
    if not data:
        raise UsageError("0 bytes on standard input, an image needed: ixc ask - QUESTION < page.png")
    return data


def existing(name: str) -> Path:
    """Check that a file exists; called before a model is loaded, which takes seconds."""
    path = Path(name)
    if os.path.isdir(path):
        raise UsageError(f"{name} is a folder; give an image file: {name.rstrip('/')}/page.png")
    if not os.path.exists(path):
        raise UsageError(f"no file {name}; check the path")
    return path


def lines() -> Iterator[str]:
    """Yield lines of standard input, with a prompt on a terminal.

    Raises:
        UsageError: bytes that are not text.
    """
    while True:
        try:
            if sys.stdin.isatty():
                line = input("> ")
            elif not (line := sys.stdin.readline()):
                return
        except EOFError:
            print()
            return
        except UnicodeDecodeError as error:
            raise UsageError(
                f"standard input is no {error.encoding} (byte {error.object[error.start]:#x}); save the text in UTF-8"
            ) from None
        yield line.rstrip("\n")


def note(text: str) -> None:
    """Print a note of one line on stderr."""
    print(f"note: {' '.join(text.split())}", file=sys.stderr, flush=True)


def write_pieces(pieces: Iterable[str]) -> str:
    """Print pieces of text as they arrive; return the whole text."""
    text = ""
    for piece in pieces:
        sys.stdout.write(piece)
        sys.stdout.flush()
        text += piece
    print()
    return text


@contextmanager
def progress(what: str) -> Iterator[Callable[[int, int], None]]:
    """Show a progress bar on stderr, updated with (done, total); no bar unless stderr is a terminal."""
    from rich.console import Console
    from rich.progress import Progress

    console = Console(stderr=True)
    with Progress(console=console, disable=not console.is_terminal, transient=True) as bar:
        task = bar.add_task(what, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


@contextmanager
def board() -> Iterator[Callable[[str, int, int], None]]:
    """Show a progress bar on stderr, updated with (text, done, total); no bar unless stderr is a terminal."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    console = Console(stderr=True)
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal, transient=True) as bar:
        task = bar.add_task("", total=None)
        yield lambda what, done, total: bar.update(task, description=what, completed=done, total=total or None)


@contextmanager
def ticker(*, every: float = 10.0) -> Iterator[Callable[[str, int, int], None]]:
    """Show a `board`; where stderr is no terminal, print the texts as lines instead.

    Args:
        every: shortest time between two such lines, seconds; the last one (done = total) is always printed.
    """
    last = float("-inf")
    with board() as show:

        def update(what: str, done: int, total: int) -> None:
            nonlocal last
            show(what, done, total)
            if not sys.stderr.isatty() and (done == total or time.monotonic() - last >= every):
                last = time.monotonic()
                print(what, file=sys.stderr, flush=True)

        yield update


def watch(done: Generator[Any], *, total: int, what: str) -> Any:
    """Run a generator to its end with a progress bar.

    Args:
        done: yields counts (1 .. total); it may yield a result last.
        total: last count.
        what: text beside the bar.

    Returns:
        The last value.
    """
    last: Any = None
    with closing(done), progress(what) as show:
        for last in done:
            show(last if isinstance(last, int) else total, total)
    return last


def report(error: object) -> None:
    """Print an error as one line on stderr."""
    print(f"error: {' '.join(str(error).split())}", file=sys.stderr)


def _leave_quietly() -> NoReturn:
    """Exit after the reader of a pipe has closed it; Python's flush at exit must not fail a second time."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    raise SystemExit(1)


@contextmanager
def errors_to_exit_codes() -> Iterator[None]:
    """Turn every exception that may end a command into SystemExit, with one line on stderr."""
    try:
        yield
    except IxcError as error:
        report(error)
        raise SystemExit(error.exit_code) from None
    except _CommandLineError as error:
        if words := error.format_message().rstrip("."):  # type: ignore[attr-defined]
            where = getattr(error, "ctx", None)
            report(f"{words}; see {where.command_path if where else 'ixc'} --help")
        raise SystemExit(UsageError.exit_code) from None
    except (KeyboardInterrupt, typer.Abort):
        raise SystemExit(INTERRUPTED) from None
    except BrokenPipeError:
        _leave_quietly()
    except (OSError, UnicodeError) as error:  # a full disk, a folder that may not be written, a terminal of few letters
        report(error)
        raise SystemExit(IxcError.exit_code) from None
