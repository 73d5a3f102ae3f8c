"""Train the embedded model on drawn pages by one command, from nothing to a model folder.

Stages that do not depend on each other run side by side, each in a process of one thread; a data-parallel stage has one
process for each replica. Processes report every step through a pipe. A process whose pipe has lost its reader ends at
its next step, and with it the other replicas of its stage, so that a killed run leaves no process behind.
"""

from __future__ import annotations

import os
import signal
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import asdict
from multiprocessing import get_context, parent_process
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

import torch
import torch.utils.deterministic
from torch import Tensor

from ixc.errors import DataError, IxcError, UsageError
from ixc.nano import state
from ixc.nano.bf16_cpu import bf16_products
from ixc.nano.data_parallel import DataParallel, init_replicas
from ixc.nano.drawn_config import NanoConfig, read_recipe
from ixc.nano.export import export, load_initial
from ixc.nano.stages import character_pretrain, layout_lm, ocr_alignment
from ixc.nano.stages.joint import Joint
from ixc.nano.step_report import ProgressEstimator, Remaining, StagePlan, StepReport, Watch
from ixc.utils.threads import available_cores

Show = Callable[[StepReport, Remaining], Any]
"""Called after each step of any stage."""

FROM_SCRATCH = ("layout_lm", "character_pretrain")
"""Stages that run side by side when a run starts from nothing."""

CONTINUED = ("ocr_alignment",)
"""Stages before the joint one when a run continues from a model."""


def run(recipe: Path, *, out: Path, resume: bool = False, device: str = "auto", watch: Show | None = None) -> Path:
    """Train by a recipe file; returns the model folder `out/model`.

    Args:
        recipe: Python file with a function `recipe()`.
        out: folder of states, logs of every stage (`STAGE.jsonl`) and the model.
        resume: continue from the states in `out`; without it existing states are an error and never overwritten.
        device: `cpu` or `auto`; models of this size train fastest on the CPU of one machine.
        watch: called after every step with the step and the estimate for the rest of the run.

    Raises:
        UsageError: no such recipe, states of an earlier run, another device.
        DataError: a state that cannot be read or written.
    """
    if device not in ("auto", "cpu"):
        raise UsageError(f"the embedded model trains on the CPU, not on {device}; use --device cpu")
    config = read_recipe(recipe)
    check_out(out, resume=resume)
    on_step = None if watch is None else _with_estimate(watch, ProgressEstimator(stage_plans(config)))
    began = time.monotonic()
    with threads(config.threads), bf16_products(wanted=config.bf16_cpu):
        joint = Joint(config.model, config.joint, out, on_step)
        if not joint.resume():
            _run_first_stages(joint, config, out, on_step)
        if config.joint.data_parallel > 1:
            _run_side_by_side(("joint",), config, out, on_step)
            joint.resume()
        model = joint.run()
        if config.init_weight_average:
            _average_with_initial(joint, config, out)
    record = _record(config, time.monotonic() - began)
    largest, stored = max(config.joint.family.settings), getattr(torch, config.stored)
    export(model, joint.glyph_tokens, out / "model", hd=largest, training=record, stored=stored)
    return out / "model"


def check_out(out: Path, *, resume: bool) -> None:
    """Check that a run may write to this folder.

    Raises:
        UsageError: it holds states and `resume` is not set.
    """
    found = sorted(p.name for p in out.glob("*.pt")) if out.is_dir() else []
    if found and not resume:
        raise UsageError(
            f"{out} holds {len(found)} states of an earlier run ({', '.join(found)}); add --resume or take a new folder"
        )


def stage_plans(config: NanoConfig) -> tuple[tuple[StagePlan, ...], ...]:
    """The stages that a recipe runs, in order; those of one group run side by side."""
    joint = (StagePlan(stage="joint", steps=config.joint.steps, pace=config.joint.pace),)
    if config.init_from is not None and not config.continue_pretraining:
        return (joint,)
    first = tuple(tuple(_stage_plan(config, name) for name in group) for group in groups(config))
    if config.init_from is not None:
        return *first, joint
    init = config.joint
    projector = (StagePlan(stage="projector_init", steps=init.projector_init_steps, pace=init.projector_init_pace),)
    return *first, projector, (_stage_plan(config, "ocr_alignment"),), joint


def _stage_plan(config: NanoConfig, name: str) -> StagePlan:
    stage = getattr(config, name)
    return StagePlan(stage=name, steps=stage.steps, pace=stage.pace)


def groups(config: NanoConfig) -> tuple[tuple[str, ...], ...]:
    """First stages by group: side by side, except that a data-parallel stage has the cores for itself."""
    names = [name for name in (FROM_SCRATCH if config.init_from is None else CONTINUED) if getattr(config, name).steps]
    alone = any(getattr(getattr(config, name), "data_parallel", 1) > 1 for name in names)
    return tuple((name,) for name in names) if alone or not names else (tuple(names),)


@contextmanager
def threads(count: int) -> Iterator[None]:
    """Compute deterministically on `count` threads inside the block; 0 = torch's own number."""
    before, exact = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    # A property that torch adds at run time, so type checkers do not know it. Filling memory only costs time here.
    deterministic: Any = torch.utils.deterministic
    filled = deterministic.fill_uninitialized_memory
    torch.set_num_threads(count or before)
    torch.use_deterministic_algorithms(True)  # else rows of a gradient are added in the order in which threads come
    deterministic.fill_uninitialized_memory = False
    try:
        yield
    finally:
        torch.set_num_threads(before)
        torch.use_deterministic_algorithms(exact)
        deterministic.fill_uninitialized_memory = filled


def _with_estimate(watch: Show, estimate: ProgressEstimator) -> Watch:
    return lambda report: watch(report, estimate(report))


def _run_first_stages(joint: Joint, config: NanoConfig, out: Path, on_step: Watch | None) -> None:
    """Run everything before the joint stage, or load the weights of an earlier run."""
    if config.init_from is None:
        for group in groups(config):
            _run_side_by_side(group, config, out, on_step)
        joint.start(*_pretrained(out))
        ocr_alignment.run(joint.model, joint.glyph_tokens, config.ocr_alignment, out, watch=on_step)
    else:
        load_initial(config.init_from, joint.model, joint.glyph_tokens)
        if config.continue_pretraining:
            for group in groups(config):
                _run_side_by_side(group, config, out, on_step)
            joint.load_aligned(_aligned(out, config))
    joint.save()


@torch.no_grad()
def _average_with_initial(joint: Joint, config: NanoConfig, out: Path) -> None:
    """Replace the trained weights by their weighted mean with the initial ones, in place."""
    assert config.init_from is not None
    first = Joint(config.model, config.joint, out)
    load_initial(config.init_from, first.model, first.glyph_tokens)
    for trained, initial in ((joint.model, first.model), (joint.glyph_tokens, first.glyph_tokens)):
        weights = initial.state_dict()
        for name, value in trained.state_dict().items():
            value.lerp_(weights[name], config.init_weight_average)


def _run_side_by_side(names: tuple[str, ...], config: NanoConfig, out: Path, on_step: Watch | None) -> None:
    """Run stages and their replicas, each on one core where there are two; the weights are the same either way.

    The processes are given the configuration, not the file: a recipe edited meanwhile would make them disagree.
    """
    if available_cores() < 2:
        for name in names:
            with threads(1), bf16_products(wanted=config.bf16_cpu):
                _run_stage(name, config, out, on_step)
        return
    context, pipes = get_context("spawn"), {}
    with tempfile.TemporaryDirectory() as rendezvous:
        try:
            for name in names:
                count = getattr(getattr(config, name), "data_parallel", 1)
                for rank in range(count):
                    mine, theirs = context.Pipe(duplex=False)
                    replica = (count, rank, Path(rendezvous) / name) if count > 1 else None
                    process = context.Process(target=_run_in_process, args=(name, config, out, theirs, replica))
                    process.start()
                    theirs.close()
                    pipes[mine] = (name, process)
            _listen({pipe: name for pipe, (name, _) in pipes.items()}, on_step)
            for name, process in pipes.values():
                process.join()
                if process.exitcode:
                    raise DataError(
                        f"the stage {name} ended with exit code {process.exitcode}; run again with --resume"
                    )
        finally:
            for _, process in pipes.values():
                process.kill()
                process.join()


def _listen(pipes: dict[Connection, str], on_step: Watch | None) -> None:
    """Pass on reports until all processes have ended. An error of one is raised here, which ends the others."""
    while pipes:
        for pipe in wait(list(pipes)):
            assert isinstance(pipe, Connection)
            try:
                message = pipe.recv()
            except EOFError:
                del pipes[pipe]
                continue
            if isinstance(message, Exception):
                raise message
            if on_step is not None:
                on_step(message)


def _run_in_process(
    name: str, config: NanoConfig, out: Path, pipe: Connection, replica: tuple[int, int, Path] | None = None
) -> None:
    """Run a stage, or one replica (count, rank, rendezvous file) of it, in a process of its own."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent ends it
    replicas = nullcontext() if replica is None else init_replicas(*replica)
    try:
        with threads(1), bf16_products(wanted=config.bf16_cpu), replicas as parallel:
            _run_stage(name, config, out, pipe.send if parallel is None or parallel.is_main else None, parallel)
    except BrokenPipeError:
        os._exit(1)  # the parent is gone
    except RuntimeError:
        parent = parent_process()
        if replica is None or (parent is not None and parent.is_alive()):
            raise
        os._exit(1)  # the replica that reports has ended, because the parent is gone
    except IxcError as error:
        pipe.send(error)


def _run_stage(
    name: str, config: NanoConfig, out: Path, on_step: Watch | None, parallel: DataParallel | None = None
) -> None:
    if name == "character_pretrain":
        character_pretrain.run(config.character_pretrain, out, watch=on_step)
    elif name == "layout_lm":
        layout_lm.run(config.layout_lm, out, watch=on_step)
    elif name == "joint":
        joint = Joint(config.model, config.joint, out, on_step, parallel)
        joint.resume()
        joint.run()
    else:
        assert config.init_from is not None
        joint = Joint(config.model, config.joint, out)
        load_initial(config.init_from, joint.model, joint.glyph_tokens)
        ocr_alignment.run(joint.model, joint.glyph_tokens, config.ocr_alignment, out, watch=on_step, parallel=parallel)


def _pretrained(out: Path) -> tuple[dict[str, Tensor], dict[str, Tensor], dict[str, Tensor]]:
    """Weights of the vision encoder, the decoder and the glyph tokens from the states of the first two stages."""
    vision = state.load(out / "character_pretrain.pt", old="sight.pt")
    language = state.load(out / "layout_lm.pt", old="language.pt")
    if vision is None or language is None:
        raise DataError(f"{out} lacks character_pretrain.pt or layout_lm.pt; run again with --resume")
    return (
        _below(vision["classifier"], "tower."),
        _below(language["model"], "decoder."),
        _below(language["model"], "glyph_tokens."),
    )


def _aligned(out: Path, config: NanoConfig) -> dict[str, Tensor]:
    """Weights of the vision encoder and the projector, from the state of the OCR alignment; {} if it has no steps."""
    saved = state.load(out / "ocr_alignment.pt", old="spelling.pt")
    if saved is None and config.ocr_alignment.steps:
        raise DataError(f"{out} lacks ocr_alignment.pt; run again with --resume")
    return {} if saved is None else saved["vision"]


def _below(weights: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {k.removeprefix(prefix): v for k, v in weights.items() if k.startswith(prefix)}


def _record(config: NanoConfig, seconds: float) -> dict[str, Any]:
    """What `training.json` keeps of this run."""
    stages: dict[str, Any] = {}
    for name in ("layout_lm", "character_pretrain", "ocr_alignment", "joint"):
        stages[name] = {k: v for k, v in asdict(getattr(config, name)).items() if k not in ("text", "vision")}
    return {"stages": stages, "seconds_of_this_start": round(seconds), "torch": torch.__version__}
