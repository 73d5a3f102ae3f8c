"""The commands of training: `ixc train` a recipe, `ixc merge` what came of it, `ixc plan-train` beforehand.

A recipe is of one of two kinds, and each has its own options:

    NanoRecipe    a small model from nothing, on pages drawn on the way          --out --resume --device --track
    Stage         a model folder learns from --data: an adapter, or everything   these, and all the others
"""

from __future__ import annotations

import json
import logging
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ixc.cli.checks import check_model, check_run
from ixc.cli.data import Stream, read_records
from ixc.cli.options import Device, Json, quiet_libraries
from ixc.cli.terminal import existing, ticker, watch
from ixc.errors import DataError, UsageError

if TYPE_CHECKING:
    from ixc.data.encoding import Encoder
    from ixc.data.mixture import Source
    from ixc.nano.step_report import Remaining, StepReport
    from ixc.processing.processing import IxcProcessor
    from ixc.runlog.progress import StepProgress
    from ixc.runlog.trackers import Tracker
    from ixc.train.config import TrainConfig
    from ixc.train.throughput import ThroughputMeter

TRAIN_EXAMPLES = (
    "ixc train recipes/lora_nano.py --data talks.jsonl --out runs/mine",
    "ixc train recipes/lora_nano.py --data talks.jsonl --out runs/mine --resume",
    "ixc train recipes/lora.py --model ./ixc-4khd-7b --data charts.jsonl:25 --data scans.jsonl:55 --skip-broken",
    "ixc train recipes/nano_small.py --track tensorboard",
    "ixc train recipes/nano.py --out runs/nano",
)

MERGE_EXAMPLES = (
    "ixc merge runs/mine ./my-reader",
    "ixc merge ./adapter ./my-reader --model ./ixc-4khd-7b",
)

PLAN_TRAIN_EXAMPLES = (
    "ixc plan-train recipes/sft_4khd.py",
    "ixc plan-train recipes/qlora.py --gpus 1 --gpu-memory 24 --json",
)

SAVE_EVERY = 50
"""Steps between two checkpoints: minutes on a laptop, an hour of the 7B on one card."""

Base = Annotated[Path | None, typer.Option("--model", help="Model folder to begin from; default: the embedded model.")]


def train(
    recipe: Annotated[Path, typer.Argument(metavar="RECIPE", help="Python file whose recipe() returns the run.")],
    data: Annotated[
        list[str] | None,
        typer.Option("--data", metavar="FILE[:HD]", help="Conversations to learn from; may be repeated."),
    ] = None,
    model: Base = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="Folder of the run: checkpoints, log, weights; default: runs/RECIPE.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on where the folder's last checkpoint stopped.")] = False,
    hd: Annotated[
        int | None, typer.Option("--hd", help="Most tiles an image may be cut into; default: the recipe's.")
    ] = None,
    images: Annotated[
        Path | None, typer.Option("--images", help="Where paths of images begin; default: the data file's folder.")
    ] = None,
    save_every: Annotated[
        int | None, typer.Option("--save-every", help=f"Steps between two checkpoints; default: {SAVE_EVERY}.")
    ] = None,
    skip_broken: Annotated[
        bool, typer.Option("--skip-broken", help="Leave broken records out and count them, instead of refusing.")
    ] = False,
    fold: Annotated[
        bool, typer.Option("--merge", help="Fold the adapter in at the end: the whole model in OUT/model.")
    ] = False,
    stream: Stream = False,
    held_out: Annotated[
        list[str] | None,
        typer.Option("--held-out", metavar="FILE[:HD]", help="Conversations to be tested on at every checkpoint."),
    ] = None,
    track: Annotated[
        list[str] | None, typer.Option("--track", help="Curves: tensorboard, wandb or trackio; may be repeated.")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Train nothing: tell what would learn, and draw the first batch.")
    ] = False,
    device: Device = "auto",
    bf16: Annotated[
        bool | None, typer.Option("--bf16/--no-bf16", help="Compute in bfloat16; default: on GPUs.")
    ] = None,
    recompute: Annotated[
        bool | None,
        typer.Option("--recompute/--no-recompute", help="Make activations again to save memory; default: on GPUs."),
    ] = None,
    eight_bit: Annotated[bool, typer.Option("--8-bit-optimizer", help="Moments of AdamW in 8 bit.")] = False,
) -> None:
    """Train by a recipe: fine-tune a model on your data, or make a small one from nothing.

    --resume goes on with a run after any kill, to the same weights.

    Several devices: torchrun --nproc-per-node 8 -m ixc train RECIPE, or accelerate launch -m ixc train RECIPE.
    """
    path = existing(str(recipe))
    out = Path("runs") / path.stem if out is None else out
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S", stream=sys.stderr)
    from ixc.runlog.recipe_file import check_source as check_recipe
    from ixc.runlog.recipe_file import read

    check_recipe(path)
    _check_before(data or [], held_out or [], track or [], model, device)
    from ixc.nano.drawn_config import NanoConfig
    from ixc.train.config import TrainConfig

    made = read(path, NanoConfig, TrainConfig)
    if isinstance(made, TrainConfig):
        _tune(
            made,
            data=data or [],
            model=model,
            out=out,
            resume=resume,
            hd=hd,
            images=images,
            save_every=SAVE_EVERY if save_every is None else save_every,
            skip_broken=skip_broken,
            stream=stream,
            fold=fold,
            held_out=held_out or [],
            track=track or [],
            dry_run=dry_run,
            device=device,
            how={"bfloat16": bf16, "gradient_checkpointing": recompute, "eight_bit": eight_bit},
        )
        return
    _refuse(path, {"--data": data, "--model": model, "--hd": hd, "--images": images, "--save-every": save_every,
                   "--skip-broken": skip_broken or None, "--bf16": bf16, "--recompute": recompute,
                   "--8-bit-optimizer": eight_bit or None, "--merge": fold or None, "--stream": stream or None,
                   "--dry-run": dry_run or None, "--held-out": held_out})  # fmt: skip
    _from_nothing(path, out=out, resume=resume, device=device, track=track or [])


def _check_before(data: list[str], held_out: list[str], track: list[str], model: Path | None, device: str) -> None:
    """What can be wrong with any recipe's options, before torch is imported."""
    from ixc.runlog.trackers import check as check_trackers

    check_run(device=device)
    check_trackers(track)
    for name in (str(_file(given)[0]) for given in (*data, *held_out)):
        if not Path(name).exists():
            raise DataError(f"no file {name}; check the path")
    if model is not None:
        check_model(model)


def _from_nothing(recipe: Path, *, out: Path, resume: bool, device: str, track: list[str]) -> None:
    """A line and a point of the curves for each step of every stage."""
    quiet_libraries()
    from ixc.nano.drawn_pipeline import run
    from ixc.runlog.trackers import trackers

    with ticker() as show, trackers(track, out, {"recipe": recipe.stem}) as curves:

        def tell(step: StepReport, whole: Remaining) -> None:
            show(whole.text, whole.done, whole.total)
            numbers = {"loss": step.loss, **step.scores, "tokens_per_second": whole.tokens_per_second}
            for curve in curves:
                curve(step.step, {**numbers, "minutes_left": whole.seconds_left / 60}, stage=step.stage)

        folder = run(recipe, out=out, resume=resume, device=device, watch=tell)
    print(folder)


def _refuse(recipe: Path, options: dict[str, Any]) -> None:
    """Options that fine-tuning has and a training from nothing has not."""
    given = [name for name, value in options.items() if value is not None]
    if given:
        raise UsageError(
            f"{recipe} trains a model from nothing and takes no {' and no '.join(given)}; leave it out, or take a "
            "recipe that fine-tunes: recipes/lora_nano.py"
        )


def _tune(
    stage: TrainConfig,
    *,
    data: list[str],
    model: Path | None,
    out: Path,
    resume: bool,
    hd: int | None,
    images: Path | None,
    save_every: int,
    skip_broken: bool,
    stream: bool,
    fold: bool,
    held_out: list[str],
    track: list[str],
    dry_run: bool,
    device: str,
    how: dict[str, Any],
) -> None:
    """Data, folder and processor are looked at before the weights are."""
    quiet_libraries()
    from ixc.inference.model_folder import check_agreement, check_settings, find_folder, read_processor
    from ixc.runlog.trackers import check as check_trackers
    from ixc.runlog.trackers import trackers
    from ixc.train.adapter_files import MODEL
    from ixc.train.evaluation import Evaluation
    from ixc.train.export_adapter import merge as fold_adapter
    from ixc.train.precision import ComputeConfig
    from ixc.train.run_stage import check_out, encoder, run_training, stage_for
    from ixc.train.throughput import throughput_meter

    if not data:
        raise UsageError(f"the recipe {stage.name} learns from data and 0 files are named; add --data talks.jsonl")
    if fold and stage.adapter is None:
        raise UsageError(f"the recipe {stage.name} has 0 adapters to fold in; leave out --merge")
    check_trackers(track)
    if not dry_run:
        check_out(out, resume=resume)
    folder = find_folder(model)
    check_settings(folder)
    stage, processor = stage_for(stage, folder), read_processor(folder)
    check_agreement(folder, stage.model, processor)
    sources = _sources(stage, data, encoder(stage, processor), hd=hd, images=images, skip=skip_broken, stream=stream)
    if dry_run:
        return _rehearse(stage, sources, processor, out, how)
    test = None
    if held_out:
        tested = _sources(stage, held_out, encoder(stage, processor), hd=hd, images=images, skip=skip_broken)
        test = Evaluation(tested, encoder(stage, processor), budget=stage.budget)
    leads = os.environ.get("RANK", "0") == "0"
    with ticker() as show, trackers(track if leads else (), out, {"recipe": stage.name}) as curves:
        gauge = throughput_meter(stage)
        tuned = run_training(
            stage,
            sources,
            base=folder,
            base_name=None if model is None else str(folder.resolve()),
            processor=processor,
            out=out,
            resume=resume,
            save_every=save_every,
            device=device,
            how=ComputeConfig(**how),
            watch=lambda glance: _tell(glance, gauge, show, curves),
            evaluate=test,
        )
    if not tuned.leads:
        return
    if tuned.folder is None:
        print(f"stopped at step {tuned.step} of {tuned.steps}; the same command with --resume goes on", file=sys.stderr)
    elif fold:
        print(fold_adapter(tuned.folder, folder, processor, out / MODEL, replace=True))
    else:
        print(tuned.folder)


def _tell(
    glance: StepProgress, gauge: ThroughputMeter, show: Callable[[str, int, int], None], curves: list[Tracker]
) -> None:
    """A step to the terminal and to the curves."""
    done, read = glance.done, gauge(glance.tokens_per_second)
    show(f"{glance.text()}, {read.text()}", done.step, glance.steps)
    numbers = {"loss": done.loss, "rate": done.rate, "norm": done.norm, "tokens_per_second": glance.tokens_per_second}
    for curve in curves:
        curve(done.step, {**numbers, **read.numbers(), **glance.scores})


def _rehearse(
    stage: TrainConfig, sources: list[Source], processor: IxcProcessor, out: Path, how: dict[str, Any]
) -> None:
    """`--dry-run`: what would learn, in how many steps and how much memory; the first batch as a page."""
    from ixc.data.mixture import Mixture
    from ixc.train.batch_preview import FIRST, draw
    from ixc.train.plan import memory_here, train_plan
    from ixc.train.run_stage import SEED, batches_of, steps_of

    mixture = Mixture(sources, seed=SEED)
    steps = steps_of(stage, mixture)
    print("\n".join(train_plan(stage, gpus=1, gpu_memory=memory_here(), eight_bit=how["eight_bit"]).text()))
    print(f"\n{steps:,} steps of {stage.samples:,} conversations, {mixture.round_length:,} in the data")
    print(draw(batches_of(stage, mixture, processor), out.with_name(f"{out.name}-{FIRST}")))


def _sources(
    stage: TrainConfig,
    data: list[str],
    encoder: Encoder,
    *,
    hd: int | None,
    images: Path | None,
    skip: bool,
    stream: bool = False,
) -> list[Source]:
    """The files of `--data`, every record of them checked."""
    from ixc.data.mixture import Source
    from ixc.data.validation import usable_records, validate
    from ixc.train.run_stage import resolution

    files = [_file(given) for given in data]
    if hd is not None and all(own is not None for _, own in files):
        raise UsageError(f"--hd {hd} has no effect: each of the {len(files)} data files names its own; leave it out")
    names = [str(path) for path, _ in files]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise UsageError(f"--data {twice} is named {names.count(twice)} times; name each file once")
    sources = []
    for path, own in files:
        setting = resolution(stage, hd if own is None else own)
        records = read_records(path, images, stream=stream)
        checked = watch(validate(records, encoder, hd=setting.hd), total=len(records), what=f"checking {path.name}")
        keep = usable_records(checked, skip=skip)
        sources.append(
            Source(
                name=str(path),
                records=records,
                hd=setting.hd,
                dynamic=setting.dynamic,
                keep=keep,
                shuffle=not stream,
            )
        )
    return sources


def _file(given: str) -> tuple[Path, int | None]:
    """FILE or FILE:HD; a file whose name ends like an HD is meant where it exists."""
    name, colon, hd = given.rpartition(":")
    if not colon or not hd.isdecimal() or Path(given).exists():
        return Path(given), None
    return Path(name), int(hd)


def merge(
    adapter: Annotated[Path, typer.Argument(metavar="ADAPTER|RUN", help="Folder of an adapter, or of its run.")],
    out: Annotated[Path, typer.Argument(metavar="DST", help="New or empty folder for the whole model.")],
    model: Annotated[
        Path | None, typer.Option("--model", help="Model folder it belongs to; default: the one it was trained beside.")
    ] = None,
) -> None:
    """Fold an adapter into its model: a folder that loads like any other."""
    from ixc.train.adapter_files import SETTINGS, base_of, find_adapter, read_json
    from ixc.utils.files import check_free

    check_free(out)
    adapter = find_adapter(adapter)
    read_json(adapter / SETTINGS)
    folder = check_model(base_of(adapter) if model is None else model)
    quiet_libraries()
    from ixc.inference.model_folder import check_agreement, read_processor
    from ixc.model.loading import read_config
    from ixc.train.export_adapter import merge as fold

    processor = read_processor(folder)
    check_agreement(folder, read_config(folder), processor)
    print(fold(adapter, folder, processor, out))


def plan_train(
    recipe: Annotated[Path, typer.Argument(metavar="RECIPE", help="Python file whose recipe() returns a Stage.")],
    gpus: Annotated[int, typer.Option("--gpus", help="Devices the weights are spread over.")] = 8,
    gpu_memory: Annotated[float, typer.Option("--gpu-memory", help="Memory of one device, GB.")] = 80,
    eight_bit: Annotated[bool, typer.Option("--8-bit-optimizer", help="Moments of AdamW in 8 bit.")] = False,
    as_json: Json = False,
) -> None:
    """Show what a training stage would do: weights by part, rate of every group, steps, memory of one device."""
    from ixc.runlog.recipe_file import check_source as check_recipe

    check_recipe(existing(str(recipe)))
    quiet_libraries()
    from ixc.train.config import read_train_config
    from ixc.train.plan import train_plan

    found = train_plan(read_train_config(recipe), gpus=gpus, gpu_memory=gpu_memory * 1e9, eight_bit=eight_bit)
    print(json.dumps(found.as_dict()) if as_json else "\n".join(found.text()))
