"""Prediction files: what is written is read, a torn end costs one line, everything else that is wrong has a line."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
from run_fakes import header

from ixc.errors import DataError
from ixc.evals import predictions
from ixc.evals.predictions import Prediction, append, merge, path_of, read, start_or_resume


def line(**changes: Any) -> dict[str, Any]:
    return {"index": 1, "prediction": "a", **changes}


def written(path: Path, first: object, *lines: object) -> Path:
    path.write_text("\n".join(json.dumps(each) for each in (first, *lines)) + "\n")
    return path


def test_read_returns_what_append_wrote(tmp_path: Path) -> None:
    path = path_of(tmp_path / "new", "mmstar")
    said = [Prediction(index=7, prediction="B", output=" B\u2028.\n"), Prediction(index="x_1", prediction="")]
    start_or_resume(path, header())
    append(path, said)
    run = read(path)
    assert run.header == header()
    assert list(run.answered) == said
    assert run.predictions == {7: "B", "x_1": ""}
    assert start_or_resume(path, header()).answered == run.answered


@pytest.mark.parametrize("cut", range(1, 30))
def test_start_or_resume_cuts_a_torn_line_off(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "mmstar.jsonl"
    start_or_resume(path, header())
    append(path, [Prediction(index=1, prediction="a")])
    whole = path.read_bytes()
    append(path, [Prediction(index=2, prediction="größer als 图")])
    data = path.read_bytes()
    path.write_bytes(data[: min(len(whole) + cut, len(data) - 2)])
    assert read(path).predictions == {1: "a"}
    assert start_or_resume(path, header()).predictions == {1: "a"}
    assert path.read_bytes() == whole


def test_start_or_resume_keeps_a_last_line_without_newline(tmp_path: Path) -> None:
    path = tmp_path / "mmstar.jsonl"
    start_or_resume(path, header())
    append(path, [Prediction(index=1, prediction="a")])
    whole = path.read_bytes()
    path.write_bytes(whole[:-1])
    assert start_or_resume(path, header()).predictions == {1: "a"}
    assert path.read_bytes() == whole


@pytest.mark.parametrize("cut", [0, 1, 9, 40])
def test_start_or_resume_torn_header_begins_anew(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "mmstar.jsonl"
    start_or_resume(path, header())
    whole = path.read_bytes()
    path.write_bytes(whole[:cut] if cut != 1 else b'{"task"')
    assert start_or_resume(path, header()).answered == ()
    assert path.read_bytes() == whole


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"model": "other"}, "begun with model 'fake', this run has 'other'"),
        ({"style": "clean"}, "style"),
        ({"settings": {"dtype": "float16"}}, "dtype 'auto', this run has 'float16'"),
        ({"settings": {"dtype": "auto", "hd": 4}}, "hd None, this run has 4"),
        ({"data": "1" * 32}, "data"),
    ],
)
def test_start_or_resume_refuses_other_settings(tmp_path: Path, change: dict[str, Any], words: str) -> None:
    path = tmp_path / "mmstar.jsonl"
    start_or_resume(path, header())
    with pytest.raises(DataError, match=words):
        start_or_resume(path, header(**change))


def test_merge_keeps_the_order_of_the_questions(tmp_path: Path) -> None:
    parts = [path_of(tmp_path, "mmstar", rank=(i, 3)) for i in (1, 2, 3)]
    out = path_of(tmp_path, "mmstar")
    for number, path in enumerate(parts, 1):
        assert merge(parts, out, order=range(7)) is None
        start_or_resume(path, header(7, rank=(number, 3)))
        append(path, [Prediction(index=n, prediction=str(n)) for n in range(number - 1, 7, 3)])
    merged = merge(parts, out, order=range(7))
    assert merged is not None
    assert list(merged.predictions) == list(range(7))
    assert read(out) == merged
    assert read(out).header == header(7)


def test_merge_refuses_ranks_of_two_runs(tmp_path: Path) -> None:
    parts = [path_of(tmp_path, "mmstar", rank=(i, 2)) for i in (1, 2)]
    start_or_resume(parts[0], header(2, rank=(1, 2)))
    start_or_resume(parts[1], header(2, rank=(2, 2), model="other"))
    with pytest.raises(DataError, match="model"):
        merge(parts, path_of(tmp_path, "mmstar"), order=range(2))


def test_merge_does_not_overwrite_another_run(tmp_path: Path) -> None:
    out = path_of(tmp_path, "mmstar")
    start_or_resume(out, header(1, model="other"))
    parts = [path_of(tmp_path, "mmstar", rank=(i, 2)) for i in (1, 2)]
    for number, path in enumerate(parts, 1):
        start_or_resume(path, header(1, rank=(number, 2)))
    append(parts[0], [Prediction(index=1, prediction="a")])
    with pytest.raises(DataError, match="model"):
        merge(parts, out, order=[1])


FIRST = json.loads(json.dumps(asdict(header(2))))
BROKEN: list[tuple[bytes | list[Any], str]] = [
    (b"", "0 bytes and no line"),
    (b"\n \n", "no line"),
    (b"hello\n", "line 1 is no JSON"),
    (b"\x00\x01\n", "line 1 is no JSON"),
    (b"\xff\xfe{\x00\n", "line 1: byte 1 is no UTF-8"),
    (b"PK\x03\x04 a workbook\n", "line 1 is no JSON"),
    (b"index\tprediction\n1\ta\n", "line 1 is no JSON"),
    (b"[" * 100_000 + b"\n", "line 1 is no JSON"),
    ([[]], "line 1 is a list"),
    ([line()], "line 1 has no task, dataset"),
    ([{**FIRST, "task": 3}], "task is 3, a str needed"),
    ([{**FIRST, "questions": "many"}], "questions is 'many', a int needed"),
    ([{**FIRST, "questions": True}], "questions is True"),
    ([{**FIRST, "questions": 0}], "questions is 0, at least 1"),
    ([{**FIRST, "settings": []}], r"settings is \[\]"),
    ([{**FIRST, "rank": 3}], "rank is 3"),
    ([{**FIRST, "rank": [3, 2]}], r"rank is \[3, 2\]"),
    ([{**FIRST, "rank": [0, 2]}], r"rank is \[0, 2\]"),
    ([{**FIRST, "rank": ["1", "2"]}], "1 <= i <= n"),
    ([{**FIRST, "colour": 1}], "line 1 has colour"),
    ([FIRST, []], "line 2 is a list"),
    ([FIRST, "text"], "line 2 is a str"),
    ([FIRST, {"prediction": "a"}], "line 2: index is None"),
    ([FIRST, line(index=1.5)], "line 2: index is 1.5"),
    ([FIRST, line(index=True)], "index is True"),
    ([FIRST, line(index=[1])], "index is"),
    ([FIRST, {"index": 1}], "line 2: prediction is None"),
    ([FIRST, line(prediction=7)], "prediction is 7, text needed"),
    ([FIRST, line(prediction=["a"])], "prediction is"),
    ([FIRST, line(output=7)], "output is 7"),
    ([FIRST, line(), line()], "line 3: question 1 is answered twice"),
    ([FIRST, line(), line(prediction="b")], "answered twice"),
    ([FIRST, line(), line(index=2), line(index=3)], "3 predictions for 2 questions"),
    ([FIRST, FIRST], "line 2: index is None"),
    (json.dumps(FIRST).encode() + b'\n{"index": 1, "pred\n{"index": 2, "prediction": "a"}\n', "line 2 is no JSON"),
    (json.dumps(FIRST).encode() + b'\n{"index": 1, "prediction": "\xff"}\n', "line 2: byte 29 is no UTF-8"),
]


@pytest.mark.parametrize(("content", "words"), BROKEN)
def test_read_broken_files_name_the_line(tmp_path: Path, content: bytes | list[Any], words: str) -> None:
    path = tmp_path / "mmstar.jsonl"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        written(path, *content)
    with pytest.raises(DataError, match=words) as error:
        read(path)
    assert str(error.value).startswith(str(path))
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 300 + len(str(path))


def test_read_missing_files(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no file"):
        read(tmp_path / "none.jsonl")
    with pytest.raises(DataError, match="is a folder"):
        read(tmp_path)


def test_read_skips_blank_lines_and_byte_order_mark(tmp_path: Path) -> None:
    path = written(tmp_path / "mmstar.jsonl", FIRST, line())
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes() + b"\n\n")
    assert read(path).predictions == {1: "a"}


def test_read_header_without_rank_is_of_one_process(tmp_path: Path) -> None:
    first = {key: value for key, value in FIRST.items() if key != "rank"}
    assert read(written(tmp_path / "a.jsonl", first)).header == replace(header(2), rank=(1, 1))
    assert predictions.score_path(tmp_path / "a.jsonl") == tmp_path / "a.score.json"


def test_read_renames_settings_of_older_versions(tmp_path: Path) -> None:
    path = tmp_path / "mmstar.jsonl"
    start_or_resume(path, header(settings={"endpoint": True, "plain": False}))
    now = header(settings={"endpoint": True, "openai_only": False})
    assert read(path).header == now
    assert start_or_resume(path, now).header == now
