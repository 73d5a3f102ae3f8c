"""A run: every question once, in order, whatever kills it, alone or in ranks."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from run_fakes import echo, header, questions

from ixc.errors import DataError, ImageError, IxcError, UnreachableError, UsageError
from ixc.evals import predictions, runner
from ixc.evals.question import Question
from ixc.evals.runner import Answers, Finished, RunOptions, RunStep


def run(asked: list[Question], answers: Answers, **options: Any) -> Iterator[RunStep | Finished]:
    return runner.run(asked, answers, RunOptions(**options))


def test_run_answers_every_question_in_order(tmp_path: Path) -> None:
    events = list(run(questions(10), echo, header=header(), folder=tmp_path, finish=str.strip, batch=4))
    assert [event.done for event in events if isinstance(event, RunStep)] == [0, 4, 8, 10]
    assert events[-1] == Finished(path=tmp_path / "mmstar.jsonl", complete=True)
    found = predictions.read(tmp_path / "mmstar.jsonl")
    assert list(found.predictions) == [n * 10 for n in range(10)]
    assert found.answered[3].prediction == "B, says question 3"
    assert found.answered[3].output == " B, says question 3\n"


@pytest.mark.parametrize("stop", [0, 1, 5, 7])
def test_run_stopped_and_resumed_asks_nothing_twice(tmp_path: Path, stop: int) -> None:
    whole, part = tmp_path / "whole", tmp_path / "part"
    list(run(questions(10), echo, header=header(), folder=whole, batch=3))
    asked: list[str] = []

    def stops(batch: Sequence[Question]) -> list[str]:
        if len(asked) >= stop:
            raise KeyboardInterrupt
        asked.extend(each.text for each in batch)
        return echo(batch)

    with pytest.raises(KeyboardInterrupt):
        list(run(questions(10), stops, header=header(), folder=part, batch=2))
    kept = len(predictions.read(part / "mmstar.jsonl").answered)
    rest: list[str] = []

    def goes_on(batch: Sequence[Question]) -> list[str]:
        rest.extend(each.text for each in batch)
        return echo(batch)

    list(run(questions(10), goes_on, header=header(), folder=part, batch=3))
    assert rest == [f"question {n}" for n in range(kept, 10)]
    assert (part / "mmstar.jsonl").read_bytes() == (whole / "mmstar.jsonl").read_bytes()


KILLED = """
import sys, time
sys.path.insert(0, {here!r})
from pathlib import Path
from run_fakes import echo, header, questions
from ixc.evals import runner

def slow(batch):
    time.sleep(0.02)
    return echo(batch)

list(runner.run(questions(200), slow, runner.RunOptions(header=header(200), folder=Path(sys.argv[1]), batch=2)))
"""


def test_run_killed_and_resumed_writes_the_same_file(tmp_path: Path) -> None:
    whole, part = tmp_path / "whole", tmp_path / "part"
    list(run(questions(200), echo, header=header(200), folder=whole))
    command = [sys.executable, "-c", KILLED.format(here=str(Path(__file__).parent)), str(part)]
    file = part / "mmstar.jsonl"
    lines = 0
    for _ in range(2):
        process = subprocess.Popen(command, env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"})
        waited = time.monotonic()
        while not file.exists() or file.read_bytes().count(b"\n") < lines + 20:
            assert time.monotonic() - waited < 60
            assert process.poll() is None
            time.sleep(0.005)
        process.send_signal(signal.SIGKILL)
        process.wait()
        lines = file.read_bytes().count(b"\n")
    assert 20 < lines < 201
    with file.open("ab") as torn:
        torn.write(b'{"index": 17')
    list(run(questions(200), echo, header=header(200), folder=part))
    assert file.read_bytes() == (whole / "mmstar.jsonl").read_bytes()


@pytest.mark.parametrize(("ranks", "limit"), [(2, None), (3, None), (3, 7), (12, None)])
def test_run_of_ranks_writes_the_file_of_one_process(tmp_path: Path, ranks: int, limit: int | None) -> None:
    alone, shared = tmp_path / "alone", tmp_path / "shared"
    list(run(questions(10), echo, header=header(), folder=alone, limit=limit))
    ends = []
    for number in range(ranks, 0, -1):
        mine = header(rank=(number, ranks))
        *_, end = run(questions(10), echo, header=mine, folder=shared, limit=limit)
        ends.append(end)
    assert [end.complete for end in ends if isinstance(end, Finished)] == [False] * (ranks - 1) + [True]
    assert (shared / "mmstar.jsonl").read_bytes() == (alone / "mmstar.jsonl").read_bytes()


def test_run_smaller_limit_keeps_answers(tmp_path: Path) -> None:
    list(run(questions(10), echo, header=header(), folder=tmp_path))
    before = (tmp_path / "mmstar.jsonl").read_bytes()
    for number in (1, 2):
        list(run(questions(10), echo, header=header(rank=(number, 2)), folder=tmp_path, limit=4))
    assert (tmp_path / "mmstar.jsonl").read_bytes() == before


def test_run_keeps_half_a_surrogate_pair_readable(tmp_path: Path) -> None:
    list(run(questions(1), lambda asked: ["\ud83d!"], header=header(1), folder=tmp_path))
    assert predictions.read(tmp_path / "mmstar.jsonl").predictions == {0: "?!"}


def test_run_without_the_limit_asks_the_rest(tmp_path: Path) -> None:
    list(run(questions(10), echo, header=header(), folder=tmp_path, limit=4))
    path = tmp_path / "mmstar.jsonl"
    assert len(predictions.read(path).answered) == 4
    kept = predictions.score_path(path)
    kept.write_text("{}")
    steps = [e for e in run(questions(10), echo, header=header(), folder=tmp_path) if isinstance(e, RunStep)]
    assert (steps[0].done, steps[-1].done) == (4, 10)
    assert not kept.exists(), "a score of fewer answers was kept"
    steps = [e for e in run(questions(10), echo, header=header(), folder=tmp_path, limit=4) if isinstance(e, RunStep)]
    assert [(step.done, step.total) for step in steps] == [(4, 4)]


# -- questions that fail ----------------------------------------------------------------------------------------------


def fails(*bad: int) -> Answers:
    """Answers as `echo`, with an error for the questions whose index is named."""

    def answers(asked: Sequence[Question]) -> list[str | IxcError]:
        told = zip(asked, echo(asked), strict=True)
        return [ImageError(f"question {q.index}: cut\nshort") if q.index in bad else text for q, text in told]

    return answers


@pytest.mark.parametrize("stop", [0, 1, 2])
@pytest.mark.parametrize("ranks", [1, 3])
def test_run_asks_again_only_what_failed(tmp_path: Path, ranks: int, stop: int) -> None:
    whole, part = tmp_path / "whole", tmp_path / "part"
    list(run(questions(10), echo, header=header(), folder=whole))
    for number in range(1, ranks + 1):
        *_, step, end = run(questions(10), fails(20, 30, 70), header=header(rank=(number, ranks)), folder=part, batch=4)
        assert isinstance(step, RunStep)
        assert step.done == step.total
    assert isinstance(end, Finished)
    assert end.complete
    assert [(each.index, each.error) for each in end.failed] == [
        (index, f"question {index}: cut short") for index in (20, 30, 70)
    ]
    found = predictions.read(part / "mmstar.jsonl")
    assert found.failed == end.failed
    assert list(found.predictions) == [n * 10 for n in range(10) if n not in (2, 3, 7)]
    asked: list[int | str] = []

    def mended(batch: Sequence[Question]) -> list[str]:
        if len(asked) >= stop and stop:
            raise KeyboardInterrupt
        asked.extend(question.index for question in batch)
        return echo(batch)

    for _ in range(2):
        for number in range(1, ranks + 1):
            try:
                *_, end = run(questions(10), mended, header=header(rank=(number, ranks)), folder=part, batch=1)
            except KeyboardInterrupt:
                stop = 0
    assert sorted(map(int, asked)) == [20, 30, 70]
    assert end == Finished(path=part / "mmstar.jsonl", complete=True)
    assert (part / "mmstar.jsonl").read_bytes() == (whole / "mmstar.jsonl").read_bytes()


def test_run_records_a_new_reason_of_a_question_that_fails_again(tmp_path: Path) -> None:
    list(run(questions(4), fails(10), header=header(4), folder=tmp_path))
    *_, end = run(questions(4), lambda asked: [DataError("other") for _ in asked], header=header(4), folder=tmp_path)
    assert isinstance(end, Finished)
    assert [each.error for each in end.failed] == ["other"]
    assert (tmp_path / "mmstar.jsonl").read_text().count("\n") == 5


def test_run_does_not_ask_a_question_with_broken_images(tmp_path: Path) -> None:
    asked: list[Question] = []

    def answers(batch: Sequence[Question]) -> list[str]:
        asked.extend(batch)
        return echo(batch)

    first, *rest = questions(3)
    *_, end = run([replace(first, broken="row 1: no image"), *rest], answers, header=header(3), folder=tmp_path)
    assert asked == rest
    assert isinstance(end, Finished)
    assert [(each.index, each.error) for each in end.failed] == [(0, "row 1: no image")]


def test_run_ends_where_no_question_can_be_answered(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="question 0: cut"):
        list(run(questions(10), fails(0, 10), header=header(), folder=tmp_path, batch=2))
    *_, end = run(questions(10), fails(0, 10), header=header(), folder=tmp_path, batch=10)
    assert isinstance(end, Finished)
    assert len(end.failed) == 2


def test_run_keeps_the_answers_beside_a_server_that_is_gone(tmp_path: Path) -> None:
    def answers(asked: Sequence[Question]) -> list[str | IxcError]:
        return ["a", UnreachableError("gone"), "c"]

    with pytest.raises(UnreachableError, match="gone"):
        list(run(questions(9), answers, header=header(9), folder=tmp_path, batch=3))
    assert predictions.read(tmp_path / "mmstar.jsonl").predictions == {0: "a", 20: "c"}
    list(run(questions(9), echo, header=header(9), folder=tmp_path, batch=3))
    assert len(predictions.read(tmp_path / "mmstar.jsonl").answered) == 9


def test_run_asks_a_question_whose_line_was_deleted(tmp_path: Path) -> None:
    list(run(questions(10), echo, header=header(), folder=tmp_path))
    path = tmp_path / "mmstar.jsonl"
    whole = path.read_bytes()
    lines = whole.splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:4] + lines[5:]))
    list(run(questions(10), echo, header=header(), folder=tmp_path))
    assert path.read_bytes() == whole


def test_run_step_has_time_left_and_running_score(tmp_path: Path) -> None:
    now = [0.0]

    def thinks(asked: Sequence[Question]) -> list[str]:
        now[0] += 10
        return echo(asked)

    def score(known: object) -> float:
        assert isinstance(known, dict)
        if len(known) < 4:
            raise DataError("a category is missing")
        return float(len(known))

    found = run(questions(8), thinks, header=header(8), folder=tmp_path, batch=2, score=score, clock=lambda: now[0])
    steps = [event for event in found if isinstance(event, RunStep)]
    assert [step.seconds_left for step in steps] == [None, 30, 20, 10, 0]
    assert [step.score for step in steps] == [None, None, 4, 6, 8]


def test_run_refusals(tmp_path: Path) -> None:
    def go(**changes: object) -> None:
        values = {"header": header(), "folder": tmp_path} | changes
        list(run(questions(10), echo, **values))  # type: ignore[arg-type]

    with pytest.raises(UsageError, match="limit is 0"):
        go(limit=0)
    with pytest.raises(UsageError, match="rank 3 of 2"):
        go(header=header(rank=(3, 2)))
    with pytest.raises(UsageError, match="batches of 0"):
        go(batch=0)
    with pytest.raises(DataError, match="occurs twice"):
        list(run(questions(3) * 2, echo, header=header(6), folder=tmp_path))
    with pytest.raises(DataError, match="10 questions were asked and 1 answers came"):
        list(run(questions(10), lambda asked: ["a"], header=header(), folder=tmp_path))
    list(run(questions(10), echo, header=header(), folder=tmp_path, limit=3))
    with pytest.raises(DataError, match="answers question 0 where the data has 90"):
        list(run(questions(10)[::-1], echo, header=header(), folder=tmp_path))


def test_run_streamed_answers_are_written_in_order_and_resumed(tmp_path: Path) -> None:
    asked: list[str] = []

    def stream(given: Sequence[Question]) -> Iterator[tuple[Sequence[Question], Sequence[str | IxcError]]]:
        for start in range(0, len(given), 3):  # another size than that of the lines written at a time
            part = given[start : start + 3]
            if len(asked) >= 12:
                raise KeyboardInterrupt
            asked.extend(each.text for each in part)
            yield part, echo(part)

    streamed = runner.StreamedAnswers(stream=stream)
    whole = questions(20)
    whole[4] = replace(whole[4], broken="no picture")
    options = RunOptions(header=header(20), folder=tmp_path)
    with pytest.raises(KeyboardInterrupt):
        list(runner.run(whole, streamed, options))
    assert len(predictions.read(tmp_path / "mmstar.jsonl").entries) == 8
    asked.clear()
    list(runner.run(whole, runner.StreamedAnswers(stream=lambda given: iter([(given, echo(given))])), options))
    found = predictions.read(tmp_path / "mmstar.jsonl")
    assert [entry.index for entry in found.entries] == [n * 10 for n in range(20)]
    assert [failure.index for failure in found.failed] == [40]
    alone = tmp_path / "alone"
    list(runner.run(whole, echo, replace(options, folder=alone)))
    assert (alone / "mmstar.jsonl").read_bytes() == (tmp_path / "mmstar.jsonl").read_bytes()


def test_run_streamed_answers_to_other_questions_are_refused(tmp_path: Path) -> None:
    streamed = runner.StreamedAnswers(stream=lambda given: iter([(given[::-1], echo(given[::-1]))]))
    with pytest.raises(DataError, match="answers are to others"):
        list(runner.run(questions(10), streamed, RunOptions(header=header(), folder=tmp_path)))
