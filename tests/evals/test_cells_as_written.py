"""Options written None or NA, and pictures at their tags, from the data file to the score and to a server."""

from __future__ import annotations

import base64
import io
import json
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from commands import Run
from PIL import Image, ImageDraw
from run_fakes import said, server

pytest.importorskip("pandas")

from ixc.evals import table
from ixc.evals.metrics import choice, choice_lmms, mmmu
from ixc.evals.suite import missing_texts
from ixc.evals.task import TASKS

CASES = Path(__file__).parents[1] / "cases" / "benchmarks"
NONE, TAGS = CASES / "tsv_none", CASES / "tsv_mmmu"
RIGHT = {"How many cats": "A", "City": "B", "grade": "A"}
LETTERS = {1: "A", 2: "B", 3: "A", 4: "B"}


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)


def options_of(rows: list[table.Row]) -> list[list[Any]]:
    return [[row[letter] for letter in "ABCD"] for row in rows]


# -- cells ------------------------------------------------------------------------------------------------------------


def test_read_rows_as_text_keeps_none_and_na() -> None:
    file = NONE / "SEEDBench_IMG.tsv"
    found = table.read_rows(file, as_text=True)
    assert options_of(found)[0] == ["None", "One", "Two", "Three"]
    assert options_of(found)[2] == ["NA", "AA", "BB", "CC"]
    assert [row["index"] for row in found] == [1, 2, 3, 4]
    official = table.read_rows(file)
    assert options_of(official)[0] == [None, "One", "Two", "Three"]
    assert table.texts_read_as_missing(file, official) == {"A": ["None", "NA"]}


def test_read_rows_as_text_keeps_numbers_and_empty_cells(tmp_path: Path) -> None:
    image = base64.b64encode(b"\x89PNG\r\n\x1a\n" + b"0" * 60 + b"IEND").decode()
    lines = [
        "index\timage\tquestion\tA\tB\tC\tanswer",
        f"7\t{image}\tHow many?\t4\t5.0\t\tA",
        f"8\t{image}\tWhich?\tnull\tn/a\t3\tB",
    ]
    path = tmp_path / "t.tsv"
    path.write_text("\n".join(lines))
    assert [[row[letter] for letter in "ABC"] for row in table.read_rows(path, as_text=True)] == [
        ["4", "5.0", None],
        ["null", "n/a", "3"],
    ]
    official = table.read_rows(path)
    assert [[row[letter] for letter in "ABC"] for row in official] == [[4.0, 5.0, None], [None, None, 3.0]]
    assert table.texts_read_as_missing(path, official) == {"A": ["null"], "B": ["n/a"]}


def test_missing_texts_is_one_counted_line() -> None:
    task, file = TASKS["seedbench"], NONE / "SEEDBench_IMG.tsv"
    line = missing_texts(task, file, task.read(file), "published")
    assert line.startswith("seedbench: 2 cells of column A (written None, NA) are read as missing")
    assert "--prompts clean" in line
    assert missing_texts(task, file, task.read(file, style="clean"), "clean") == ""
    tags = TASKS["mmmu"]
    assert missing_texts(tags, TAGS / "MMMU_DEV_VAL.tsv", tags.read(TAGS), "published") == ""


def answer_right(body: dict[str, Any]) -> tuple[int, Any]:
    """The right letter, if the prompt has its option."""
    text = next(part["text"] for part in body["messages"][0]["content"] if part["type"] == "text")
    letter = "B" if "None of them" in text else next(right for words, right in RIGHT.items() if words in text)
    return said(letter if f"{letter}. " in text else "Z")


@pytest.mark.parametrize(("prompts", "score"), [("clean", "100.0"), ("published", "50.0")])
def test_run_with_options_written_none(run: Run, tmp_path: Path, prompts: str, score: str) -> None:
    out = tmp_path / "out"
    with server(answer_right) as (url, seen):
        command = ("eval", "seedbench", "--data", NONE, "--endpoint", url, "--prompts", prompts, "--out", out)
        code, printed, err = run(*command)
    assert code == 0
    assert f"| {score} |" in printed
    texts = [body["messages"][0]["content"][1]["text"] for body in seen]
    assert sum("A. None" in text or "A. NA" in text for text in texts) == (2 if prompts == "clean" else 0)
    warned = "seedbench: 2 cells of column A (written None, NA) are read as missing"
    assert (warned in err) == (prompts == "published")
    assert err.count("\n") == (prompts == "published")
    code, printed, again = run("eval", "score", out, "--data", NONE)
    assert (code, f"| {score} |" in printed, again) == (0, True, err)
    report = run("eval", "report", out, "--data", NONE)
    assert report[0] == 0
    assert ("None" in (out / "report.html").read_text()) or prompts == "published"


def test_score_of_clean_answers_keeps_an_answer_none(run: Run, tmp_path: Path) -> None:
    image = (TAGS / "MMMU_DEV_VAL.tsv").read_text().splitlines()[3].split("\t")[1]
    (tmp_path / "DocVQA_VAL.tsv").write_text(
        f"index\timage\tquestion\tanswer\n1\t{image}\tWhich?\tNone\n2\t{image}\tW?\t007\n"
    )
    reply = {"Which?": "None", "W?": "007"}
    with server(lambda body: said(reply[body["messages"][0]["content"][1]["text"].split("\n")[0]])) as (url, _):
        command = ("eval", "docvqa_val", "--data", tmp_path, "--endpoint", url, "--out", tmp_path / "out")
        code, printed, _ = run(*command, "--prompts", "clean")
        assert (code, "| 100.0 |" in printed) == (0, True)
        code, _, err = run(*command[:-1], tmp_path / "published")
        assert (code, err.count("\n")) == (1, 1)
        assert "index 1: the answer is missing; fill its cell (published prompts read None and NA as missing" in err


# -- pictures at their tags -------------------------------------------------------------------------------------------


def test_run_sends_pictures_at_their_tags(run: Run, tmp_path: Path) -> None:
    with server(lambda body: said("A")) as (url, seen):
        command = ("eval", "mmmu", "--data", TAGS, "--endpoint", url, "--prompts", "clean", "--out", tmp_path / "out")
        assert run(*command)[0] == 0
    rows = {row["question"].split("<image")[0]: row for row in table.read_rows(TAGS / "MMMU_DEV_VAL.tsv")}
    for body in seen:
        content = body["messages"][0]["content"]
        row = next(row for words, row in rows.items() if words.rstrip() in content[0].get("text", ""))
        pictures = [base64.b64decode(part["image_url"]["url"].partition(",")[2])
                    for part in content if part["type"] == "image_url"]  # fmt: skip
        order = {"validation_Art_1": [0, 1, 2], "validation_Art_2": [1, 0], "validation_Art_3": [0]}[row["index"]]
        assert pictures == [row["image"][place] for place in order]
        assert content[0]["type"] == "text"
        assert not any("<image" in part.get("text", "") for part in content)
        assert body["chat_template_kwargs"] == {"images_in_place": True}
    assert len(seen) == 3


# -- rules ------------------------------------------------------------------------------------------------------------

CHOICES = {"A": "one", "B": "two", "C": "three", "D": "four"}


@pytest.mark.parametrize(
    ("rule", "prediction", "wanted"),
    [  # values of lmms-eval 0.7.3: exact match with ignore_case and ignore_punctuation; strip, then one character
        ("lmms-ai2d", "(B)", "B"),
        ("lmms-ai2d", " b) ", "B"),
        ("lmms-ai2d", "B. two", "B"),
        ("lmms-ai2d", "**b**", "B"),
        ("lmms-ai2d", "B two", None),
        ("lmms-ai2d", "“B”", None),
        ("lmms-seed", "\n B", "B"),
        ("lmms-seed", "  apple", "A"),
        ("lmms-seed", "(B)", None),
        ("lmms-seed", " ", None),
    ],
)
def test_infer_lmms_as_the_harness(rule: str, prediction: str, wanted: str | None) -> None:
    assert choice_lmms.infer(prediction, CHOICES, rule=rule) == wanted


@pytest.mark.parametrize("said_", ["The answer\nis d", "the answer  is\n\n**d", "answer is D"])
def test_letter_after_answer_is(said_: str) -> None:
    assert choice.letter(said_, CHOICES) == "D"


@pytest.mark.parametrize(
    ("prediction", "answer", "now"),
    [("The answer is 12.5", "12.5", 1), ("so blue", "blue", 1), ("12", "['12', '13']", 0), ("red", "blue", 0),
     ("the answer is 12\nso ", "12", 1)],
)  # fmt: skip
def test_mmmu_hit_of_open_questions_as_lmms_eval(prediction: str, answer: str, now: int) -> None:
    item = choice.ChoiceItem(index=0, choices={}, answer=answer, prediction=prediction)
    assert mmmu.hit(item, rule="lmms") == now
    assert mmmu.hit(item, rule="lmms-75571cfe") == 0
    assert mmmu.hit(item, rule="official") == (1 if answer.startswith("[") else now)


# -- through `ixc serve` ----------------------------------------------------------------------------------------------


@contextmanager
def serving(folder: Path) -> Iterator[str]:
    """`ixc serve` in a process of its own: its address."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "ixc", "serve", "--engine", "light", "--model", str(folder), "--port", str(port)]
    process = subprocess.Popen([*command, "--device", "cpu"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    try:
        assert process.stdout is not None
        assert b"ready" in process.stdout.readline()
        yield f"http://127.0.0.1:{port}"
    finally:
        process.send_signal(signal.SIGTERM)
        process.communicate()
    assert process.returncode == 0


def turned_and_cut(folder: Path) -> Path:
    """DocVQA_VAL.tsv with six rows: the pictures carry orientation 6, the fourth is cut."""
    lines = ["index\timage\tquestion\tanswer"]
    for index in range(1, 7):
        image, out, block = Image.new("RGB", (400, 120), "white"), io.BytesIO(), Image.Exif()
        ImageDraw.Draw(image).text((20, 20), f"City: Lyon {index}", fill="black", font_size=40)
        block[0x0112] = 6
        image.save(out, "JPEG", exif=block)
        data = out.getvalue()[: len(out.getvalue()) // 2] if index == 4 else out.getvalue()
        lines.append(f"{index}\t{base64.b64encode(data).decode()}\tCity {index}?\tLyon")
    folder.mkdir()
    (folder / "DocVQA_VAL.tsv").write_text("\n".join([*lines, ""]))
    return folder


def lines_of(path: Path) -> dict[Any, dict[str, Any]]:
    return {line["index"]: line for line in map(json.loads, path.read_text().splitlines()[1:])}


def test_run_through_serve_equals_the_local_model(run: Run, tmp_path: Path, tiny_folder: Path) -> None:
    """Five of six rows answered and scored, published and clean, images in place; a re-run asks the failed one only."""
    pytest.importorskip("fastapi", reason="the extra serve is not installed")
    data = turned_and_cut(tmp_path / "data")
    with serving(tiny_folder) as url:
        for name, prompts, folder in (("docvqa_val", "published", data), ("docvqa_val", "clean", data),
                                      ("mmmu", "clean", TAGS), ("mmmu", "published", TAGS)):  # fmt: skip
            broken = folder == data
            found: list[dict[Any, dict[str, Any]]] = []
            for way in (("--endpoint", url), ("--model", tiny_folder, "--device", "cpu")):
                out = tmp_path / f"{name}-{prompts}-{way[0][2:]}"
                command = ("eval", name, "--data", folder, "--prompts", prompts, "--hd", 1, "--out", out, *way)
                code, printed, err = run(*command)
                assert code == int(broken), err
                assert printed.splitlines()[-1].endswith("| 5 of 6 |" if broken else "| 3 of 3 |")
                assert ("question 4" in err) == broken
                found.append(lines_of(out / f"{name}.jsonl"))
                assert run(*command)[:2] == (code, printed)
                assert lines_of(out / f"{name}.jsonl").keys() == found[-1].keys()
            served, local = found
            assert [each.get("prediction") for each in served.values()] == [
                each.get("prediction") for each in local.values()
            ]
            assert [index for index, line in served.items() if "error" in line] == ([4] if broken else [])
