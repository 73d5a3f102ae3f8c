"""Options classes as commands, and old spellings of options."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import pytest
import typer
from typer.testing import CliRunner

from ixc.cli.options import renamed, takes


@dataclass(frozen=True, kw_only=True)
class Options:
    names: Annotated[list[str], typer.Argument(metavar="NAME...")]
    last: Annotated[str, typer.Argument(metavar="LAST")]
    count: Annotated[int, typer.Option("-n", "--count", help="How many.")] = 3
    force: Annotated[bool, typer.Option("--force", help="Once more.")] = False


def command() -> typer.Typer:
    app = typer.Typer(add_completion=False)

    @app.command(cls=renamed({"--again": "--force", "--number": "--count"}))
    @takes(Options)
    def show(options: Options) -> None:
        """Show the options."""
        print(options)

    return app


@pytest.mark.parametrize(
    ("arguments", "wanted"),
    [
        (["a", "b", "c"], Options(names=["a", "b"], last="c")),
        (["a", "c", "-n", "5", "--force"], Options(names=["a"], last="c", count=5, force=True)),
    ],
)
def test_takes_builds_the_options(arguments: list[str], wanted: Options) -> None:
    done = CliRunner().invoke(command(), arguments)
    assert (done.exit_code, done.stdout) == (0, f"{wanted}\n")


def test_takes_keeps_help_and_required_arguments() -> None:
    done = CliRunner().invoke(command(), ["--help"], env={"COLUMNS": "120"})
    assert "Show the options." in done.stdout
    assert "How many." in done.stdout
    assert CliRunner().invoke(command(), ["a"]).exit_code == 2


def test_renamed_accepts_old_spellings_with_a_note() -> None:
    done = CliRunner().invoke(command(), ["a", "c", "--again", "--number=7"])
    assert done.exit_code == 0
    assert done.stdout == f"{Options(names=['a'], last='c', count=7, force=True)}\n"
    notes = done.stderr.splitlines()
    assert [note.split(";")[0] for note in notes] == [
        "note: --again is now --force",
        "note: --number is now --count",
    ]
