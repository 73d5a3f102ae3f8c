"""`import ixc`: the public names, how light they are, and explicit registration."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import ixc
from ixc.inference.engine import Engine
from ixc.utils.counted import counted


def child(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout


def test_ixc_public_names_are_there() -> None:
    assert ixc.__all__ == sorted(ixc.__all__)
    for name in ixc.__all__:
        assert getattr(ixc, name).__module__.startswith("ixc.")
    assert ixc.Model is Engine
    assert {"Answer", "Model", "Query", "Sampling", "load", "register"} <= set(ixc.__all__)


def test_ixc_settings_of_a_question_import_no_torch() -> None:
    code = (
        "import sys, ixc\n"
        "ixc.Query(['a.png'], 'What?', hd=9, sampling=ixc.Sampling(do_sample=True, temperature=0.5), stop=['x'])\n"
        "ixc.Answer\n"
        "print(sorted({'torch', 'transformers', 'numpy'} & set(sys.modules)))"
    )
    assert child(code) == "[]\n"


REGISTERED = """
import sys, ixc
sys.meta_path[:] = [each for each in sys.meta_path if not type(each).__module__.startswith("ixc")]
from transformers import AutoConfig, AutoModelForImageTextToText, AutoProcessor
folder = {folder!r}
try:
    AutoConfig.from_pretrained(folder)
    print("registered already")
except ValueError:
    print("unknown")
ixc.register()
ixc.register()
model = AutoModelForImageTextToText.from_pretrained(folder)
print(type(model).__module__, type(AutoProcessor.from_pretrained(folder)).__module__)
"""


def test_register_where_the_hook_is_gone(tiny_folder: Path) -> None:
    lines = child(REGISTERED.format(folder=str(tiny_folder))).splitlines()
    assert lines == ["unknown", "ixc.model.modeling ixc.processing.processing"]


@pytest.mark.parametrize(("number", "words"), [(0, "0 records"), (1, "1 record"), (2000, "2,000 records")])
def test_counted(number: int, words: str) -> None:
    assert counted(number, "record") == words
    assert counted(1, "entry", "entries") == "1 entry"
    assert counted(2, "entry", "entries") == "2 entries"


COMPLETED = {
    "ixc a": ["ask"],
    "ixc data ": ["check", "pages", "typeset", "questions"],
    "ixc ask page.png x --partition ": ["original", "native", "fit"],
    "ixc ask page.png x --device c": ["cpu", "cuda"],
    "ixc serve --plora m": ["merged"],
}
"""Typed words -> what is offered."""


@pytest.mark.parametrize("typed", COMPLETED)
def test_main_completes_commands_and_values(typed: str) -> None:
    """As bash asks a command for completions."""
    place = str(len(typed.split(" ")) - 1)
    asked = {"_IXC_COMPLETE": "complete_bash", "COMP_WORDS": typed, "COMP_CWORD": place}
    command = [sys.executable, "-m", "ixc"]
    done = subprocess.run(command, env=os.environ | asked, capture_output=True, text=True, check=False)
    assert done.stdout.split() == COMPLETED[typed], done.stderr


def test_main_head_lists_every_command() -> None:
    from typer.main import get_command

    from ixc.cli import main

    def names(command: object, words: tuple[str, ...]) -> list[str]:
        commands = getattr(command, "commands", None)
        if commands is None:
            return [" ".join(words)]
        return [name for word, each in commands.items() for name in names(each, (*words, word))]

    head = main.__doc__ or ""
    assert [name for name in names(get_command(main.app), ()) if name not in head] == []
