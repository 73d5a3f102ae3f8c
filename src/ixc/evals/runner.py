"""Ask a model the questions of a task: in batches, split over ranks, resuming an interrupted run.

    questions --[:limit]--[i - 1 :: n]--> unanswered ones --batches--> model --> lines of the file --> RunStep
                                                   all ranks done --merge--> RUN/<task>.jsonl

`answers` is any model: the local engine or an endpoint. How it batches internally is up to it; an answer must not
depend on the other questions of the batch, so that a run may stop and resume at any question.

A question that fails (a broken picture, an error of the model) costs only its own answer: the reason is recorded, the
run goes on, and the next run asks it again. A run ends only where it cannot be the question: the server is
unreachable, or the first questions all fail.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING

from ixc.errors import DataError, IxcError, UnreachableError, UsageError
from ixc.evals import predictions
from ixc.evals.predictions import Failure, Header, Prediction, Run, score_path
from ixc.evals.question import Index

if TYPE_CHECKING:
    from ixc.evals.question import Question

Answers = Callable[[Sequence["Question"]], Sequence[str | IxcError]]
"""A batch of questions -> the model's outputs in the same order, the error in place of an output it could not give."""


@dataclass(frozen=True, kw_only=True)
class StreamedAnswers:
    """A model that takes all questions at once, e.g. on the machines of a cluster."""

    stream: Callable[[Sequence[Question]], Iterator[tuple[Sequence[Question], Sequence[str | IxcError]]]]
    """Questions -> runs of them with their outputs, as of `Answers`; in the order of the questions, all of them."""


BATCH = 32
"""Questions per batch; a kill loses at most this many answers."""

STREAMED = 8
"""Questions of a stream that are written at a time."""

SCORE_SHARE = 0.05
"""Largest share of a run's time spent on its running score, 0..1."""

SCORE_SECONDS = 5.0
"""Shortest time between two running scores, seconds."""


@dataclass(frozen=True, kw_only=True)
class RunStep:
    """Progress of a task on this rank."""

    task: str
    """Name of the task."""
    done: int
    """Questions of this rank that are answered, or failed in this run."""
    total: int
    """Questions of this rank."""
    seconds_left: float | None = None
    """Estimated from the mean speed so far, seconds; None before the first answers."""
    score: float | None = None
    """Headline score on the answers so far; None before it can be computed."""
    failed: int = 0
    """Questions that failed in this run."""


@dataclass(frozen=True, kw_only=True)
class Finished:
    """A task whose questions were all asked on this rank."""

    path: Path
    """Predictions file of this rank, or the merged file once all ranks are done."""
    complete: bool
    """False: other ranks still have questions to ask."""
    failed: tuple[Failure, ...] = ()
    """Questions of that file that have no answer."""


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """What decides how a task is run, besides its questions and the model."""

    header: Header
    """Header of the predictions file; its `rank` selects the questions asked by this process."""
    folder: Path
    """Folder of the run."""
    limit: int | None = None
    """Ask only the first so many questions of the data set, >= 1; None = all."""
    finish: Callable[[str], str] = str
    """Model output -> prediction that is scored."""
    score: Callable[[Mapping[Index, str]], float] | None = None
    """Running score of some predictions; an IxcError of it means no score yet."""
    batch: int = BATCH
    """Questions per batch, >= 1."""
    clock: Callable[[], float] = perf_counter
    """Monotonic time, seconds."""


def questions_of_rank(questions: Sequence[Question], *, limit: int | None, rank: tuple[int, int]) -> list[Question]:
    """Select the questions of one rank: every n-th, beginning with the i-th.

    Args:
        questions: of the whole data set, in its order.
        limit: use only the first so many, >= 1; None = all.
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
    questions: Sequence[Question], answers: Answers | StreamedAnswers, options: RunOptions
) -> Iterator[RunStep | Finished]:
    """Ask the questions without an answer; yield a `RunStep` after every batch and `Finished` last.

    Args:
        questions: of the whole data set, in its order.
        answers: the model.
        options: where the predictions go, and which questions are asked.

    Raises:
        UsageError: a number out of range. DataError: the file belongs to another run, or an index occurs twice.
        IxcError: of the model, where no question could be answered; what was answered before is kept.
    """
    header = options.header
    _check(header.task, questions, options.batch)
    own = questions_of_rank(questions, limit=options.limit, rank=header.rank)
    order = [question.index for question in questions_of_rank(questions, limit=None, rank=header.rank)]
    path = predictions.path_of(options.folder, header.task, rank=header.rank)
    known = predictions.fill_gaps(predictions.start_or_resume(path, header), order).predictions
    todo = [question for question in own if question.index not in known]
    if todo:
        score_path(path).unlink(missing_ok=True)  # a score of fewer answers would be stale
    progress = _Progress(RunStep(task=header.task, done=0, total=len(own)), options)
    yield progress.step(known, [])
    for lines, errors in _asked(todo, answers, options):
        predictions.append(path, lines)
        answered = {line.index: line.prediction for line in lines if isinstance(line, Prediction)}
        if (fatal := _fatal(errors, answered=bool(known or answered))) is not None:
            raise fatal
        known |= answered
        yield progress.step(known, lines)
    yield _finished(predictions.tidy(path), options, questions[: options.limit])


def _check(task: str, questions: Sequence[Question], batch: int) -> None:
    if batch < 1:
        raise UsageError(f"batches of {batch} questions, at least 1 needed; use {BATCH}")
    seen: set[Index] = set()
    for question in questions:
        if question.index in seen:
            raise DataError(f"{task}: index {question.index!r} occurs twice in the data; indices must differ")
        seen.add(question.index)


def _asked(
    todo: Sequence[Question], answers: Answers | StreamedAnswers, options: RunOptions
) -> Iterator[tuple[list[Prediction | Failure], list[IxcError]]]:
    """Yield the lines and errors of batches of questions, in their order."""
    if isinstance(answers, StreamedAnswers):
        whole = [question for question in todo if question.broken is None]
        outputs = (pair for asked, found in answers.stream(whole) for pair in zip(asked, found, strict=True))
        for start in range(0, len(todo), STREAMED):
            yield _ask(todo[start : start + STREAMED], lambda asked: _taken(asked, outputs), options.finish)
        return
    for start in range(0, len(todo), options.batch):
        yield _ask(todo[start : start + options.batch], answers, options.finish)


def _taken(asked: Sequence[Question], outputs: Iterator[tuple[Question, str | IxcError]]) -> list[str | IxcError]:
    """Return the next outputs of a stream, which are those of the questions asked."""
    found = list(islice(outputs, len(asked)))
    if [question.index for question, _ in found] != [question.index for question in asked]:
        raise DataError(f"{len(asked)} questions were asked, and the answers are to others; one each in order needed")
    return [output for _, output in found]


def _ask(
    asked: Sequence[Question], answers: Answers, finish: Callable[[str], str]
) -> tuple[list[Prediction | Failure], list[IxcError]]:
    """Return a line for every question, and the errors of the model; a question with broken images is not asked."""
    whole = [question for question in asked if question.broken is None]
    written = answers(whole) if whole else ()
    if len(written) != len(whole):
        raise DataError(f"{len(whole)} questions were asked and {len(written)} answers came; one each needed")
    lines = {
        question.index: _line(question.index, output, finish) for question, output in zip(whole, written, strict=True)
    }
    lines |= {each.index: Failure(index=each.index, error=each.broken) for each in asked if each.broken is not None}
    return [lines[question.index] for question in asked], [each for each in written if isinstance(each, IxcError)]


def _line(index: Index, output: str | IxcError, finish: Callable[[str], str]) -> Prediction | Failure:
    if isinstance(output, IxcError):
        return Failure(index=index, error=" ".join(str(output).split()))
    kept = finish(output)
    return Prediction(index=index, prediction=kept, output=None if kept == output else output)


def _fatal(errors: Sequence[IxcError], *, answered: bool) -> IxcError | None:
    """Return the error that ends the run: of a server that is gone, or the first one while nothing is answered."""
    gone = next((error for error in errors if isinstance(error, UnreachableError)), None)
    return gone or (errors[0] if errors and not answered else None)


def _finished(own: Run, options: RunOptions, asked: Sequence[Question]) -> Finished:
    """Merge the files of all ranks if this one was the last to finish."""
    header, folder = options.header, options.folder
    ranks = header.rank[1]
    if ranks == 1:
        return Finished(path=own.path, complete=True, failed=own.failed)
    parts = [predictions.path_of(folder, header.task, rank=(number, ranks)) for number in range(1, ranks + 1)]
    order = [question.index for question in asked]
    merged = predictions.merge(parts, predictions.path_of(folder, header.task), order=order)
    found = own if merged is None else merged
    return Finished(path=found.path, complete=merged is not None, failed=found.failed)


class _Progress:
    """Estimate the time left and keep the running score of one task."""

    def __init__(self, first: RunStep, options: RunOptions) -> None:
        self._clock, self._score, self._start = options.clock, options.score, options.clock()
        self._fresh, self._failed, self._next = 0, 0, self._start
        self._last = first

    def step(self, known: Mapping[Index, str], fresh: Sequence[Prediction | Failure]) -> RunStep:
        """Return the progress after a batch of `fresh` lines; `known` holds all answers of this rank."""
        now = self._clock()
        self._fresh += len(fresh)
        self._failed += sum(isinstance(line, Failure) for line in fresh)
        done = min(len(known) + self._failed, self._last.total)
        left = (now - self._start) / self._fresh * (self._last.total - done) if self._fresh else None
        score = self._scored(known, now)
        self._last = replace(self._last, done=done, seconds_left=left, score=score, failed=self._failed)
        return self._last

    def _scored(self, known: Mapping[Index, str], now: float) -> float | None:
        if self._score is None or not known or now < self._next:
            return self._last.score
        try:
            found = self._score(known)
        except IxcError:  # e.g. MME before every category has answers
            found = None
        end = self._clock()
        self._next = end + max(SCORE_SECONDS, (end - now) / SCORE_SHARE)
        return found
