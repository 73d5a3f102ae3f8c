"""The commands `ixc eval ...`: ask benchmarks, score predictions, write reports.

ixc eval NAME...     asks a model and scores it (its full name is `ixc eval run`)
ixc eval score       predictions -> scores, without a model
ixc eval report      runs -> Markdown, JSON and one HTML page
ixc eval synth       exact match on held-out synthetic documents
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from ixc import __version__
from ixc.cli.checks import check_model, check_run
from ixc.cli.options import Device, Dtype, Json, Model, Partition, examples, load_engine, renamed, takes
from ixc.cli.progress import LogJson, Quiet, described_progress, note, watch
from ixc.cli.ray_options import Ray, RayCpus, RayGpus, placement
from ixc.errors import UsageError
from ixc.inference.settings import check_tiling

if TYPE_CHECKING:
    from ixc.evals.runner import Answers, RunStep, StreamedAnswers
    from ixc.evals.suite import TaskOutcome
    from ixc.evals.synthetic import Answers as SyntheticAnswers
    from ixc.evals.task import Judge, Row, Task


class _BenchmarkNames(TyperGroup):
    """Read what is no command as a benchmark: `ixc eval docvqa_val` is `ixc eval run docvqa_val`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if args and args[0] not in self.commands and args[0] != "--help":
            args = ["run", *args]
        return super().parse_args(ctx, args)


evals = typer.Typer(
    cls=_BenchmarkNames,
    help="Score a model on benchmarks: `ixc eval NAME...` asks, `score` and `report` need no model.",
    no_args_is_help=True,
    rich_markup_mode="rich",
    epilog=examples(
        "ixc eval docvqa_val chartqa --model ./ixc-4khd-7b",
        "ixc eval paper --endpoint http://localhost:8000/v1 --out runs/eval/served",
        "ixc eval score runs/eval/nano",
        "ixc eval report runs/eval/nano runs/eval/served --out report",
    ),
)

SHOWN_FAILURES = 3
"""Failed questions whose reasons are printed; the predictions file holds all of them."""

DATA = Path("~/.cache/ixc/data")
"""Default folder of data files and downloads."""

Data = Annotated[Path | None, typer.Option("--data", help=f"Folder of the TSV files, or one of them; default: {DATA}.")]
JudgeUrl = Annotated[
    str | None, typer.Option("--judge", help="OpenAI-compatible judge of MM-Vet and MathVista; default: by rule.")
]
JudgeModel = Annotated[str | None, typer.Option("--judge-model", help="Its served name; default: the first.")]


@dataclass(frozen=True, kw_only=True)
class EvalOptions:
    """Options of `ixc eval run`; the help of each field says what it does."""

    names: Annotated[list[str], typer.Argument(metavar="NAME...", help="Benchmarks, or `paper` for its sixteen.")]
    model: Annotated[
        str | None, typer.Option("--model", help="Model folder; default: the embedded one. With --endpoint a name.")
    ] = None
    endpoint: Annotated[str | None, typer.Option("--endpoint", help="OpenAI-compatible server instead.")] = None
    data: Data = None
    out: Annotated[Path | None, typer.Option("--out", help="Folder of the run; default: runs/eval/MODEL.")] = None
    prompts: Annotated[str, typer.Option("--prompts", help="published or clean.")] = "published"
    limit: Annotated[int | None, typer.Option("--limit", help="Ask only the first so many questions of each.")] = None
    rank: Annotated[str, typer.Option("--rank", help="i/n: this is the i-th of n processes.")] = "1/1"
    hd: Annotated[int | None, typer.Option("--hd", help="HD-n of every image; default: the benchmark's.")] = None
    partition: Partition = None
    judge: JudgeUrl = None
    judge_model: JudgeModel = None
    openai_only: Annotated[bool, typer.Option("--openai-only", help="Send the server OpenAI's fields only.")] = False
    parallel: Annotated[
        int | None, typer.Option("--parallel", min=1, help="Concurrent requests to the server; default: 8.")
    ] = None
    ray: Ray = None
    ray_cpus: RayCpus = None
    ray_gpus: RayGpus = None
    device: Device = "auto"
    dtype: Dtype = "auto"
    as_json: Json = False
    quiet: Quiet = False
    log_json: LogJson = False


@evals.command(
    name="run",
    cls=renamed({"--plain": "--openai-only"}),
    epilog=examples(
        "ixc eval docvqa_val chartqa --model ./ixc-4khd-7b",
        "ixc eval paper --data ./tsv --out runs/eval/nano",
        "ixc eval ocrbench --endpoint http://localhost:8000/v1 --prompts clean --limit 100",
        "ixc eval run mmbench_en --model ./ixc-4khd-7b --rank 2/4",
    ),
)
@takes(EvalOptions)
def run(options: EvalOptions) -> None:
    """Ask the questions of benchmarks and score the answers; the same command resumes an interrupted run.

    A question that fails costs only its own answer: exit code 1, and the same command asks it again.
    """
    from ixc.evals import suite

    tasks = suite.tasks_of(options.names)
    data, rank = _data(options.data), _rank(options.rank)
    check_tiling(None, options.partition)
    suite.check_hd(options.hd)
    suite.check_style(options.prompts)
    suite.check_files(tasks, data)
    name, answers, settings = _local(options) if options.endpoint is None else _served(options, options.endpoint)
    folder = options.out or Path("runs", "eval", name.replace("/", "_"))
    plan = suite.SuitePlan(
        model=name,
        version=__version__,
        folder=folder,
        data=data,
        style=options.prompts,
        limit=options.limit,
        rank=rank,
        hd=options.hd,
        settings=settings,
    )
    judge = _judge(options.judge, options.judge_model, folder)
    with described_progress() as progress:
        events = suite.run_suite(tasks, answers, plan=plan, judge=judge, progress=partial(progress, "data"))
        done = list(_outcomes(events, progress))
    _print(done, as_json=options.as_json)
    for outcome in done:
        _note_failures(outcome, "the same command asks again only what failed (mended data: another --out)")
    if any(outcome.failed for outcome in done):
        raise typer.Exit(1)


def _refuse(given: dict[str, Any], when: str) -> None:
    """Raise for options that have no effect."""
    if useless := [name for name, value in given.items() if value]:
        raise UsageError(f"{', '.join(useless)} has no effect {when}; leave it out")


def _local(options: EvalOptions) -> tuple[str, Answers | StreamedAnswers, dict[str, Any]]:
    """Return (name, answers, settings) of a model folder."""
    from ixc.evals.suite import load_once
    from ixc.inference.cost import read_tiling
    from ixc.inference.model_folder import fingerprint

    given = {"--openai-only": options.openai_only, "--parallel": options.parallel is not None}
    _refuse(given, "without --endpoint")
    if options.model is not None and not os.path.isdir(options.model):
        raise UsageError(f"no folder {options.model}; give a model's folder, or --endpoint URL for a server")
    check_run(device=options.device, dtype=options.dtype)
    placed = placement(options.ray, cpus=options.ray_cpus, gpus=options.ray_gpus, device=options.device)
    folder = check_model(None if options.model is None else Path(options.model))
    if placed is not None:
        from ixc.cli.eval_ray import on_ray

        return on_ray(folder, placed, dtype=options.dtype, partition=options.partition)
    from ixc.inference.batch import resolved_dtype

    partition = options.partition or read_tiling(folder).get("rule", "original")

    def load() -> Answers:
        from ixc.cli.eval_ray import answering

        return answering(load_engine(folder, device=options.device, dtype=options.dtype), partition)

    # The header records the number type that "auto" resolves to: it differs between machines, and so may answers.
    number = resolved_dtype(options.device, options.dtype)
    settings = {"dtype": number, "partition": partition, "weights": fingerprint(folder)}
    return folder.resolve().name, load_once(load), settings


def _served(options: EvalOptions, url: str) -> tuple[str, Answers, dict[str, Any]]:
    """Return (name, answers, settings) of a model behind a server."""
    from ixc.evals import endpoint

    given = {"--device": options.device != "auto", "--dtype": options.dtype != "auto", "--ray": options.ray}
    _refuse(given | {"--partition": options.partition}, "with --endpoint")
    if options.openai_only:
        _refuse({"--hd": options.hd is not None}, "with --openai-only: such a server has its own resolution")
        if options.prompts == "published":
            raise UsageError(
                "--openai-only asks without beams, HD and begun answers, which published prompts need; "
                "add --prompts clean"
            )
    parallel = {} if options.parallel is None else {"parallel": options.parallel}
    key = os.environ.get("OPENAI_API_KEY")
    connected = endpoint.connect(url, model=options.model, key=key, openai_only=options.openai_only, **parallel)
    settings = {"endpoint": True, "openai_only": options.openai_only}
    return connected.model, lambda questions: endpoint.answers(connected, questions), settings


def _judge(url: str | None, model: str | None, folder: Path) -> Judge | None:
    if url is None:
        if model is not None:
            raise UsageError("--judge-model has no effect without --judge URL; give both")
        return None
    from ixc.evals.endpoint import connect
    from ixc.evals.judge import judge

    return judge(connect(url, model=model, key=os.environ.get("OPENAI_API_KEY")), folder / "judge.cache")


def _data(given: Path | None) -> Path:
    if given is not None and not given.exists():
        raise UsageError(f"no folder {given}; make it, and data is downloaded into it")
    return DATA.expanduser() if given is None else given


def _rank(text: str) -> tuple[int, int]:
    number, slash, ranks = text.partition("/")
    if not (slash and number.isdecimal() and ranks.isdecimal() and 1 <= int(number) <= int(ranks)):
        raise UsageError(f"--rank is {text!r}, i/n with 1 <= i <= n needed: 1/4, 2/4, 3/4 and 4/4")
    return int(number), int(ranks)


def _outcomes(events: Iterable[RunStep | TaskOutcome], progress: Any) -> Iterable[TaskOutcome]:
    from ixc.evals.runner import RunStep

    for event in events:
        if isinstance(event, RunStep):
            progress(_progress_text(event), event.done, event.total)
        else:
            yield event


def _progress_text(step: RunStep) -> str:
    """Describe the task, its running score, what failed and the time left."""
    score = "" if step.score is None else f" {step.score:.1f}"
    failed = f", {step.failed} failed" if step.failed else ""
    if step.seconds_left is None:
        return f"{step.task}{score}{failed}"
    minutes, seconds = divmod(int(step.seconds_left), 60)
    return f"{step.task}{score}{failed}, {minutes // 60}:{minutes % 60:02}:{seconds:02} left"


@dataclass(frozen=True, kw_only=True)
class ScoreOptions:
    """Options of `ixc eval score`; the help of each field says what it does."""

    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="Predictions, or folders of runs.")]
    data: Data = None
    rule: Annotated[
        str | None,
        typer.Option("--rule", help="Scoring rule: lmms, official or notebook; default: VLMEvalKit's, the paper's."),
    ] = None
    judge: JudgeUrl = None
    judge_model: JudgeModel = None
    as_json: Json = False


@evals.command(
    name="score",
    epilog=examples(
        "ixc eval score runs/eval/nano/docvqa_val.jsonl",
        "ixc eval score runs/eval/nano --data ./tsv --json",
        "ixc eval score runs/eval/nano/mmvet.jsonl --judge http://localhost:8001/v1",
        "ixc eval score runs/eval/nano/mmmu.jsonl --rule official",
    ),
)
@takes(ScoreOptions)
def score(options: ScoreOptions) -> None:
    """Score predictions again, without the model; a split scored by a server gets its submission file."""
    from ixc.evals import predictions, suite, task_score

    data = _data(options.data)
    runs = [predictions.read(path) for given in options.files for path in task_score.files_of(given)]
    judged = [task_score.task_of(run).judged for run in runs]
    if not any(judged):
        _refuse({"--judge": options.judge, "--judge-model": options.judge_model}, "on benchmarks that need no judge")
    rule = _scoring_rule(options.rule, [task_score.task_of(run) for run in runs])
    done = []
    for run, needs_judge in zip(runs, judged, strict=True):
        judge = _judge(options.judge, options.judge_model, run.path.parent) if needs_judge else None
        done.append(suite.rescore(run, data, judge=judge, rule=rule))
    _print(done, as_json=options.as_json)
    for outcome in done:
        _note_failures(outcome, "the command that asked them asks them again")


def _scoring_rule(given: str | None, tasks: Sequence[Task]) -> str:
    """Return the rule after checking that one of the benchmarks has it."""
    from ixc.evals.metrics.rule import VLMEVALKIT

    if given in (None, VLMEVALKIT) or any(given in task.rules for task in tasks):
        return given or VLMEVALKIT
    known = "; ".join(f"{task.name}: {', '.join((VLMEVALKIT, *task.rules))}" for task in tasks)
    raise UsageError(f"no rule {given!r} here; {known}")


@evals.command(
    name="report",
    epilog=examples(
        "ixc eval report runs/eval/nano",
        "ixc eval report runs/eval/ours runs/eval/theirs --data ./tsv --out report",
    ),
)
def report(
    runs: Annotated[
        list[Path], typer.Argument(metavar="RUN...", help="Folders of runs; the others are compared with the first.")
    ],
    data: Data = None,
    out: Annotated[Path | None, typer.Option("--out", help="Folder of the report; default: the first run's.")] = None,
) -> None:
    """Write a report: report.md, report.json and report.html, which needs no network."""
    from ixc.evals import download
    from ixc.evals import report as reports

    folder = _data(data)

    def rows_of(task: Task, style: str) -> Sequence[Row] | None:
        there = folder.is_file() or (folder / f"{task.dataset}.tsv").exists()
        return task.read(folder, style=style) if there else None

    def md5_of(task: Task) -> str:
        return download.md5_of(folder if folder.is_file() else folder / f"{task.dataset}.tsv")

    found = [reports.gather(run, rows_of=rows_of, md5_of=md5_of, name=run.resolve().name) for run in runs]
    for path in reports.write(found, out=out or runs[0]):
        print(path)


def _print(outcomes: Sequence[TaskOutcome], *, as_json: bool) -> None:
    if as_json:
        print(json.dumps([_as_dict(outcome) for outcome in outcomes], ensure_ascii=False))
        return
    print("| benchmark | score | paper | metric | answered |\n|---|---|---|---|---|")
    for outcome in outcomes:
        print(f"| {' | '.join(_cells(outcome))} |")


def _note_failures(outcome: TaskOutcome, remedy: str) -> None:
    """Say on stderr which cells were read as missing, and which questions have no answer, and why."""
    if outcome.warning:
        note(outcome.warning)
    failed = outcome.failed
    if not failed:
        return
    reasons = "; ".join(
        each.error if str(each.index) in each.error else f"question {each.index}: {each.error}"
        for each in failed[:SHOWN_FAILURES]
    )
    more = f" (and {len(failed) - SHOWN_FAILURES} more)" if len(failed) > SHOWN_FAILURES else ""
    count = f"{len(failed)} question{'s' if len(failed) > 1 else ''} failed and {'are' if len(failed) > 1 else 'is'}"
    note(f"{outcome.task.name}: {count} not scored: {reasons}{more}; all in {outcome.path}; {remedy}")


def _cells(outcome: TaskOutcome) -> list[str]:
    task, found = outcome.task, outcome.result
    paper = "" if task.paper is None else f"{task.paper:g}" + (f" ({task.paper_split})" if task.paper_split else "")
    if found is not None:
        answered = f"{len(found.run.answered)} of {found.run.header.questions}"
        return [task.name, f"{found.score.headline:.1f}", paper, found.score.name, answered]
    return [task.name, "", paper, f"send {outcome.submission}" if outcome.submission else outcome.note, ""]


def _as_dict(outcome: TaskOutcome) -> dict[str, Any]:
    if outcome.result is not None:
        found = {key: value for key, value in outcome.result.as_dict().items() if key not in ("per_row", "header")}
    else:
        found = {"task": outcome.task.name, "note": outcome.note}
    if outcome.failed:
        found |= {"failed": len(outcome.failed), "failures": [asdict(failure) for failure in outcome.failed]}
    if outcome.warning:
        found["warning"] = outcome.warning
    file = outcome.submission
    return found | {"file": str(outcome.path), "submission": None if file is None else str(file)}


def _load_answers(model: Path | None, *, device: str, dtype: str) -> SyntheticAnswers:
    """Return a callable that loads the model at its first question; picklable through `functools.partial`."""
    from ixc.inference.lazy import LazyEngine

    engine = LazyEngine(lambda: load_engine(model, device=device, dtype=dtype))
    return lambda image, question, hd: engine.ask([image], question, hd=hd).text


@dataclass(frozen=True, kw_only=True)
class SyntheticOptions:
    """Options of `ixc eval synth`; the help of each field says what it does."""

    model: Model = None
    count: Annotated[int, typer.Option("-n", "--count", help="Held-out documents.")] = 500
    kind: Annotated[str | None, typer.Option("--kind", help="Kind, as of ixc synth; default: all in turn.")] = None
    hd: Annotated[
        int | None, typer.Option("--hd", help="HD-n they are drawn for, up to 55; default: 1, 4, 9 in turn.")
    ] = None
    keep: Annotated[
        Path | None, typer.Option("--keep", help="File of finished documents; a run that finds it resumes.")
    ] = None
    processes: Annotated[
        int, typer.Option("--processes", min=1, help="Worker processes, each with its own model; default: one.")
    ] = 1
    device: Device = "auto"
    dtype: Dtype = "auto"
    as_json: Json = False
    quiet: Quiet = False
    log_json: LogJson = False


@evals.command(
    name="synth",
    epilog=examples(
        "ixc eval synth",
        "ixc eval synth --model runs/nano/model -n 100 --json",
        "ixc eval synth -n 7000 --keep cases.jsonl --processes 4",
    ),
)
@takes(SyntheticOptions)
def eval_synth(options: SyntheticOptions) -> None:
    """Exact match on held-out documents, half of them in held-out fonts, by kind of question and by HD."""
    check_run(device=options.device, dtype=options.dtype)
    check_model(options.model)
    from ixc.synth.page_sampling import check_drawn

    check_drawn(options.kind, options.hd)  # before `synthetic`, which imports numpy and the fonts
    from ixc.evals import synthetic
    from ixc.evals.parallel import ask_in_parallel
    from ixc.inference.model_folder import find_folder, fingerprint

    kind, hd = options.kind, options.hd
    load = partial(_load_answers, options.model, device=options.device, dtype=options.dtype)
    several = options.processes > 1
    answered_by = [fingerprint(find_folder(options.model)), *([kind] if kind else []), *([f"HD-{hd}"] if hd else [])]
    cases = synthetic.run(
        None if several else load(),
        parallel=partial(ask_in_parallel, load, processes=options.processes, kind=kind, hd=hd) if several else None,
        count=options.count,
        keep=options.keep,
        model=" ".join(answered_by),
        kind=kind,
        hd=hd,
    )
    result = watch(cases, total=options.count, what="asking")
    print(json.dumps(result.as_dict()) if options.as_json else result)
