"""The commands of training: `ixc train`, `ixc merge` and `ixc plan-train`.

A recipe is of one of two kinds, and each has its own options:

    NanoConfig    a small model from nothing, on pages drawn during training     --out --resume --device --report-to
    TrainConfig   a model folder is trained on --data: an adapter or the model   these, and all the others
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ixc.cli.checks import check_model, check_run
from ixc.cli.data import Stream, read_records
from ixc.cli.options import Device, Json, quiet_libraries, takes
from ixc.cli.progress import LogJson, Quiet, configure_logging, note, show_line, ticker, watch
from ixc.cli.terminal import existing, existing_path
from ixc.errors import UsageError
from ixc.inference.settings import check_tiling
from ixc.utils.counted import counted

if TYPE_CHECKING:
    from ixc.data.encoding import Encoder
    from ixc.data.mixture import Source
    from ixc.processing.processing import IxcProcessor
    from ixc.runlog.progress import Remaining, StepProgress, StepReport
    from ixc.runlog.trackers import Tracker
    from ixc.train.config import TrainConfig
    from ixc.train.precision import ComputeConfig
    from ixc.train.run import DataUse, TrainResult
    from ixc.train.throughput import ThroughputMeter

TRAIN_EXAMPLES = (
    "ixc train recipes/lora_nano.py --data conversations.jsonl --out runs/mine",
    "ixc train recipes/lora_nano.py --data conversations.jsonl --out runs/mine --resume",
    "ixc train recipes/lora.py --model ./ixc-4khd-7b --data charts.jsonl:25 --data scans.jsonl:55 --skip-invalid",
    "ixc train recipes/nano_small.py --report-to tensorboard",
    "ixc train recipes/nano.py --out runs/nano",
)

MERGE_EXAMPLES = (
    "ixc merge runs/mine ./my-model",
    "ixc merge ./adapter ./my-model --model ./ixc-4khd-7b",
)

PLAN_TRAIN_EXAMPLES = (
    "ixc plan-train recipes/sft_4khd.py",
    "ixc plan-train recipes/qlora.py --gpus 1 --gpu-memory 24 --json",
)

OLD_TRAIN_OPTIONS = {
    "--skip-broken": "--skip-invalid",
    "--held-out": "--eval-data",
    "--track": "--report-to",
    "--recompute": "--gradient-checkpointing",
    "--no-recompute": "--no-gradient-checkpointing",
}
"""Spelling of the last release -> spelling of today."""

LOGGED = 5
"""Records left out whose reasons are printed at the end of a run."""

SAVE_EVERY = 50
"""Steps between two checkpoints: minutes on a laptop, an hour of the 7B on one GPU."""


@dataclass(frozen=True, kw_only=True)
class TrainOptions:
    """Options of `ixc train`; None where the option was not given."""

    recipe: Annotated[Path, typer.Argument(metavar="RECIPE", help="Python file whose recipe() returns the run.")]
    data: Annotated[
        list[str] | None,
        typer.Option("--data", metavar="FILE[:HD]", help="Conversations to train on; may be repeated."),
    ] = None
    model: Annotated[
        Path | None, typer.Option("--model", help="Model folder to begin from; default: the embedded model.")
    ] = None
    out: Annotated[
        Path | None, typer.Option("--out", help="Folder of the run: checkpoints, log, weights; default: runs/RECIPE.")
    ] = None
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the folder's last checkpoint.")] = False
    hd: Annotated[int | None, typer.Option("--hd", help="Most tiles per image; default: the recipe's.")] = None
    images: Annotated[
        Path | None, typer.Option("--images", help="Folder that image paths start from; default: the data file's.")
    ] = None
    save_every: Annotated[
        int | None, typer.Option("--save-every", min=1, help=f"Steps between two checkpoints; default: {SAVE_EVERY}.")
    ] = None
    skip_invalid: Annotated[
        bool, typer.Option("--skip-invalid", help="Leave invalid records out and count them, instead of refusing.")
    ] = False
    merge: Annotated[
        bool, typer.Option("--merge", help="Merge the adapter at the end: the whole model in OUT/model.")
    ] = False
    stream: Stream = False
    eval_data: Annotated[
        list[str] | None,
        typer.Option("--eval-data", metavar="FILE[:HD]", help="Conversations to evaluate on at every checkpoint."),
    ] = None
    report_to: Annotated[
        list[str] | None,
        typer.Option("--report-to", help="Trackers: tensorboard, wandb or trackio; may be repeated."),
    ] = None
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Train nothing: print what would be trained, and draw the first batch.")
    ] = False
    device: Device = "auto"
    bf16: Annotated[bool | None, typer.Option("--bf16/--no-bf16", help="Compute in bfloat16; default: on GPUs.")] = None
    gradient_checkpointing: Annotated[
        bool | None,
        typer.Option(
            "--gradient-checkpointing/--no-gradient-checkpointing",
            help="Compute activations again in the backward pass to save memory; default: on GPUs.",
        ),
    ] = None
    eight_bit: Annotated[bool, typer.Option("--8-bit-optimizer", help="Keep AdamW's moments in 8 bit.")] = False
    quiet: Quiet = False
    log_json: LogJson = False

    @property
    def run_folder(self) -> Path:
        """Folder of the run."""
        return Path("runs") / self.recipe.stem if self.out is None else self.out

    def given_for_fine_tuning(self) -> list[str]:
        """Return the given options that only a recipe that fine-tunes has."""
        values = {
            "--data": self.data,
            "--model": self.model,
            "--hd": self.hd,
            "--images": self.images,
            "--save-every": self.save_every,
            "--skip-invalid": self.skip_invalid or None,
            "--bf16": self.bf16,
            "--gradient-checkpointing": self.gradient_checkpointing,
            "--8-bit-optimizer": self.eight_bit or None,
            "--merge": self.merge or None,
            "--stream": self.stream or None,
            "--dry-run": self.dry_run or None,
            "--eval-data": self.eval_data,
        }
        return [name for name, value in values.items() if value is not None]

    def compute_config(self) -> ComputeConfig:
        """Return how the device computes."""
        from ixc.train.precision import ComputeConfig

        return ComputeConfig(
            bfloat16=self.bf16, gradient_checkpointing=self.gradient_checkpointing, eight_bit=self.eight_bit
        )


def _train(options: TrainOptions) -> None:
    """Train by a recipe: fine-tune a model on your data, or make a small one from nothing.

    --resume goes on with a run after any kill, to the same weights.

    Several devices: torchrun --nproc-per-node 8 -m ixc train RECIPE, or accelerate launch -m ixc train RECIPE.
    """
    path = existing(str(options.recipe))
    configure_logging()
    from ixc.runlog.recipe_file import check_source as check_recipe
    from ixc.runlog.recipe_file import read

    check_recipe(path)
    _check_before(options)
    from ixc.nano.drawn_config import NanoConfig
    from ixc.train.config import TrainConfig

    config = read(path, NanoConfig, TrainConfig)
    if isinstance(config, TrainConfig):
        _fine_tune(config, options)
        return
    if given := options.given_for_fine_tuning():
        raise UsageError(
            f"{path} trains a model from nothing and takes no {' and no '.join(given)}; leave it out, or take a "
            "recipe that fine-tunes: recipes/lora_nano.py"
        )
    _train_from_nothing(path, options)


train = takes(TrainOptions)(_train)


def _check_before(options: TrainOptions) -> None:
    """Check what can be wrong with the options of any recipe, before torch is imported."""
    from ixc.data.validation import check_first_sound
    from ixc.model.checkpoint_files import check_unquantized
    from ixc.runlog.trackers import check as check_trackers

    check_run(device=options.device)
    check_trackers(options.report_to or [])
    check_tiling(options.hd, None)
    for given in (*(options.data or []), *(options.eval_data or [])):
        path, hd = _file_and_hd(given)
        check_tiling(hd, None)
        existing_path(path)
    if options.model is not None:
        check_unquantized(check_model(options.model), "training")
    for given in (*(options.data or []), *(options.eval_data or [])):
        path, _ = _file_and_hd(given)
        if path.is_file() and path.suffix != ".parquet" and not options.stream:
            check_first_sound(read_records(path, options.images), str(path))


def _train_from_nothing(recipe: Path, options: TrainOptions) -> None:
    """Run a `NanoConfig`: one progress line and one point per tracker for each step of every stage."""
    quiet_libraries()
    from ixc.nano.drawn_pipeline import run
    from ixc.runlog.trackers import trackers

    out = options.run_folder
    with ticker() as show, trackers(options.report_to or [], out, {"recipe": recipe.stem}) as opened:

        def on_step(step: StepReport, run_progress: Remaining) -> None:
            show(run_progress.text, run_progress.done, run_progress.total)
            scalars = {"loss": step.loss, **step.scores, "tokens_per_second": run_progress.tokens_per_second}
            for tracker in opened:
                tracker(step.step, {**scalars, "minutes_left": run_progress.seconds_left / 60}, stage=step.stage)

        folder = run(recipe, out=out, resume=options.resume, device=options.device, watch=on_step)
    print(folder)


def _fine_tune(config: TrainConfig, options: TrainOptions) -> None:
    """Check data, folder and processor before the weights are read, then train."""
    quiet_libraries()
    from ixc.inference.model_folder import check_agreement, check_settings, find_folder, read_processor
    from ixc.train.setup import check_out, config_for_model

    if not options.data:
        raise UsageError(f"the recipe {config.name} learns from data and 0 files are named; add --data FILE.jsonl")
    if options.merge and config.adapter is None:
        raise UsageError(f"the recipe {config.name} has 0 adapters to merge; leave out --merge")
    if not options.dry_run:
        check_out(options.run_folder, resume=options.resume)
    base = find_folder(options.model)
    check_settings(base)
    config, processor = config_for_model(config, base), read_processor(base)
    check_agreement(base, config.model, processor)
    if options.dry_run:
        _dry_run(config, options, processor)
    else:
        _report_result(_run(config, options, base, processor), options, base, processor)


def _run(config: TrainConfig, options: TrainOptions, base: Path, processor: IxcProcessor) -> TrainResult:
    from ixc.runlog.trackers import trackers
    from ixc.train.evaluation import Evaluation
    from ixc.train.run import RunConfig, run
    from ixc.train.setup import make_encoder
    from ixc.train.throughput import throughput_meter

    encoder, out = make_encoder(config, processor), options.run_folder
    sources = _sources(config, options.data or [], options, encoder)
    evaluation = None
    if options.eval_data:
        eval_options = replace(options, stream=False)
        eval_sources = _sources(config, options.eval_data, eval_options, encoder, decode=options.skip_invalid)
        evaluation = Evaluation(eval_sources, encoder, max_tokens_per_batch=config.max_tokens_per_batch)
    run_config = RunConfig(
        train=config,
        base=base,
        base_name=None if options.model is None else str(base.resolve()),
        out=out,
        skip_invalid=options.skip_invalid,
        resume=options.resume,
        save_every=SAVE_EVERY if options.save_every is None else options.save_every,
        device=options.device,
        compute=options.compute_config(),
    )
    is_main = os.environ.get("RANK", "0") == "0"
    tracker_names = (options.report_to or []) if is_main else []
    with ticker() as show, trackers(tracker_names, out, {"recipe": config.name}) as opened:
        meter = throughput_meter(config)
        return run(
            run_config,
            sources,
            processor=processor,
            callbacks=[lambda progress: _show_step(progress, meter, show, opened)],
            evaluate=evaluation,
        )


def _report_result(result: TrainResult, options: TrainOptions, base: Path, processor: IxcProcessor) -> None:
    """Print the folder of the result, merged on request; at the main rank only."""
    from ixc.train.adapter_files import MODEL_FOLDER
    from ixc.train.export import merge_adapter

    if not result.is_main:
        return
    for used in result.data:
        _note_left_out(used)
    if result.folder is None:
        show_line(f"stopped at step {result.step} of {result.steps}; the same command with --resume goes on")
    elif options.merge:
        print(merge_adapter(result.folder, base, processor, options.run_folder / MODEL_FOLDER, replace=True))
    else:
        print(result.folder)


def _note_left_out(used: DataUse) -> None:
    """Say on stderr how many records of a file were used, and which were left out and why."""
    count = len(used.left_out)
    if count:
        reasons = "; ".join(
            f"{one.where.removeprefix(used.name).strip()}: {one.message}" for one in used.left_out[:LOGGED]
        )
        more = f"; and {count - LOGGED:,} more (see all: ixc data check --decode)" if count > LOGGED else ""
        note(
            f"{used.name}: {used.used:,} of {counted(used.records, 'record')} used, {count:,} left out: {reasons}{more}"
        )


def _show_step(
    progress: StepProgress,
    meter: ThroughputMeter,
    show: Callable[[str, int, int], None],
    trackers: Sequence[Tracker],
) -> None:
    """Pass a step on to the terminal and the trackers."""
    result, throughput = progress.result, meter(progress.tokens_per_second)
    show(f"{progress.text()}, {throughput.text()}", result.step, progress.steps)
    scalars = {
        "loss": result.loss,
        "learning_rate": result.learning_rate,
        "grad_norm": result.grad_norm,
        "tokens_per_second": progress.tokens_per_second,
    }
    for tracker in trackers:
        tracker(result.step, {**scalars, **throughput.scalars(), **progress.scores})


def _dry_run(config: TrainConfig, options: TrainOptions, processor: IxcProcessor) -> None:
    """Print what would be trained, in how many steps and how much memory; write the first batch as a page."""
    from ixc.data.mixture import Mixture
    from ixc.train.batch_preview import FIRST, write_preview
    from ixc.train.plan import local_memory, train_plan
    from ixc.train.setup import SEED, make_batches, make_encoder, total_steps

    mixture = Mixture(_sources(config, options.data or [], options, make_encoder(config, processor)), seed=SEED)
    plan = train_plan(config, gpus=1, gpu_memory=local_memory(), eight_bit=options.eight_bit)
    print("\n".join(plan.text()))
    print(
        f"\n{counted(total_steps(config, mixture), 'step')} of {counted(config.global_batch_size, 'conversation')}, "
        f"{mixture.round_length:,} in the data"
    )
    out = options.run_folder
    batches = make_batches(config, mixture, processor, skip_invalid=options.skip_invalid)
    print(write_preview(batches, out.with_name(f"{out.name}-{FIRST}")))


def _sources(
    config: TrainConfig, data: Sequence[str], options: TrainOptions, encoder: Encoder, *, decode: bool = False
) -> list[Source]:
    """Return the files of `--data` or `--eval-data`, every record of them validated, on request with its pixels."""
    files = [_file_and_hd(given) for given in data]
    if options.hd is not None and all(hd is not None for _, hd in files):
        raise UsageError(
            f"--hd {options.hd} has no effect: each of the {len(files)} data files names its own; leave it out"
        )
    names = [str(path) for path, _ in files]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise UsageError(f"--data {twice} is named {names.count(twice)} times; name each file once")
    return [
        _source(config, path, options.hd if hd is None else hd, options, encoder, decode=decode) for path, hd in files
    ]


def _source(
    config: TrainConfig, path: Path, hd: int | None, options: TrainOptions, encoder: Encoder, *, decode: bool
) -> Source:
    """Validate a file's records; the tokenised records are kept for training."""
    from ixc.data.encoding import TokenCache
    from ixc.data.mixture import Source
    from ixc.data.validation import usable_records, validate
    from ixc.train.setup import select_resolution

    resolution, cache = select_resolution(config, hd), TokenCache()
    records = read_records(path, options.images, stream=options.stream)
    steps = validate(records, encoder, hd=resolution.hd, token_cache=cache, decode=decode)
    report = watch(steps, total=len(records), what=f"checking {path.name}")
    return Source(
        name=str(path),
        records=records,
        hd=resolution.hd,
        dynamic=resolution.dynamic,
        indices=usable_records(report, skip=options.skip_invalid),
        shuffle=not options.stream,
        problems=report.problems,
        token_cache=cache,
    )


def _file_and_hd(given: str) -> tuple[Path, int | None]:
    """Split FILE:HD; a file whose own name ends like that is taken where it exists."""
    name, colon, hd = given.rpartition(":")
    if not colon or not hd.isdecimal() or Path(given).exists():
        return Path(given), None
    return Path(name), int(hd)


def merge(
    adapter: Annotated[Path, typer.Argument(metavar="ADAPTER|RUN", help="Folder of an adapter, or of its run.")],
    out: Annotated[Path, typer.Argument(metavar="DST", help="New or empty folder for the whole model.")],
    model: Annotated[
        Path | None, typer.Option("--model", help="Its base model's folder; default: the one it was trained beside.")
    ] = None,
) -> None:
    """Merge an adapter into its base model: a folder that loads like any other."""
    from ixc.model.checkpoint_files import check_unquantized
    from ixc.train.adapter_files import CONFIG_FILE, base_model_of, find_adapter, read_json_object
    from ixc.utils.files import check_free

    check_free(out)
    adapter = find_adapter(adapter)
    read_json_object(adapter / CONFIG_FILE)
    base = check_model(base_model_of(adapter) if model is None else model)
    check_unquantized(base, "an adapter to merge")
    quiet_libraries()
    from ixc.inference.model_folder import check_agreement, read_processor
    from ixc.model.loading import read_config
    from ixc.train.export import merge_adapter

    processor = read_processor(base)
    check_agreement(base, read_config(base), processor)
    print(merge_adapter(adapter, base, processor, out))


def plan_train(
    recipe: Annotated[Path, typer.Argument(metavar="RECIPE", help="Python file whose recipe() returns a TrainConfig.")],
    gpus: Annotated[int, typer.Option("--gpus", min=1, help="Devices the weights are sharded over.")] = 8,
    gpu_memory: Annotated[float, typer.Option("--gpu-memory", min=1, help="Memory of one device, GB.")] = 80,
    eight_bit: Annotated[bool, typer.Option("--8-bit-optimizer", help="Keep AdamW's moments in 8 bit.")] = False,
    as_json: Json = False,
) -> None:
    """Show what a training run would do: weights by part, learning rates, steps, memory of one device."""
    from ixc.runlog.recipe_file import check_source as check_recipe

    check_recipe(existing(str(recipe)))
    quiet_libraries()
    from ixc.train.config import read_train_config
    from ixc.train.plan import train_plan

    plan: Any = train_plan(read_train_config(recipe), gpus=gpus, gpu_memory=gpu_memory * 1e9, eight_bit=eight_bit)
    print(json.dumps(plan.as_dict()) if as_json else "\n".join(plan.text()))
