"""Training on data as people have it: a picture cut short, and records of another project's form."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest
from commands import Run

CASES = Path(__file__).parents[1] / "cases" / "training"
RECIPES = Path(__file__).parents[2] / "recipes"
RECIPE = """
from dataclasses import replace
from pathlib import Path
from ixc.train.config import read_train_config

def recipe():
    return replace(
        read_train_config(Path({nano!r})), name="short", global_batch_size=2, epochs=2, warmup_ratio=0.0,
        max_seq_length=1024, max_tokens_per_batch=1024,
    )
"""


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A copy of both cases."""
    return Path(shutil.copytree(CASES, tmp_path / "cases"))


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    path = tmp_path / "short.py"
    path.write_text(RECIPE.format(nano=str(RECIPES / "lora_nano.py")))
    return path


def test_check_of_the_case_with_a_cut_picture(run: Run, data: Path) -> None:
    code, out, _ = run("data", "check", data / "train_cut" / "talks.jsonl", "--decode", "--hd", 1)
    assert code == 1
    assert "line 2: image 1: " in out
    assert "cut.jpg is broken or cut short" in out
    assert "4 records, 3 usable" in out


def test_train_case_with_a_cut_picture_uses_three_of_four_and_resumes(run: Run, data: Path, recipe: Path) -> None:
    """The embedded model, one tile, four steps; stopped by the picture, gone on without it."""
    command = ("train", recipe, "--data", f"{data / 'train_cut' / 'talks.jsonl'}:1", "--save-every", 1)
    out = data.parent / "out"
    code, _, err = run(*command, "--out", out)
    assert (code, err.count("error: ")) == (1, 1)
    assert "cut.jpg is broken or cut short" in err
    assert "leave it out with --skip-invalid; the same command with --resume goes on" in err
    code, printed, err = run(*command, "--out", out, "--resume", "--skip-invalid")
    assert (code, printed) == (0, f"{out / 'adapter'}\n"), err
    assert re.search(r"talks.jsonl: 3 of 4 records used, 1 left out: line 2: image 1: .*cut\.jpg is broken", err)
    steps = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    assert {index for step in steps for _, index in step["samples"]} == {0, 2, 3}


def test_check_remedies_of_the_other_projects_form_work(run: Run, data: Path) -> None:
    """Each refusal's remedy, followed to the letter, leads to data that is sound."""
    folder = data / "train_swift"
    for name in ("talks.jsonl", "as_told.jsonl"):
        code, out, _ = run("data", "check", folder / name, "--hd", 1)
        assert code == 1
        assert 'write the content as parts: "content": [{"type": "image"}, "the text"]' in out
        record = json.loads((folder / name).read_text())
        for turn in record["messages"]:
            text = turn["content"].replace("<image>", "").replace("<ImageHere>", "")
            turn["content"] = [{"type": "image"}, text] if text != turn["content"] else text
        (folder / f"mended_{name}").write_text(json.dumps(record))
        code, out, _ = run("data", "check", folder / f"mended_{name}", "--hd", 1, "--decode")
        assert (code, "1 records, 1 usable" in out or "1 record, 1 usable" in out) == (0, True)
