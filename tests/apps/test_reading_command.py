"""`ixc read --out FOLDER` from end to end: rows, table, report, failures, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image, ImageDraw
from typer.testing import CliRunner

from ixc.apps.reading import result_files
from ixc.apps.reading.records import Row
from ixc.cli.main import app
from ixc.errors import PartialError, UsageError
from ixc.inference.engine import Engine, load

ASK = ("--ask", "Title?", "--ask", "Date?", "--hd", "4", "--max-new-tokens", "5", "--model")


@pytest.fixture(scope="module")
def engine(tiny_folder: Path) -> Engine:
    return load(tiny_folder, device="cpu")


@pytest.fixture
def run(engine: Engine, tiny_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr("ixc.cli.read_many.load_engine", lambda *_, **__: engine)

    def invoke(*arguments: Any) -> Any:
        return CliRunner().invoke(app, ["read", *map(str, arguments), *ASK, str(tiny_folder)])

    return invoke


def pictures(folder: Path, count: int) -> Path:
    folder.mkdir()
    for number in range(count):
        image = Image.new("RGB", (300 + 100 * number, 200), "white")
        ImageDraw.Draw(image).text((20, 20), f"Page {number}", fill="black", font_size=30)
        image.save(folder / f"{number}.png")
    return folder


def rows(out: Path, form: str = "jsonl") -> list[Row]:
    return [row for path in sorted((out / "rows").iterdir()) for row in result_files.decode(path.read_bytes(), form)]


def test_read_many_rows_are_the_engines_answers(tmp_path: Path, engine: Engine, run: Any) -> None:
    source, out = pictures(tmp_path / "in", 3), tmp_path / "out"
    result = run(source, "--out", out, "--format", "jsonl", "--block", 2)
    assert result.exception is None, result.stderr
    found = rows(out)
    expected = [
        engine.ask([source / f"{number}.png"], text, hd=4, max_new_tokens=5).text
        for number in range(3)
        for text in ("Title?", "Date?")
    ]
    assert [row.answer for row in found] == expected
    assert len({row.model for row in found}) == 1
    assert all(row.tokens and row.hd == 4 and row.confidence is None for row in found)
    assert "3 pages, " in result.stderr
    assert (out / "answers.csv").read_text(encoding="utf-8").startswith("file,page,Title?,Date?\n")
    assert "<section>" in (out / "report.html").read_text(encoding="utf-8")
    assert json.loads((out / "manifest.json").read_text(encoding="utf-8"))["complete"]


def test_read_many_failed_pages_are_rows_and_are_retried(tmp_path: Path, run: Any) -> None:
    source, out = pictures(tmp_path / "in", 3), tmp_path / "out"
    good = (source / "1.png").read_bytes()
    (source / "1.png").write_bytes(good[:20])
    result = run(source, "--out", out, "--format", "jsonl")
    assert isinstance(result.exception, PartialError)
    assert result.exception.exit_code == 3
    assert str(result.exception).startswith("4 of 6 rows have an answer, 2 failed (--retry-failed asks them again); ")
    (source / "1.png").write_bytes(good)
    assert isinstance(run(source, "--out", out, "--format", "jsonl").exception, PartialError)  # rows as they are
    assert run(source, "--out", out, "--format", "jsonl", "--retry-failed").exception is None
    assert [row.error for row in rows(out)] == [None] * 6


def test_read_many_refuses_another_setting(tmp_path: Path, run: Any) -> None:
    source, out = pictures(tmp_path / "in", 1), tmp_path / "out"
    assert run(source, "--out", out, "--format", "jsonl").exception is None
    result = run(source, "--out", out, "--format", "jsonl", "--dpi", 100)
    assert isinstance(result.exception, UsageError)
    assert "was begun with another dpi (200, now 100)" in str(result.exception)


def test_dry_run_counts_and_loads_nothing(tmp_path: Path, run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ixc.cli.read_many.load_engine", None)
    source = pictures(tmp_path / "in", 3)
    (source / "x.png").write_bytes(b"no picture")
    result = run(source, "--dry-run", "--json")
    assert result.exception is None, result.stderr
    found = json.loads(result.stdout)
    assert (found["files"], found["pages"], found["unreadable"], found["rows"]) == (4, 4, 1, 8)
    assert found["prompt_tokens"] > 2 * found["image_tokens"] > 0
    assert found["flops"] > 0
    assert "4 of 4 files, 1 cannot be opened" in run(source, "--dry-run").stdout
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--retry-failed"], "is for a folder of answers"),
        (["--endpoint", "http://x:1/v1"], "is for a folder of answers"),
        (["--format", "jsonl"], "needs a folder; add --out FOLDER"),
        (["--concurrency", "2"], "has no effect without --endpoint"),
        (["--out", "a", "--format", "jsonl", "--json"], "exclude each other"),
        (["--questions", "nothing.csv"], "--questions nothing.csv cannot be read"),
        (["nothing/*.png"], "no file matches nothing/"),
    ],
)
def test_read_many_wrong_options(tmp_path: Path, run: Any, arguments: list[str], words: str) -> None:
    result = run(pictures(tmp_path / "in", 1), *arguments)
    assert isinstance(result.exception, UsageError), result.stderr
    assert words in str(result.exception)
