"""A model is asked the questions of a task: in batches, by rank, and from where a killed run stopped.

    questions --[:limit]--[i - 1 :: n]-- those without a line yet --> batches --answers--> lines of the file --> Step
                                                                 all ranks done --merge--> RUN/<task>.jsonl

`answers` is any model: the local engine or an endpoint. It decides itself which questions of a batch it answers side
by side; an answer must not depend on its neighbours, so a run may stop and go on anywhere.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING

from ixc.errors import DataError, IxcError, UsageError
from ixc.evals import predictions
from ixc.evals.predictions import Header, Prediction, Run, score_path
from ixc.evals.question import Index

if TYPE_CHECKING:
    from ixc.evals.question import Question

Answers = Callable[[Sequence["Question"]], list[str]]
"""A batch of questions -> what the model writes, in the same order."""

BATCH = 32
"""Questions handed over at once, and lost at most by a kill."""

SCORE_SHARE = 0.05
"""Most of a run's time that its running score may take."""

SCORE_SECONDS = 5.0
"""Least time between two running scores."""


@dataclass(frozen=True, kw_only=True)
class RunStep:
    """How far a task is."""

    task: str
    done: int
    """Questions of this rank that have an answer."""
    total: int
    """Questions of this rank."""
    seconds_left: float | None = None
    """At the present speed; None before the first answers."""
    score: float | None = None
    """On the answers so far; None where there is none yet."""


@dataclass(frozen=True, kw_only=True)
class Finished:
    """A task whose questions are answered."""

    path: Path
    """File of this rank, or of all of them where the others are done too."""
    complete: bool
    """False: other ranks still have questions."""


def share(questions: Sequence[Question], *, limit: int | None, rank: tuple[int, int]) -> list[Question]:
    """The questions of one rank.

    Args:
        limit: the first so many of the data set only, >= 1.
        rank: (i, n), 1 <= i <= n.

    Raises:
        UsageError: a limit or rank out of range.
    """
    if limit is not None and limit < 1:
        raise UsageError(f"limit is {limit}, at least 1 needed; leave it out for all {len(questions)} questions")
    number, ranks = rank
    if not 1 <= number <= ranks:
        raise UsageError(f"rank {number} of {ranks} does not exist; use 1/{max(ranks, 1)} to {ranks}/{max(ranks, 1)}")
    return list(questions[:limit])[number - 1 :: ranks]


def run(
    questions: Sequence[Question],
    answers: Answers,
    *,
    header: Header,
    folder: Path,
    limit: int | None = None,
    finish: Callable[[str], str] = str,
    score: Callable[[Mapping[Index, str]], float] | None = None,
    batch: int = BATCH,
    clock: Callable[[], float] = perf_counter,
) -> Iterator[RunStep | Finished]:
    """Asks what has no answer yet; yields a `RunStep` after every batch and `Finished` last.

    Args:
        questions: of the whole data set, in its order.
        header: of the file in `folder`; its `rank` says which questions are asked here.
        limit: only the first so many questions of the data set.
        finish: what the model wrote -> what is scored.
        score: the running score of some predictions; errors of it are no score.
        batch: questions handed over at once, >= 1.
        clock: seconds.

    Raises:
        UsageError: a number out of range. DataError: the file there is of another run, or an index occurs twice.
    """
    _check(header.task, questions, batch)
    mine = share(questions, limit=limit, rank=header.rank)
    path = predictions.path_of(folder, header.task, rank=header.rank)
    begun = predictions.begin(path, header)
    known, todo = begun.predictions, _unanswered(begun, mine)
    if todo:
        score_path(path).unlink(missing_ok=True)  # it is of fewer answers
    tally = _Tally(header.task, len(mine), clock, score)
    yield tally.step(known, fresh=0)
    for start in range(0, len(todo), batch):
        lines = _ask(todo[start : start + batch], answers, finish)
        predictions.append(path, lines)
        known |= {line.index: line.prediction for line in lines}
        yield tally.step(known, fresh=len(lines))
    yield _finished(path, folder, header, total=len(questions[:limit]))


def _check(task: str, questions: Sequence[Question], batch: int) -> None:
    if batch < 1:
        raise UsageError(f"batches of {batch} questions, at least 1 needed; use {BATCH}")
    seen: set[Index] = set()
    for question in questions:
        if question.index in seen:
            raise DataError(f"{task}: index {question.index!r} occurs twice in the data; indices must differ")
        seen.add(question.index)


def _unanswered(begun: Run, mine: Sequence[Question]) -> list[Question]:
    """What is left, once the file is seen to hold the first of these questions and nothing else."""
    order = [question.index for question in mine]
    done = [line.index for line in begun.answered]
    if done[: len(order)] != order[: len(done)]:
        place = next(i for i, (a, b) in enumerate(zip(done, order, strict=False)) if a != b)
        raise DataError(
            f"{begun.path} answers question {done[place]!r} where the data has {order[place]!r} (number {place + 1}); "
            "use the data file it was begun with, or another --out"
        )
    return list(mine[len(done) :])


def _ask(asked: Sequence[Question], answers: Answers, finish: Callable[[str], str]) -> list[Prediction]:
    written = answers(asked)
    if len(written) != len(asked):
        raise DataError(f"{len(asked)} questions were asked and {len(written)} answers came; one each needed")
    lines = []
    for question, output in zip(asked, written, strict=True):
        said = finish(output)
        lines.append(Prediction(index=question.index, prediction=said, output=None if said == output else output))
    return lines


def _finished(path: Path, folder: Path, header: Header, *, total: int) -> Finished:
    """The last rank to finish merges the files of all."""
    ranks = header.rank[1]
    if ranks == 1:
        return Finished(path=path, complete=True)
    parts = [predictions.path_of(folder, header.task, rank=(number, ranks)) for number in range(1, ranks + 1)]
    merged = predictions.merge(parts, predictions.path_of(folder, header.task), total=total)
    return Finished(path=path if merged is None else merged.path, complete=merged is not None)


class _Tally:
    """Speed and running score of one task."""

    def __init__(
        self, task: str, total: int, clock: Callable[[], float], score: Callable[[Mapping[Index, str]], float] | None
    ) -> None:
        self._clock, self._score, self._start = clock, score, clock()
        self._fresh, self._next = 0, self._start
        self._last = RunStep(task=task, done=0, total=total)

    def step(self, known: Mapping[Index, str], *, fresh: int) -> RunStep:
        """After a batch of `fresh` answers; `known` are all of this rank."""
        now = self._clock()
        self._fresh += fresh
        done = min(len(known), self._last.total)
        left = (now - self._start) / self._fresh * (self._last.total - done) if self._fresh else None
        self._last = replace(self._last, done=done, seconds_left=left, score=self._scored(known, now))
        return self._last

    def _scored(self, known: Mapping[Index, str], now: float) -> float | None:
        if self._score is None or not known or now < self._next:
            return self._last.score
        try:
            found = self._score(known)
        except IxcError:  # a score that needs what is not answered yet
            found = None
        end = self._clock()
        self._next = end + max(SCORE_SECONDS, (end - now) / SCORE_SHARE)
        return found
