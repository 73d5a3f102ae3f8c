"""Training on data of which a picture fails at decoding, behind an intact header."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from commands import Run
from PIL import Image
from safetensors.torch import load_file

from ixc.data.mixture import Mixture, Source, StreamPosition
from ixc.data.records import JsonLines
from ixc.train.adapter_files import find_adapter

RECIPES = Path(__file__).parents[2] / "recipes"
RECIPE = """
from dataclasses import replace
from pathlib import Path
from ixc.model.loading import read_config
from ixc.train.config import Resolution, read_train_config

def recipe():
    return replace(
        read_train_config(Path({nano!r})), name="short", model=read_config(Path({base!r})), global_batch_size=2,
        epochs=2, warmup_ratio=0.0, max_seq_length=1024, max_tokens_per_batch=1024,
        resolutions=(Resolution(hd=1, dynamic=False),),
    )
"""


@pytest.fixture
def talks(tmp_path: Path) -> Path:
    """Four conversations; the picture of the second is cut short."""
    lines = []
    for i in range(4):
        path = tmp_path / f"{i}.jpg"
        Image.effect_noise((200 + 40 * i, 300), 60).convert("RGB").save(path)
        if i == 1:
            path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        turns = [{"from": "user", "value": "<ImageHere>Which?"}, {"from": "assistant", "value": f"Number {i}."}]
        lines.append(json.dumps({"image": [path.name], "conversations": turns}))
    (tmp_path / "talks.jsonl").write_text("\n".join(lines))
    return tmp_path / "talks.jsonl"


@pytest.fixture
def command(talks: Path, tiny_folder: Path) -> list[object]:
    recipe = talks.with_name("short.py")
    recipe.write_text(RECIPE.format(nano=str(RECIPES / "lora_nano.py"), base=str(tiny_folder)))
    return ["train", recipe, "--data", talks, "--model", tiny_folder, "--save-every", 1]


def test_check_decode_reports_a_cut_picture_by_line(run: Run, talks: Path) -> None:
    code, out, _ = run("data", "check", talks)
    assert (code, "4 usable" in out) == (0, True)
    code, out, _ = run("data", "check", talks, "--decode")
    assert code == 1
    assert out.startswith(f"{talks} line 2: image 1: {talks.with_name('1.jpg')} is broken or cut short")
    assert "4 records, 3 usable" in out


def test_train_skip_invalid_leaves_out_a_cut_picture_and_resumes(
    run: Run, command: list[object], tmp_path: Path
) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    code, out, err = run(*command, "--skip-invalid", "--out", whole)
    assert (code, out) == (0, f"{whole / 'adapter'}\n"), err
    said = err.splitlines()[-1]
    assert f"talks.jsonl: 3 of 4 records used, 1 left out: line 2: image 1: {tmp_path / '1.jpg'} is broken" in said
    steps = [json.loads(line) for line in (whole / "log.jsonl").read_text().splitlines()]
    assert [step["step"] for step in steps] == [1, 2, 3, 4]
    assert all(len(step["samples"]) == 2 for step in steps)
    assert {index for step in steps for _, index in step["samples"]} == {0, 2, 3}

    code, _, err = run(*command, "--out", parts)
    assert code == 1
    assert "talks.jsonl line 2: image 1: " in err
    assert "leave it out with --skip-invalid; the same command with --resume goes on" in err
    code, _, err = run(*command, "--out", parts, "--resume", "--skip-invalid")
    assert code == 0, err
    assert "3 of 4 records used, 1 left out: line 2" in err
    first, second = (load_file(find_adapter(k) / "adapter_model.safetensors") for k in (whole, parts))
    assert all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize(("step", "drawn"), [(0, 0), (1, 1), (3, 3), (4, 4), (9, 4)])
def test_num_drawn_counts_different_records(talks: Path, step: int, drawn: int) -> None:
    mixture = Mixture([Source(name="talks", records=JsonLines(talks), hd=1)])
    assert mixture.num_drawn(mixture.advance(StreamPosition(), step)) == {"talks": drawn}
