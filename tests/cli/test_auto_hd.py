"""`--hd auto` in every command that takes it: as many tiles as keep the pixels of the image."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from commands import Run
from PIL import Image

import ixc


@pytest.fixture(scope="module")
def wide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A white image that needs two rows of three tiles."""
    path = tmp_path_factory.mktemp("wide") / "wide.png"
    Image.new("RGB", (900, 600), "white").save(path)
    return path


def test_ask_auto_hd_names_the_number_it_chose(run: Run, wide: Path) -> None:
    code, printed, _ = run("ask", wide, "What is the title?", "--hd", "auto", "--json")
    found = json.loads(printed)
    assert code == 0
    assert (found["hd"], found["grids"]) == (6, [[2, 3]])


def test_read_auto_hd_chooses_for_every_page(run: Run, wide: Path, tmp_path: Path) -> None:
    small = tmp_path / "small.png"
    Image.new("RGB", (300, 200), "white").save(small)
    code, printed, _ = run("read", wide, small, "--ask", "What is the title?", "--hd", "auto", "--json")
    assert code == 0
    assert [page["answers"][0]["hd"] for page in json.loads(printed)["pages"]] == [6, 1]


def test_plan_auto_hd_prices_what_is_chosen(run: Run, wide: Path) -> None:
    code, printed, _ = run("plan", wide, "--hd", "auto", "--partition", "native", "--json")
    assert code == 0
    assert json.loads(printed)["hd"] == 6


def test_ask_auto_hd_in_python_alone_and_in_a_batch(wide: Path) -> None:
    model = ixc.load(device="cpu")
    assert model.ask([wide], "Title?", hd="auto").hd == 6
    queries = [ixc.Query([wide], "Title?", hd="auto"), ixc.Query([Image.new("RGB", (30, 20))], "Title?", hd="auto")]
    assert [each.hd for each in model.batch(queries)] == [6, 1]


@pytest.mark.parametrize("command", [("serve",), ("data", "check", "none.jsonl")])
def test_fixed_hd_refuses_auto(run: Run, command: tuple[str, ...]) -> None:
    code, _, error = run(*command, "--hd", "auto")
    assert code == 2
    assert error.splitlines() == ["error: '--hd' is auto, and here all images share one number; use 1 to 256"]


@pytest.mark.parametrize("wrong", ["Auto", "1.5", "0", "-2", "257", "nine"])
def test_ask_hd_refusals(run: Run, wide: Path, wrong: str) -> None:
    code, _, error = run("ask", wide, "Title?", "--hd", wrong)
    assert code == 2
    assert error.count("\n") == 1
    assert wrong in error
    assert "use" in error
