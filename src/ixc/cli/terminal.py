"""What a command needs of its terminal: lines in, pieces and progress out, errors as one line and an exit code.

Part of the command line: besides `cli` and `cli_eval` the only file that reads standard input or writes to standard
output and error.
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
    """The bytes of an image.

    Raises:
        UsageError: somebody is typing, or there is nothing.
    """
    if sys.stdin.isatty():
        raise UsageError('- reads an image from standard input: ixc ask - "What is the title?" < page.png')
    data = sys.stdin.buffer.read()
    if not data:
        raise UsageError("0 bytes on standard input, an image needed: ixc ask - QUESTION < page.png")
    return data


def existing(name: str) -> Path:
    """The path, seen before seconds are spent on loading a model."""
    path = Path(name)
    if os.path.isdir(path):
        raise UsageError(f"{name} is a folder; give an image file: {name.rstrip('/')}/page.png")
    if not os.path.exists(path):
        raise UsageError(f"no file {name}; check the path")
    return path


def lines() -> Iterator[str]:
    """Lines of standard input, with a prompt when somebody is typing.

    Raises:
        UsageError: bytes that are no text.
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
    """One line on stderr, beside an answer that comes all the same."""
    print(f"note: {' '.join(text.split())}", file=sys.stderr, flush=True)


def write_pieces(pieces: Iterable[str]) -> str:
    """Prints pieces as they come; returns the whole text."""
    text = ""
    for piece in pieces:
        sys.stdout.write(piece)
        sys.stdout.flush()
        text += piece
    print()
    return text


@contextmanager
def progress(what: str) -> Iterator[Callable[[int, int], None]]:
    """A progress bar on stderr, told (done, total); no bar where nobody is looking."""
    from rich.console import Console
    from rich.progress import Progress

    console = Console(stderr=True)
    with Progress(console=console, disable=not console.is_terminal, transient=True) as bar:
        task = bar.add_task(what, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


@contextmanager
def board() -> Iterator[Callable[[str, int, int], None]]:
    """A progress bar on stderr, told (what, done, total) with ever new words; no bar where nobody is looking."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    console = Console(stderr=True)
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal, transient=True) as bar:
        task = bar.add_task("", total=None)
        yield lambda what, done, total: bar.update(task, description=what, completed=done, total=total or None)


@contextmanager
def ticker(*, every: float = 10.0) -> Iterator[Callable[[str, int, int], None]]:
    """`board`; where nobody is looking, the words as lines on stderr.

    Args:
        every: least seconds between two such lines; the last one (done = total) always comes.
    """
    last = float("-inf")
    with board() as show:

        def tell(what: str, done: int, total: int) -> None:
            nonlocal last
            show(what, done, total)
            if not sys.stderr.isatty() and (done == total or time.monotonic() - last >= every):
                last = time.monotonic()
                print(what, file=sys.stderr, flush=True)

        yield tell


def watch(done: Generator[Any], *, total: int, what: str) -> Any:
    """Runs an iterator to its end behind a progress bar.

    Args:
        done: a generator of counts (1 .. total); it may yield a result last.

    Returns:
        What was yielded last.
    """
    last: Any = None
    with closing(done), progress(what) as show:
        for last in done:
            show(last if isinstance(last, int) else total, total)
    return last


def report(error: object) -> None:
    """One line on standard error."""
    print(f"error: {' '.join(str(error).split())}", file=sys.stderr)


def _leave_quietly() -> NoReturn:
    """The reader of our output has gone: nothing more can be said, at exit neither."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    raise SystemExit(1)


@contextmanager
def errors_to_exit_codes() -> Iterator[None]:
    """Every way a command can end badly, as SystemExit."""
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
