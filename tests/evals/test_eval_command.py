"""`ixc eval NAME...`, score and report from the command line: all sixteen data sets, killed half-way and resumed."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from commands import Run
from run_fakes import said, server

pytest.importorskip("pandas")

from ixc.evals import predictions
from ixc.evals.suite import PAPER_TASKS
from ixc.evals.tasks import TASKS

MOCK = Path(__file__).parents[1] / "goldens" / "metrics" / "mock"
LIMIT = 300
"""CPU seconds that a run over all sixteen mock data sets may take with the embedded model."""


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the sixteen mock data sets under their official names."""
    folder = tmp_path_factory.mktemp("data")
    for name in PAPER_TASKS:
        dataset = TASKS[name].dataset
        (folder / f"{dataset}.tsv").symlink_to(MOCK / dataset / f"{dataset}.tsv")
    return folder


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def reply(body: dict[str, Any]) -> tuple[int, Any]:
    """An answer that depends on the question's text alone."""
    text = json.dumps([part for turn in body["messages"] for part in turn["content"] if not isinstance(part, dict)])
    text += json.dumps([p.get("text") for t in body["messages"] for p in t["content"] if isinstance(p, dict)])
    return said("ABCD yes no 3"[sum(text.encode()) % 11 :])


def test_eval_paper_through_a_server_stopped_and_resumed(run: Run, data: Path, tmp_path: Path) -> None:
    whole, part = tmp_path / "whole", tmp_path / "part"
    left = [100]

    def stops(body: dict[str, Any]) -> tuple[int, Any]:
        left[0] -= 1
        return reply(body) if left[0] >= 0 else (400, "stopped")

    with server(reply) as (url, seen):
        code, out, err = run("eval", "paper", "--endpoint", url, "--data", data, "--out", whole)
        assert (code, err) == (0, "")
        asked = len(seen)
        assert run("eval", "paper", "--endpoint", url, "--data", data, "--out", whole)[1] == out
        assert len(seen) == asked, "a finished run asked again"
    assert [line.split(" | ")[0].strip("| ") for line in out.splitlines()[2:]] == list(PAPER_TASKS)
    assert {body["mm_processor_kwargs"]["hd"] for body in seen} == {16, 25, 55}
    with server(stops) as (url, _):
        code, _, err = run("eval", "paper", "--endpoint", url, "--data", data, "--out", part)
        assert code == 1
        assert "stopped" in err
    with server(reply) as (url, seen):
        assert run("eval", "paper", "--endpoint", url, "--data", data, "--out", part)[1] == out
        assert 0 < len(seen) < asked
    assert files(part) == files(whole)


def test_eval_score_needs_no_model(run: Run, data: Path, tmp_path: Path) -> None:
    with server(reply) as (url, _):
        run("eval", "mmstar", "mme", "--endpoint", url, "--data", data, "--out", tmp_path, "--json")
    before = files(tmp_path)
    for path in tmp_path.glob("*.score.json"):
        path.unlink()
    code, out, _ = run("eval", "score", tmp_path / "mmstar.jsonl", tmp_path / "mme.jsonl", "--data", data, "--json")
    assert code == 0
    assert files(tmp_path) == before
    found = json.loads(out)
    assert [each["task"] for each in found] == ["mmstar", "mme"]
    assert all(each["answered"] > 0 and each["headline"] >= 0 for each in found)


def test_eval_score_of_golden_predictions_equals_the_official_evaluation(run: Run, data: Path, tmp_path: Path) -> None:
    golden = MOCK / "ChartQA_TEST"
    expected = json.loads((golden / "expected.json").read_text())
    lines = [json.loads(line) for line in (golden / "predictions.jsonl").read_text().splitlines()]
    header = predictions.Header(
        task="chartqa", dataset="ChartQA_TEST", style="published", model="m", version="0", questions=12, data=""
    )
    path = tmp_path / "chartqa.jsonl"
    predictions.start_or_resume(path, header)
    predictions.append(path, [predictions.Prediction(index=x["index"], prediction=x["prediction"]) for x in lines])
    code, out, _ = run("eval", "score", tmp_path, "--data", data, "--json")
    assert code == 0
    table = expected["table"]
    overall = table[0]["Overall"] if isinstance(table, list) else table["Overall"]
    assert json.loads(out)[0]["headline"] == pytest.approx(
        float(overall if not isinstance(overall, list) else overall[0])
    )


def test_eval_clean_prompts_limit_and_ranks(run: Run, data: Path, tmp_path: Path) -> None:
    with server(reply) as (url, seen):
        common = ("eval", "docvqa_val", "--endpoint", url, "--data", data, "--prompts", "clean", "--limit", 5)
        assert run(*common, "--out", tmp_path / "alone")[0] == 0
        _, out, _ = run(*common, "--out", tmp_path / "shared", "--rank", "2/2")
        assert "other ranks are not done" in out
        _, out, _ = run(*common, "--out", tmp_path / "shared", "--rank", "1/2")
        assert "5 of 9" in out
    assert not any("use_beam_search" in body for body in seen)
    assert all("                    " not in json.dumps(body["messages"]) for body in seen)
    alone, shared = files(tmp_path / "alone"), files(tmp_path / "shared")
    assert {name: shared[name] for name in alone} == alone


def test_eval_limit_too_small_for_a_score(run: Run, data: Path, tmp_path: Path) -> None:
    with server(reply) as (url, _):
        code, out, _ = run("eval", "mme", "--endpoint", url, "--data", data, "--out", tmp_path, "--limit", 3)
    assert code == 0
    assert "29 questions more for a score" in out


def test_eval_judge_is_asked_once(run: Run, data: Path, tmp_path: Path) -> None:
    with server(reply) as (url, _), server(lambda body: said("0.5"), models=("judge",)) as (judge, seen):
        options = ("--endpoint", url, "--data", data, "--out", tmp_path, "--judge", judge)
        code, out, _ = run("eval", "mmvet", *options)
        assert code == 0
        assert "| 50.0 |" in out
        asked = len(seen)
        assert asked >= 11
        run("eval", "score", tmp_path, "--data", data, "--judge", judge)
        assert len(seen) == asked


def test_eval_report_of_two_runs(run: Run, data: Path, tmp_path: Path) -> None:
    with server(reply) as (url, _):
        for name in ("ours", "theirs"):
            out = tmp_path / name
            run("eval", "mmstar", "chartqa", "--endpoint", url, "--data", data, "--out", out)
    code, out, err = run("eval", "report", tmp_path / "ours", tmp_path / "theirs", "--data", data, "--out", tmp_path)
    assert (code, err) == (0, "")
    assert [Path(line).name for line in out.split()] == ["report.md", "report.json", "report.html"]
    assert "ours" in (tmp_path / "report.md").read_text()


WRONG: list[tuple[Sequence[str], str]] = [
    (["sinth"], "1 unknown: sinth; benchmarks are docvqa_val"),
    (["mmstar", "--rank", "3/2"], "--rank is '3/2'"),
    (["mmstar", "--rank", "two"], "--rank is 'two'"),
    (["mmstar", "--model", "/no/such/folder"], "no folder /no/such/folder"),
    (["mmstar", "--endpoint", "localhost"], "no address"),
    (["mmstar", "--endpoint", "http://localhost:9", "--dtype", "float16"], "--dtype has no effect with"),
    (["mmstar", "--openai-only"], "--openai-only has no effect without"),
    (["mmstar", "--parallel", "8"], "--parallel has no effect without"),
    (["mmstar", "--endpoint", "http://localhost:9", "--openai-only"], "add --prompts clean"),
    (
        ["mmstar", "--endpoint", "http://localhost:9", "--openai-only", "--hd", "9"],
        "--hd has no effect with --openai-only",
    ),
    (["mmstar", "--data", "/no/such/folder"], "no folder /no/such/folder"),
    (["mmstar", "--judge-model", "m"], "without --judge URL"),
    (["mmstar", "--prompts", "kind"], "unknown prompts 'kind'"),
    (["mmstar", "--limit", "0"], "limit is 0"),
    (["mmstar", "--hd", "0"], "at least 1, got 0"),
    (["score", "/no/such/file.jsonl"], "no file or folder"),
    (["score", "EMPTY"], "0 finished files"),
    (["report", "EMPTY"], "0 finished files"),
]


@pytest.mark.parametrize(("arguments", "words"), WRONG)
def test_eval_wrong_options_are_one_line(
    run: Run, data: Path, tmp_path: Path, arguments: list[str], words: str
) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    given = [str(empty) if each == "EMPTY" else each for each in arguments]
    if "--data" not in given and given[0] != "report":
        given += ["--data", str(data)]
    if given[0] not in ("score", "report"):
        given += ["--out", str(tmp_path / "out")]
    code, out, err = run("eval", *given)
    assert code in (1, 2)
    assert out == ""
    assert err.count("\n") == 1
    assert words in err


def test_eval_help_of_eval_and_run(run: Run) -> None:
    for words in (["eval", "--help"], ["eval", "run", "--help"], ["eval", "mmstar", "--help"]):
        code, out, _ = run(*words)
        assert code == 0
        assert "ixc eval docvqa_val chartqa --model" in out


def _ask(data: Path, out: Path, *how: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "ixc", "eval", "paper", "--data", str(data), "--out", str(out), *how]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=_ENVIRONMENT)


_ENVIRONMENT = {key: value for key, value in os.environ.items() if "proxy" not in key.lower()}
LOCAL = ("--device", "cpu")


def _killed_half_way(data: Path, out: Path, *how: str) -> None:
    """A run that dies within the ninth benchmark or soon after, and the same command once more."""
    process = _ask(data, out, *how)
    while not (out / "mmmu.jsonl").exists():
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (out / "hallusion.jsonl").exists()
    assert _ask(data, out, *how).wait(timeout=3600) == 0


def _reports(run: Run, data: Path, *folders: Path) -> list[dict[str, bytes]]:
    for folder in folders:
        assert run("eval", "report", folder, "--data", data, "--out", folder.parent / "report")[0] == 0
    return [files(folder.parent / "report") for folder in folders]


def _answers(folder: Path) -> dict[str, list[str]]:
    """Predictions without the header, which names the way they came."""
    return {path.name: path.read_text().splitlines()[1:] for path in sorted(folder.glob("*.jsonl"))}


@contextmanager
def _serving() -> Iterator[str]:
    """`ixc serve` with the embedded model: its address."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "ixc", "serve", "--port", str(port), *LOCAL]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=_ENVIRONMENT)
    try:
        assert process.stdout is not None
        assert b"ready" in process.stdout.readline()
        yield f"http://127.0.0.1:{port}"
    finally:
        process.send_signal(signal.SIGTERM)
        process.communicate()
    assert process.returncode == 0


@pytest.fixture(scope="module")
def local(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An unbroken run of the embedded model over all sixteen mock data sets."""
    folder = tmp_path_factory.mktemp("local") / "nano"
    before = os.times()
    assert _ask(data, folder, *LOCAL).wait(timeout=3600) == 0
    after = os.times()
    taken = after.children_user + after.children_system - before.children_user - before.children_system
    assert taken < LIMIT, f"{taken:.0f} CPU seconds"
    return folder


@pytest.mark.slow
def test_eval_paper_with_the_embedded_model_killed_half_way(run: Run, data: Path, local: Path, tmp_path: Path) -> None:
    part = tmp_path / "nano"
    _killed_half_way(data, part, *LOCAL)
    assert files(part) == files(local)
    whole, again = _reports(run, data, local, part)
    assert whole == again
    assert set(whole) == {"report.md", "report.json", "report.html"}


@pytest.mark.slow
def test_eval_paper_through_serve_equals_the_local_model(run: Run, data: Path, local: Path, tmp_path: Path) -> None:
    pytest.importorskip("fastapi", reason="the extra serve is not installed")
    whole, part = tmp_path / "whole" / "nano", tmp_path / "part" / "nano"
    with _serving() as url:
        assert _ask(data, whole, "--endpoint", url).wait(timeout=3600) == 0
        _killed_half_way(data, part, "--endpoint", url)
    assert _answers(whole) == _answers(local)
    assert files(part) == files(whole)
    one, two, home = _reports(run, data, whole, part, local)
    assert one == two
    scores = [json.loads(report["report.json"]) for report in (one, home)]
    figures = [[result["headline"] for result in each["runs"][0]["results"]] for each in scores]
    assert len(figures[0]) == len(PAPER_TASKS)
    assert figures[0] == figures[1]
