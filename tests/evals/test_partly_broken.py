"""Benchmarks with a broken row: the others are answered and scored, the command says so, and the next run mends it."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from commands import Run
from PIL import Image, ImageDraw
from run_fakes import said, server

pytest.importorskip("pandas")


FAILS = 4
"""Index of the broken row among 1 .. 6."""


def jpeg(text: str) -> bytes:
    image = Image.new("RGB", (300, 200), "white")
    ImageDraw.Draw(image).text((20, 20), f"City: {text}", fill="black")
    file = io.BytesIO()
    image.save(file, "JPEG")
    return file.getvalue()


def table(folder: Path, *, broken: Callable[[bytes], bytes] = lambda data: data) -> Path:
    """Write DocVQA_VAL.tsv with six rows, the picture of `FAILS` passed through `broken`."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = ["index\timage\tquestion\tanswer"]
    for index in range(1, 7):
        data = jpeg(f"Lyon{index}")
        data = broken(data) if index == FAILS else data
        lines.append(f"{index}\t{base64.b64encode(data).decode()}\tCity {index}?\tLyon")
    (folder / "DocVQA_VAL.tsv").write_text("\n".join([*lines, ""]))
    return folder


def cut(data: bytes) -> bytes:
    return data[: len(data) // 2]


def predictions_of(folder: Path) -> dict[int, dict[str, Any]]:
    lines = [json.loads(line) for line in (folder / "docvqa_val.jsonl").read_text().splitlines()[1:]]
    return {line["index"]: line for line in lines}


@pytest.mark.parametrize("prompts", ["published", "clean"])
def test_run_answers_the_rows_beside_a_cut_picture(run: Run, tmp_path: Path, tiny_folder: Path, prompts: str) -> None:
    data, out = table(tmp_path / "data", broken=cut), tmp_path / "out"
    how = ("--prompts", prompts, "--hd", 1, "--model", tiny_folder, "--device", "cpu")
    command = ("eval", "docvqa_val", "--data", data, "--out", out, *how)
    code, printed, err = run(*command)
    assert code == 1
    assert printed.splitlines()[-1].endswith("| 5 of 6 |")
    assert f"docvqa_val: 1 question failed and is not scored: question {FAILS}: the picture (" in err
    assert "is broken or cut short" in err
    found = predictions_of(out)
    assert list(found) == [1, 2, 3, 4, 5, 6]
    assert [index for index, line in found.items() if "error" in line] == [FAILS]
    whole = tmp_path / "whole"
    run("eval", "docvqa_val", "--data", table(tmp_path / "sound"), "--out", whole, *how)
    del found[FAILS]
    assert found.items() <= predictions_of(whole).items()
    before = (out / "docvqa_val.jsonl").read_bytes()
    code, printed, _ = run("eval", "score", out, "--data", data, "--json")
    assert code == 0
    (score,) = json.loads(printed)
    assert (score["answered"], score["failed"]) == (5, 1)
    assert [each["index"] for each in score["failures"]] == [FAILS]
    assert run(*command)[0] == 1
    assert (out / "docvqa_val.jsonl").read_bytes() == before
    code, _, err = run("eval", "report", out, "--data", data)
    assert (code, err) == (0, "")
    assert "answers to 5 of 6 questions; 1 failed" in (out / "report.md").read_text()


def test_run_asks_a_server_again_only_for_what_failed(run: Run, tmp_path: Path) -> None:
    data, out = table(tmp_path / "data"), tmp_path / "out"
    sound = False

    def reply(body: dict[str, Any]) -> tuple[int, Any]:
        if f"City {FAILS}?" in str(body["messages"]) and not sound:
            return 422, {"error": {"message": "the engine failed"}}
        return said("Lyon")

    with server(reply) as (url, seen):
        command = ("eval", "docvqa_val", "--data", data, "--endpoint", url, "--prompts", "clean", "--out", out)
        code, printed, err = run(*command)
        assert code == 1
        assert "| 100.0 |" in printed
        assert printed.splitlines()[-1].endswith("| 5 of 6 |")
        assert f"question {FAILS}: {url}/v1/chat/completions refused, HTTP 422: the engine failed" in err
        assert len(seen) == 6
        sound = True
        code, printed, err = run(*command)
        assert (code, err) == (0, "")
        assert printed.splitlines()[-1].endswith("| 6 of 6 |")
        assert len(seen) == 7
        assert list(predictions_of(out)) == [1, 2, 3, 4, 5, 6]


def test_run_goes_on_with_the_next_benchmark_of_a_suite(run: Run, tmp_path: Path) -> None:
    data, out = (
        table(tmp_path / "data", broken=lambda data: b"no picture at all, but long enough to be no index"),
        tmp_path / "out",
    )
    (data / "InfoVQA_VAL.tsv").write_text((table(tmp_path / "sound") / "DocVQA_VAL.tsv").read_text())
    with server(lambda body: said("Lyon")) as (url, seen):
        code, printed, err = run(
            "eval", "docvqa_val", "infovqa_val", "--data", data, "--endpoint", url, "--out", out, "--json"
        )
    assert code == 1
    broken, whole = json.loads(printed)
    assert (broken["answered"], broken["failed"], whole["answered"], whole["failed"]) == (5, 1, 6, 0)
    assert f"DocVQA_VAL.tsv row {FAILS} (index {FAILS}): its 49 bytes begin with 6e6f2070, no image" in err
    assert len(seen) == 11


@pytest.mark.parametrize("ranks", [2])
def test_run_counts_failures_of_all_ranks(run: Run, tmp_path: Path, ranks: int) -> None:
    data, out = table(tmp_path / "data", broken=cut), tmp_path / "out"

    def reply(body: dict[str, Any]) -> tuple[int, Any]:
        return (400, "broken") if f"City {FAILS}?" in str(body["messages"]) else said("Lyon")

    with server(reply) as (url, _):
        codes = []
        for rank in (2, 1):
            common = ("eval", "docvqa_val", "--data", data, "--endpoint", url, "--out", out)
            code, printed, err = run(*common, "--rank", f"{rank}/2")
            codes.append(code)
            assert f"question {FAILS}: " in err
    assert codes == [1, 1]
    assert printed.splitlines()[-1].endswith("| 5 of 6 |")


def test_run_that_cannot_answer_anything_is_one_line(run: Run, tmp_path: Path) -> None:
    with server(lambda body: (400, "no beams here")) as (url, _):
        code, out, err = run(
            "eval", "docvqa_val", "--data", table(tmp_path / "data"), "--endpoint", url, "--out", tmp_path
        )
    assert (code, out) == (1, "")
    assert err.count("\n") == 1
    assert "question 1: " in err
    assert "needs --prompts clean" in err
