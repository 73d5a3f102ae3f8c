"""Terminal input and output of the commands: lines, streamed text, errors as one line and an exit code.

Besides the command modules and `progress.py` the only file that reads standard input or writes to standard output and
error. The exit codes, one rule for every command:

    0     done
    1     the command was right and what it met was not: a damaged file, a full disk, too little memory, a server that
          refuses, a package that is not installed, a question without an answer; it may work when that is mended
    2     the command must be changed: an unknown option, name or value, a number out of range, a file or folder that
          is named and does not exist (or, as a target, does), options that exclude each other or have no effect
    3     `ixc read`: the result is written, and some of its pages failed; they stand in it with their errors
    130   interrupted by Ctrl-C (128 + SIGINT)
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

import typer

from ixc.cli import progress
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
    """Return the path of an existing image file; checked before seconds are spent on loading a model.

    Raises:
        UsageError: it does not exist, or it is a folder.
    """
    path = existing_path(name)
    if path.is_dir():
        raise UsageError(f"{name} is a folder; give an image file: {name.rstrip('/')}/page.png")
    return path


def existing_path(name: str | Path) -> Path:
    """Return the path of an existing file or folder that the command names. Raises: UsageError: there is none."""
    if not os.path.exists(name):
        raise UsageError(f"no file {name}; check the path")
    return Path(name)


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


def write_pieces(pieces: Iterable[str]) -> str:
    """Print pieces of text as they arrive; return the whole text."""
    text = ""
    for piece in pieces:
        sys.stdout.write(piece)
        sys.stdout.flush()
        text += piece
    print()
    return text


def report(error: object, *, code: int | None = None) -> None:
    """Print an error as one line on stderr.

    Args:
        error: its text is the line.
        code: exit code that follows, for a line of JSON.
    """
    line = " ".join(str(error).split())
    if progress.is_json():
        progress.event("error", message=line, exit_code=code)
    else:
        print(f"error: {line}", file=sys.stderr)


def _leave_quietly() -> NoReturn:
    """Exit without output after the pipe's reader has closed it; flushing at exit would fail again."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    raise SystemExit(1)


@contextmanager
def errors_to_exit_codes() -> Iterator[None]:
    """Turn every failure of a command into one line on stderr and a SystemExit with its exit code."""
    progress.reset()
    try:
        yield
    except IxcError as error:
        report(error, code=error.exit_code)
        raise SystemExit(error.exit_code) from None
    except _CommandLineError as error:
        if words := error.format_message().rstrip("."):  # type: ignore[attr-defined]
            where = getattr(error, "ctx", None)
            report(f"{words}; see {where.command_path if where else 'ixc'} --help", code=UsageError.exit_code)
        raise SystemExit(UsageError.exit_code) from None
    except (KeyboardInterrupt, typer.Abort):
        raise SystemExit(INTERRUPTED) from None
    except BrokenPipeError:
        _leave_quietly()
    except (OSError, UnicodeError) as error:  # full disk, folder not writable, terminal encoding
        report(error, code=IxcError.exit_code)
        raise SystemExit(IxcError.exit_code) from None
