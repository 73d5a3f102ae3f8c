"""The commands `ixc eval ...`: benchmarks are asked, scored and reported; as everywhere, each calls one room.

ixc eval NAME...     asks a model and scores it (its full name is `ixc eval run`)
ixc eval score       predictions -> scores, without a model
ixc eval report      runs -> Markdown, JSON and one HTML page
ixc eval synth       drawn documents the embedded model never saw
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from ixc import __version__
from ixc.cli.checks import check_model, check_run
from ixc.cli.options import Device, Dtype, Json, Model, Rule, examples, load_engine
from ixc.cli.terminal import board, watch
from ixc.errors import UsageError
from ixc.inference.settings import check_tiling

if TYPE_CHECKING:
    from ixc.evals.runner import Answers, RunStep
    from ixc.evals.suite import TaskOutcome
    from ixc.evals.synthetic import Answers as DrawnAnswers
    from ixc.evals.task import Judge, Row, Task


class _NamesToo(TyperGroup):
    """What is no command is the name of a benchmark: `ixc eval docvqa_val` is `ixc eval run docvqa_val`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if args and args[0] not in self.commands and args[0] != "--help":
            args = ["run", *args]
        return super().parse_args(ctx, args)


evals = typer.Typer(
    cls=_NamesToo,
    help="Scores of a model on benchmarks: `ixc eval NAME...` asks, `score` and `report` need no model.",
    no_args_is_help=True,
    rich_markup_mode="rich",
    epilog=examples(
        "ixc eval docvqa_val chartqa --model ./ixc-4khd-7b",
        "ixc eval paper --endpoint http://localhost:8000/v1 --out runs/eval/served",
        "ixc eval score runs/eval/nano",
        "ixc eval report runs/eval/nano runs/eval/served --out report",
    ),
)

DATA = Path("~/.cache/ixc/data")
"""Where data files lie, and are downloaded to, when nothing is said."""

Data = Annotated[Path | None, typer.Option("--data", help=f"Folder of the TSV files, or one of them; default: {DATA}.")]
JudgeUrl = Annotated[
    str | None, typer.Option("--judge", help="OpenAI-compatible judge of MM-Vet and MathVista; default: by rule.")
]
JudgeModel = Annotated[str | None, typer.Option("--judge-model", help="Its served name; default: the first.")]


@evals.command(
    name="run",
    epilog=examples(
        "ixc eval docvqa_val chartqa --model ./ixc-4khd-7b",
        "ixc eval paper --data ./tsv --out runs/eval/nano",
        "ixc eval ocrbench --endpoint http://localhost:8000/v1 --prompts clean --limit 100",
        "ixc eval run mmbench_en --model ./ixc-4khd-7b --rank 2/4",
    ),
)
def run(
    names: Annotated[list[str], typer.Argument(metavar="NAME...", help="Benchmarks, or `paper` for its sixteen.")],
    model: Annotated[
        str | None, typer.Option("--model", help="Model folder; default: the embedded one. With --endpoint a name.")
    ] = None,
    endpoint: Annotated[str | None, typer.Option("--endpoint", help="OpenAI-compatible server instead.")] = None,
    data: Data = None,
    out: Annotated[Path | None, typer.Option("--out", help="Folder of the run; default: runs/eval/MODEL.")] = None,
    prompts: Annotated[str, typer.Option("--prompts", help="published or clean.")] = "published",
    limit: Annotated[int | None, typer.Option("--limit", help="The first so many questions of each only.")] = None,
    rank: Annotated[str, typer.Option("--rank", help="i/n: this is the i-th of n processes.")] = "1/1",
    hd: Annotated[int | None, typer.Option("--hd", help="Most tiles an image; default: the benchmark's.")] = None,
    partition: Rule = None,
    judge: JudgeUrl = None,
    judge_model: JudgeModel = None,
    plain: Annotated[bool, typer.Option("--plain", help="Send the server OpenAI's own fields only.")] = False,
    parallel: Annotated[int | None, typer.Option("--parallel", help="Requests at once to the server, else 8.")] = None,
    device: Device = "auto",
    dtype: Dtype = "auto",
    as_json: Json = False,
) -> None:
    """Ask benchmarks' questions and score the answers; the same command goes on where it was killed."""
    from ixc.evals import suite as room

    tasks = room.tasks_of(names)
    folder_of_data, ranks = _data(data), _rank(rank)
    check_tiling(None, partition)
    room.check_hd(hd)
    room.check_style(prompts)
    if endpoint is None:
        _refuse({"--plain": plain, "--parallel": parallel is not None}, "without --endpoint")
        name, answers, settings = _local(model, device=device, dtype=dtype, partition=partition)
    else:
        _refuse({"--device": device != "auto", "--dtype": dtype != "auto", "--partition": partition}, "with --endpoint")
        _check_plain(plain, prompts=prompts, hd=hd)
        name, answers, settings = _served(endpoint, model, plain=plain, parallel=parallel)
    folder = out or Path("runs", "eval", name.replace("/", "_"))
    common = {"data": folder_of_data, "style": prompts, "limit": limit, "rank": ranks, "hd": hd}
    plan = room.SuitePlan(model=name, version=__version__, folder=folder, settings=settings, **common)
    asked = _judge(judge, judge_model, folder)
    with board() as show:
        progress = partial(show, "data")
        events = room.series(tasks, answers, plan=plan, judge=asked, progress=progress)
        done = list(_outcomes(events, show))
    _print(done, as_json=as_json)


def _refuse(given: dict[str, Any], how: str) -> None:
    """An option that would do nothing is an error."""
    if useless := [name for name, value in given.items() if value]:
        raise UsageError(f"{', '.join(useless)} has no effect {how}; leave it out")


def _check_plain(plain: bool, *, prompts: str, hd: int | None) -> None:
    if not plain:
        return
    _refuse({"--hd": hd is not None}, "with --plain: such a server has its own resolution")
    if prompts == "published":
        raise UsageError("--plain asks without beams, HD and begun answers, which published prompts need; "
                         "add --prompts clean")  # fmt: skip


def _local(model: str | None, *, device: str, dtype: str, partition: str | None) -> tuple[str, Answers, dict[str, Any]]:
    """(name, answers, settings) of a model folder."""
    from ixc.evals.suite import once
    from ixc.inference.cost import read_tiling
    from ixc.inference.model_folder import fingerprint

    if model is not None and not os.path.isdir(model):
        raise UsageError(f"no folder {model}; give a model's folder, or --endpoint URL for a server")
    check_run(device=device, dtype=dtype)
    folder = check_model(None if model is None else Path(model))
    from ixc.inference.batch import number_type

    rule = partition or read_tiling(folder).get("rule", "original")

    def load() -> Answers:
        from ixc.inference import batch

        engine = load_engine(folder, device=device, dtype=dtype)
        return lambda questions: batch.answer(
            engine, [batch.Request(name=f"question {q.index}", **_fields(q)) for q in questions], partition=rule
        )

    # The header says what "auto" comes to: it differs between machines, and the answers may with it.
    settings = {"dtype": number_type(device, dtype), "partition": rule, "weights": fingerprint(folder)}
    return folder.resolve().name, once(load), settings


def _fields(question: Any) -> dict[str, Any]:
    names = ("images", "text", "hd", "num_beams", "max_new_tokens", "raw")
    return {name: getattr(question, name) for name in names}


def _served(url: str, model: str | None, *, plain: bool, parallel: int | None) -> tuple[str, Answers, dict[str, Any]]:
    """(name, answers, settings) of a model behind a server."""
    from ixc.evals import endpoint as room

    asked = {} if parallel is None else {"parallel": parallel}
    there = room.connect(url, model=model, key=os.environ.get("OPENAI_API_KEY"), plain=plain, **asked)
    return there.model, lambda questions: room.answers(there, questions), {"endpoint": True, "plain": plain}


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


def _outcomes(events: Iterable[RunStep | TaskOutcome], show: Any) -> Iterable[TaskOutcome]:
    from ixc.evals.runner import RunStep

    for event in events:
        if isinstance(event, RunStep):
            show(_words(event), event.done, event.total)
        else:
            yield event


def _words(step: RunStep) -> str:
    """The task, its running score and the time left."""
    score = "" if step.score is None else f" {step.score:.1f}"
    if step.seconds_left is None:
        return f"{step.task}{score}"
    minutes, seconds = divmod(int(step.seconds_left), 60)
    return f"{step.task}{score}, {minutes // 60}:{minutes % 60:02}:{seconds:02} left"


@evals.command(
    name="score",
    epilog=examples(
        "ixc eval score runs/eval/nano/docvqa_val.jsonl",
        "ixc eval score runs/eval/nano --data ./tsv --json",
        "ixc eval score runs/eval/nano/mmvet.jsonl --judge http://localhost:8001/v1",
        "ixc eval score runs/eval/nano/mmmu.jsonl --rule official",
    ),
)
def score(
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="Predictions, or folders of runs.")],
    data: Data = None,
    rule: Annotated[
        str | None, typer.Option("--rule", help="lmms, official or notebook; default: VLMEvalKit's, the paper's.")
    ] = None,
    judge: JudgeUrl = None,
    judge_model: JudgeModel = None,
    as_json: Json = False,
) -> None:
    """Score predictions again, without the model; a split scored by a server gets its submission file."""
    from ixc.evals import predictions, result, suite

    folder = _data(data)
    runs = [predictions.read(path) for given in files for path in result.files_of(given)]
    judged = [result.task_of(run).judged for run in runs]
    if not any(judged):
        _refuse({"--judge": judge, "--judge-model": judge_model}, "on benchmarks that need no judge")
    wanted = _metric_rule(rule, [result.task_of(run) for run in runs])
    done = [
        suite.again(run, folder, judge=_judge(judge, judge_model, run.path.parent) if needs else None, rule=wanted)
        for run, needs in zip(runs, judged, strict=True)
    ]
    _print(done, as_json=as_json)


def _metric_rule(given: str | None, tasks: Sequence[Task]) -> str:
    """The rule, once one of the benchmarks has it."""
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
    runs: Annotated[list[Path], typer.Argument(metavar="RUN...", help="Folders of runs; the first is ours.")],
    data: Data = None,
    out: Annotated[Path | None, typer.Option("--out", help="Folder of the report; default: the first run's.")] = None,
) -> None:
    """Write a report: report.md, report.json and report.html, which needs no network."""
    from ixc.evals import download
    from ixc.evals import report as room

    folder = _data(data)

    def rows_of(task: Task) -> Sequence[Row] | None:
        there = folder.is_file() or (folder / f"{task.dataset}.tsv").exists()
        return task.read(folder) if there else None

    def md5_of(task: Task) -> str:
        return download.md5_of(folder if folder.is_file() else folder / f"{task.dataset}.tsv")

    found = [room.gather(run, rows_of=rows_of, md5_of=md5_of, name=run.resolve().name) for run in runs]
    for path in room.write(found, out=out or runs[0]):
        print(path)


def _print(outcomes: Sequence[TaskOutcome], *, as_json: bool) -> None:
    if as_json:
        print(json.dumps([_as_dict(outcome) for outcome in outcomes], ensure_ascii=False))
        return
    print("| benchmark | score | paper | metric | answered |\n|---|---|---|---|---|")
    for outcome in outcomes:
        print(f"| {' | '.join(_cells(outcome))} |")


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
    file = outcome.submission
    return found | {"file": str(outcome.path), "submission": None if file is None else str(file)}


def _to_ask(model: Path | None, *, device: str, dtype: str) -> DrawnAnswers:
    from ixc.inference.lazy import LazyEngine

    engine = LazyEngine(lambda: load_engine(model, device=device, dtype=dtype))
    return lambda image, question, hd: engine.ask([image], question, hd=hd).text


@evals.command(
    name="synth",
    epilog=examples(
        "ixc eval synth",
        "ixc eval synth --model runs/nano/model -n 100 --json",
        "ixc eval synth -n 7000 --keep cases.jsonl --processes 4",
    ),
)
def eval_synth(
    model: Model = None,
    count: Annotated[int, typer.Option("-n", "--count", help="Held-out documents.")] = 500,
    kind: Annotated[str | None, typer.Option("--kind", help="Kind, as of ixc synth; default: all in turn.")] = None,
    hd: Annotated[
        int | None, typer.Option("--hd", help="Setting they are drawn for, up to 55; default: 1, 4, 9.")
    ] = None,
    keep: Annotated[
        Path | None, typer.Option("--keep", help="File of finished documents; a run that finds it goes on behind them.")
    ] = None,
    processes: Annotated[
        int, typer.Option("--processes", min=1, help="Answer in so many, each with the model in memory; default: one.")
    ] = 1,
    device: Device = "auto",
    dtype: Dtype = "auto",
    as_json: Json = False,
) -> None:
    """Exact match on held-out documents, half of them in held-out fonts, by kind of question and by HD."""
    check_run(device=device, dtype=dtype)
    check_model(model)
    from ixc.synth.page_sampling import check_drawn

    check_drawn(kind, hd)
    from ixc.evals import synthetic as room
    from ixc.evals.parallel import ask_side_by_side
    from ixc.inference.model_folder import fingerprint, found

    load = partial(_to_ask, model, device=device, dtype=dtype)
    crew = partial(ask_side_by_side, load, processes=processes, kind=kind, hd=hd) if processes > 1 else None
    cases = room.run(
        None if crew else load(),
        crew=crew,
        count=count,
        keep=keep,
        model=" ".join([fingerprint(found(model)), *([kind] if kind else []), *([f"HD-{hd}"] if hd else [])]),
        kind=kind,
        hd=hd,
    )
    result = watch(cases, total=count, what="asking")
    print(json.dumps(result.as_dict()) if as_json else result)
