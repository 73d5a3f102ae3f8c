"""Terminal input and output of the commands: lines, streamed text, progress bars, errors as one line and an exit code.

Besides the command modules the only file that reads standard input or writes to standard output and error.
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
"""Exit code after Ctrl-C: 128 + SIGINT, as shells report it."""

# Typer has vendored click since 0.2x; its class of usage errors is reachable only through what it exports.
_CommandLineError: type[Exception] = typer.BadParameter.__mro__[2]


def read_standard_input() -> bytes:
    """Return the bytes of an image on standard input.

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
    """Return the path of an existing file; checked before seconds are spent on loading a model.

    Raises:
        UsageError: it does not exist, or it is a folder.
    """
    path = Path(name)
    if os.path.isdir(path):
        raise UsageError(f"{name} is a folder; give an image file: {name.rstrip('/')}/page.png")
    if not os.path.exists(path):
        raise UsageError(f"no file {name}; check the path")
    return path


def lines() -> Iterator[str]:
    """Yield the lines of standard input, with a prompt if it is a terminal.

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
    """Print one line on stderr that does not stop the command."""
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
    """Show a progress bar on stderr, updated by calls of (done, total); none if stderr is not a terminal."""
    from rich.console import Console
    from rich.progress import Progress

    console = Console(stderr=True)
    with Progress(console=console, disable=not console.is_terminal, transient=True) as bar:
        task = bar.add_task(what, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


@contextmanager
def described_progress() -> Iterator[Callable[[str, int, int], None]]:
    """Show a progress bar on stderr, updated by calls of (text, done, total); none if stderr is not a terminal."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    console = Console(stderr=True)
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal, transient=True) as bar:
        task = bar.add_task("", total=None)
        yield lambda what, done, total: bar.update(task, description=what, completed=done, total=total or None)


board = described_progress  # the name that `cli.eval` imports


@contextmanager
def ticker(*, every: float = 10.0) -> Iterator[Callable[[str, int, int], None]]:
    """`described_progress`; if stderr is not a terminal, print the text as lines on it instead.

    Args:
        every: least seconds between two such lines; the last one (done = total) is always printed.
    """
    last = float("-inf")
    with described_progress() as show:

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
        done: yields counts (1 .. total), and a result last if it has one.
        total: last count.
        what: text before the bar.

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
    """Exit without output after the pipe's reader has closed it; flushing at exit would fail again."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    raise SystemExit(1)


@contextmanager
def errors_to_exit_codes() -> Iterator[None]:
    """Turn every failure of a command into one line on stderr and a SystemExit with its exit code."""
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
    except (OSError, UnicodeError) as error:  # full disk, folder not writable, terminal encoding
        report(error)
        raise SystemExit(IxcError.exit_code) from None
