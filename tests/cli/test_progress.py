"""What the commands write on stderr: nothing, lines, JSON lines, and a line while a question is read."""

from __future__ import annotations

import json
import logging
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from commands import Run

from ixc.cli import progress
from ixc.cli.progress import EVENTS, Waiting, announced, configure_logging, described_progress, note, ticker
from ixc.inference.engine import Engine, load


@pytest.fixture(autouse=True)
def _fresh() -> Iterator[None]:
    progress.reset()
    yield
    progress.reset()


@pytest.fixture(scope="module")
def engine(tiny_folder: Path) -> Engine:
    return load(tiny_folder, device="cpu")


def make_terminal(monkeypatch: pytest.MonkeyPatch, *, seconds: float = 0.02) -> None:
    """Make stderr a terminal, and waits longer than some seconds worth a line; within a test, which has a stderr."""
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setattr(progress, "WAIT_SECONDS", seconds)


def lines_of(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def test_read_quiet_and_log_json(
    run: Run, page: Path, engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ixc.cli.read.load_engine", lambda *_, **__: engine)
    broken = tmp_path / "broken.png"
    broken.write_bytes(page.read_bytes()[:200])
    given = ["read", page, broken, "--ask", "a", "--max-new-tokens", 2]
    code, out, err = run(*given)
    assert code == 3
    assert "2 pages, " in err
    quiet_code, quiet_out, quiet_err = run(*given, "--quiet")
    assert (quiet_code, quiet_out) == (code, out)
    assert quiet_err.startswith("error: 1 of 2 pages were read")
    assert quiet_err.count("\n") == 1
    json_code, json_out, json_err = run(*given, "--log-json")
    assert (json_code, json_out) == (code, out)
    found = lines_of(json_err)
    assert {line["event"] for line in found} == {"progress", "error"}
    assert found[-1]["exit_code"] == 3
    assert found[-2]["done"] == found[-2]["total"] == 2
    assert "another command" not in json_err
    assert run(*given)[2] != json_err  # options of one command do not stay for the next


@pytest.mark.parametrize("command", ["synth OUT -n 1", "quantize EMPTY OUT", "data check NONE", "eval pages NONE"])
def test_log_json_errors_and_progress(run: Run, tmp_path: Path, command: str) -> None:
    (tmp_path / "empty").mkdir()
    words = [str(tmp_path / word.lower()) if word.isupper() else word for word in command.split()]
    code, _, err = run(*words, "--log-json")
    found = lines_of(err)
    assert found
    assert {line["event"] for line in found} <= set(EVENTS)
    assert (found[-1]["event"] == "error") == (code != 0)


def test_log_json_of_a_wrong_option_is_json(run: Run) -> None:
    code, _, err = run("synth", "out", "-n", "x", "--log-json")
    assert (code, lines_of(err)[-1]["exit_code"]) == (2, 2)


def test_note_in_each_form(capsys: pytest.CaptureFixture[str]) -> None:
    note("one\n two")
    assert capsys.readouterr().err == "note: one two\n"
    progress._set_json(True)
    note("one\n two")
    (line,) = lines_of(capsys.readouterr().err)
    assert (line["event"], line["message"]) == ("note", "one two")
    progress._set_quiet(True)
    note("one")
    assert capsys.readouterr().err == ""


def test_configure_logging_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    root = logging.getLogger()
    before, level = root.handlers[:], root.level
    progress._set_json(True)
    try:
        configure_logging()
        logging.getLogger("some.library").warning("a %s", "word")
    finally:
        root.handlers[:] = before
        root.setLevel(level)
    (line,) = lines_of(capsys.readouterr().err)
    assert (line["event"], line["message"], line["level"], line["logger"]) == (
        "log",
        "a word",
        "warning",
        "some.library",
    )


def test_ticker_prints_lines_off_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    with ticker(every=1000) as show:
        for number in range(1, 4):
            show(f"step {number}", number, 3)
    assert capsys.readouterr().err == "step 1\nstep 3\n"


def test_described_progress_json_lines_are_throttled(capsys: pytest.CaptureFixture[str]) -> None:
    progress._set_json(True)
    with described_progress() as show:
        for number in range(1, 1001):
            show("x", number, 1000)
    found = lines_of(capsys.readouterr().err)
    assert len(found) < 20
    assert (found[0]["done"], found[-1]["done"]) == (1, 1000)


def test_waiting_shows_a_line_and_erases_it(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    make_terminal(monkeypatch)

    def pieces() -> Iterator[str]:
        time.sleep(0.2)
        yield "a"
        time.sleep(0.2)
        yield "b"

    shown = []
    for piece in announced(pieces, "reading 5 tokens"):
        shown.append((piece, capsys.readouterr().err))
    assert [piece for piece, _ in shown] == ["a", "b"]
    assert shown[0][1].startswith("\rreading 5 tokens, 0 s")
    assert shown[0][1].endswith("\r\x1b[K")  # nothing stays in front of the answer
    assert shown[1][1] == ""


def test_waiting_says_nothing_about_a_short_wait(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    make_terminal(monkeypatch, seconds=60.0)
    with Waiting("reading"):
        pass
    assert capsys.readouterr().err == ""


def test_waiting_says_nothing_off_a_terminal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "WAIT_SECONDS", 0.01)
    with Waiting("reading"):
        time.sleep(0.05)
    assert capsys.readouterr().err == ""


def test_waiting_ends_with_an_error(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    make_terminal(monkeypatch)

    def pieces() -> Iterator[str]:
        time.sleep(0.1)
        raise ValueError("no")
        yield ""

    with pytest.raises(ValueError, match="no"):
        list(announced(pieces, "reading"))
    assert capsys.readouterr().err.endswith("\r\x1b[K")
