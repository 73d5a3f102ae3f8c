"""Run several tasks one after another: data, questions, predictions, then a score or a submission file.

    RUN/<task>.jsonl  RUN/<task>.score.json  or  RUN/<task>.submission.*

A finished task is not asked again, so the same command resumes an interrupted run, and asks again only the questions
that failed; where nothing is left to ask, no model is loaded.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ixc.core import tiling
from ixc.errors import DataError, IxcError, UsageError
from ixc.evals import download, predictions, runner, submission, table, task_score
from ixc.evals.metrics.rule import VLMEVALKIT
from ixc.evals.predictions import Failure, Header, Run
from ixc.evals.question import Index
from ixc.evals.runner import Answers, Finished, RunOptions, RunStep, StreamedAnswers
from ixc.evals.task import check_style, file_format_of
from ixc.evals.task_score import TaskScore
from ixc.utils.counted import counted

if TYPE_CHECKING:
    from ixc.evals.question import Question
    from ixc.evals.task import Judge, Row, Task

PAPER = "paper"
"""Name of `PAPER_TASKS` on the command line."""

PAPER_TASKS = (
    *("docvqa_val", "chartqa", "infovqa_val", "textvqa", "ocrbench", "mmstar", "mathvista", "ai2d"),
    *("mmmu", "mme", "mmbench_en", "mmbench_cn", "seedbench", "qbench", "mmvet", "hallusion"),
)
"""The sixteen benchmarks of the paper's table 3, on the splits whose answers are public."""


@dataclass(frozen=True, kw_only=True)
class SuitePlan:
    """Settings that all tasks of a run share."""

    model: str
    """Name of the model."""
    version: str
    """Version of this package."""
    folder: Path
    """Folder of the run."""
    data: Path
    """Folder of data files; for a single task also the file itself."""
    style: str = "published"
    """Prompt style: "published" or "clean"."""
    limit: int | None = None
    """Ask only the first so many questions of every task; None = all."""
    rank: tuple[int, int] = (1, 1)
    """(i, n): this is the i-th of n processes."""
    hd: int | None = None
    """HD-n of every question; None = each task's own."""
    settings: dict[str, Any] = field(default_factory=dict)
    """Everything else that decides the answers; recorded in the files."""


@dataclass(frozen=True, kw_only=True)
class TaskOutcome:
    """Result of one task."""

    task: Task
    """The task."""
    path: Path
    """Predictions file."""
    complete: bool
    """False: other ranks still have questions to ask."""
    failed: tuple[Failure, ...] = ()
    """Questions that have no answer because they failed; the same run asks them again."""
    result: TaskScore | None = None
    """Score; None where the answers are hidden, or not all ranks are done."""
    submission: Path | None = None
    """Submission file, where the answers are hidden and all questions are answered."""
    note: str = ""
    """Reason why there is neither score nor submission."""
    warning: str = ""
    """What the official reader makes of the data set's cells, where that changes questions; "" if it does not."""


def tasks_of(names: Sequence[str]) -> list[Task]:
    """Look up tasks by name, each once.

    Raises:
        UsageError: an unknown name, or none.
    """
    from ixc.evals.tasks import TASKS

    wanted = [each for name in names for each in (PAPER_TASKS if name == PAPER else (name,))]
    unknown = sorted({name for name in wanted if name not in TASKS})
    if unknown or not wanted:
        raise UsageError(
            f"{len(unknown) or 'no'} unknown: {', '.join(unknown) or 'no name given'}; "
            f"benchmarks are {', '.join(TASKS)}, and {PAPER} for the sixteen"
        )
    return [TASKS[name] for name in dict.fromkeys(wanted)]


def run_suite(
    tasks: Sequence[Task],
    answers: Answers | StreamedAnswers,
    *,
    plan: SuitePlan,
    judge: Judge | None = None,
    progress: download.Progress | None = None,
) -> Iterator[RunStep | TaskOutcome]:
    """Ask and score; yield a `RunStep` after every batch and a `TaskOutcome` after every task.

    Args:
        tasks: run in this order.
        answers: the model; called only where something is left to ask.
        plan: settings of the run.
        judge: judge of judged tasks; None = score them by rule.
        progress: called with (bytes done, bytes in all) during downloads.

    Raises:
        UsageError: an impossible plan, a judge without a judged task, pandas missing; raised before any download.
        DataError: data missing or broken, a file of another run. IxcError: of the model, where no question could be
            answered.
    """
    _check(plan, tasks)
    if judge is not None and not any(task.judged for task in tasks):
        raise UsageError(f"a judge has no effect on {', '.join(task.name for task in tasks)}; leave it out")
    table.pandas()
    files = [
        download.find(task, plan.data, progress=progress) for task in tasks
    ]  # all of them before hours of inference
    for task, file in zip(tasks, files, strict=True):
        rows = task.read(file, style=plan.style)
        finished = None
        for event in _asked(task, rows, answers, plan, md5=download.md5_of(file)):
            if isinstance(event, RunStep):
                yield event
            else:
                finished = event
        assert finished is not None
        yield replace(_outcome(task, rows, finished, judge), warning=missing_texts(task, file, rows, plan.style))


def check_files(tasks: Sequence[Task], data: Path) -> None:
    """Check by their first bytes the data files that are there, before a model or pandas is imported.

    Raises:
        DataError: one cannot be a table.
    """
    for path in (data if data.is_file() else data / f"{task.dataset}.tsv" for task in tasks):
        if path.exists():
            table.check_head(path)


def check_hd(hd: int | None) -> None:
    """Check an HD; None: each benchmark's own. Raises: UsageError: not 1 to `core.tiling.MAX_HD` tiles."""
    if hd is not None:
        tiling.check_hd(hd)


def _check(plan: SuitePlan, tasks: Sequence[Task]) -> None:
    if plan.data.is_file() and len(tasks) > 1:
        raise UsageError(f"--data is one file and {len(tasks)} benchmarks are named; give the folder of their files")
    check_style(plan.style)
    check_hd(plan.hd)
    if plan.limit is not None and plan.limit < 1:
        raise UsageError(f"limit is {plan.limit}, at least 1 needed; leave it out for all questions")


def _asked(
    task: Task, rows: list[Row], answers: Answers | StreamedAnswers, plan: SuitePlan, *, md5: str
) -> Iterator[RunStep | Finished]:
    questions = [_with_hd(question, plan.hd) for question in task.questions(rows, style=plan.style)]
    header = Header(
        task=task.name,
        dataset=task.dataset,
        style=plan.style,
        model=plan.model,
        version=plan.version,
        questions=len(questions),
        data=md5,
        settings={**plan.settings, **({} if plan.hd is None else {"hd": plan.hd})},
        rank=plan.rank,
    )

    def headline(known: Mapping[Index, str]) -> float:
        return task.score(rows, known, file_format=file_format_of(plan.style)).headline

    options = RunOptions(
        header=header,
        folder=plan.folder,
        limit=plan.limit,
        finish=lambda output: task.prediction(output, style=plan.style),
        score=None if task.hidden else headline,
    )
    return runner.run(questions, answers, options)


def _with_hd(question: Question, hd: int | None) -> Question:
    return question if hd is None else replace(question, hd=hd)


def _outcome(task: Task, rows: Sequence[Row], finished: Finished, judge: Judge | None) -> TaskOutcome:
    if not finished.complete:
        return TaskOutcome(
            task=task, path=finished.path, complete=False, failed=finished.failed, note="other ranks are not done"
        )
    return scored(finished.path, rows, judge=judge)


def scored(path: Path, rows: Sequence[Row], *, judge: Judge | None = None) -> TaskOutcome:
    """Score a predictions file, or write its submission where the answers are hidden.

    Raises:
        DataError: the file is broken, or was not made on these rows.
    """
    return _scored(predictions.read(path), rows, judge=judge)


def rescore(found: Run, data: Path, *, judge: Judge | None = None, rule: str = VLMEVALKIT) -> TaskOutcome:
    """Score existing predictions again, without the model.

    Args:
        found: as read by `predictions.read`.
        data: folder of data files, or the file itself; nothing is downloaded.
        judge: judge of judged tasks; None = score them by rule.
        rule: "vlmevalkit", or one of `Task.rules`; a task without that rule gets a note instead of a score.

    Raises:
        DataError: data missing, or different from the data that the answers were made on.
    """
    task = task_score.task_of(found)
    file = data if data.is_file() else data / f"{task.dataset}.tsv"
    rows = task.read(file, style=found.header.style)
    md5 = download.md5_of(file)
    if found.header.data not in ("", md5):
        raise DataError(
            f"{found.path} was made on data with MD5 {found.header.data}, {file} has {md5}; give --data the file it "
            "was made on"
        )
    warning = missing_texts(task, file, rows, found.header.style)
    return replace(_scored(found, rows, judge=judge, rule=rule), warning=warning)


def missing_texts(task: Task, file: Path, rows: Sequence[Row], style: str) -> str:
    """Return one line that counts the cells whose text the official reader takes for missing, "" if there are none."""
    found = table.texts_read_as_missing(file, rows) if style == "published" else {}
    if not found:
        return ""
    count = sum(map(len, found.values()))
    texts = list(dict.fromkeys(text for cells in found.values() for text in cells))
    more = f" and {len(texts) - 4} more" if len(texts) > 4 else ""
    return (
        f"{task.name}: {count} cell{'s' if count > 1 else ''} of column{'s' if len(found) > 1 else ''} "
        f"{', '.join(found)} (written {', '.join(texts[:4])}{more}) {'are' if count > 1 else 'is'} read as missing, "
        "as in the published run; --prompts clean keeps what is written"
    )


def _scored(found: Run, rows: Sequence[Row], *, judge: Judge | None, rule: str = VLMEVALKIT) -> TaskOutcome:
    task = task_score.task_of(found)
    outcome = TaskOutcome(task=task, path=found.path, complete=True, failed=found.failed)
    if rule not in (VLMEVALKIT, *task.rules):
        return replace(outcome, note=f"has no rule {rule}")
    missing = found.header.questions - len(found.answered)
    if task.hidden and missing:
        return replace(outcome, note=f"{counted(missing, 'question')} more for its server")
    if task.hidden:
        return replace(outcome, submission=submission.write(task, rows, found.predictions, found.path.parent))
    try:
        made = task_score.score(found, rows, judge=judge if task.judged else None, rule=rule)
    except DataError as error:
        if not missing:
            raise
        return replace(outcome, note=f"{counted(missing, 'question')} more for a score: {error}")
    return replace(outcome, result=made)


def load_once(load: Callable[[], Answers]) -> Answers:
    """Wrap a model so that it is loaded at its first question."""
    loaded: list[Answers] = []

    def answers(questions: Sequence[Question]) -> Sequence[str | IxcError]:
        if not loaded:
            loaded.append(load())
        return loaded[0](questions)

    return answers
