"""One command from nothing to a model folder.

Stages that do not need each other run side by side, each in a process of one core; one whose steps have parts has a
process for each. They tell every step through a pipe; a process whose pipe nobody reads any more ends at its next step,
and with it the others that share its steps, so that a killed run leaves nobody behind who still writes.
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
from torch import Tensor
from torch.utils import deterministic

from ixc.errors import DataError, IxcError, UsageError
from ixc.nano import state
from ixc.nano.bf16_cpu import quick
from ixc.nano.data_parallel import DataParallel, init_replicas
from ixc.nano.drawn_config import NanoConfig, read_recipe
from ixc.nano.export import begin, export, reader
from ixc.nano.stages import character_pretrain, layout_lm, ocr_alignment
from ixc.nano.stages.joint import Joint
from ixc.nano.step_report import ProgressEstimator, Remaining, StagePlan, StepReport, Watch

Show = Callable[[StepReport, Remaining], Any]
"""Called after each step of any stage."""

FIRST = ("language", "sight")
"""Stages that run side by side when a run begins from nothing."""

AGAIN = ("language", "spelling")
"""The same when it goes on from a model and the letters stand still."""


def run(recipe: Path, *, out: Path, resume: bool = False, device: str = "auto", watch: Show | None = None) -> Path:
    """Train by a recipe file; returns the model folder `out/model`.

    Args:
        recipe: Python file with a function `recipe()`.
        out: folder of states, logs of every stage (`STAGE.jsonl`) and the model.
        resume: go on with the states that lie in `out`; without it they are an error, never overwritten.
        device: `cpu` or `auto`; these sizes train fastest on the CPU of one machine.
        watch: told every step, and what is left of the whole run.

    Raises:
        UsageError: no such recipe, states of an earlier run, another device.
        DataError: a state that cannot be read or written.
    """
    if device not in ("auto", "cpu"):
        raise UsageError(f"the embedded model trains on the CPU, not on {device}; use --device cpu")
    plan = read_recipe(recipe)
    check_out(out, resume=resume)
    tell = None if watch is None else _telling(watch, ProgressEstimator(legs(plan)))
    began = time.monotonic()
    with threads(plan.threads), quick(wanted=plan.quick):
        joint = Joint(plan.model, plan.joint, out, tell)
        if not joint.resume():
            _begin(joint, plan, out, tell)
        if plan.joint.parts > 1:
            _side_by_side(("joint",), plan, out, tell)
            joint.resume()
        model = joint.run()
        if plan.kept:
            _draw_back(joint, plan, out)
    record = _record(plan, time.monotonic() - began)
    most, stored = max(plan.joint.family.settings), getattr(torch, plan.stored)
    export(model, joint.symbols, out / "model", hd=most, training=record, stored=stored)
    return out / "model"


def check_out(out: Path, *, resume: bool) -> None:
    """A run may begin in this folder.

    Raises:
        UsageError: it holds states and they shall not be gone on with.
    """
    found = sorted(p.name for p in out.glob("*.pt")) if out.is_dir() else []
    if found and not resume:
        raise UsageError(
            f"{out} holds {len(found)} states of an earlier run ({', '.join(found)}); add --resume or take a new folder"
        )


def legs(plan: NanoConfig) -> tuple[tuple[StagePlan, ...], ...]:
    """The stages that a recipe runs, in groups side by side."""
    joint = (StagePlan(stage="joint", steps=plan.joint.steps, pace=plan.joint.pace),)
    if plan.begin is not None and not plan.again:
        return (joint,)
    first = tuple(
        tuple(StagePlan(stage=name, steps=(one := getattr(plan, name)).steps, pace=one.pace) for name in group)
        for group in groups(plan)
    )
    if plan.begin is not None:
        return *first, joint
    align = (StagePlan(stage="align", steps=plan.joint.align_steps, pace=plan.joint.align_pace),)
    return *first, align, (StagePlan(stage="spelling", steps=plan.spelling.steps, pace=plan.spelling.pace),), joint


def groups(plan: NanoConfig) -> tuple[tuple[str, ...], ...]:
    """Stages before the others, those of one group side by side; a stage whose steps have parts has the cores alone."""
    names = [name for name in (FIRST if plan.begin is None else AGAIN) if getattr(plan, name).steps]
    alone = any(getattr(getattr(plan, name), "parts", 1) > 1 for name in names)
    return tuple((name,) for name in names) if alone or not names else (tuple(names),)


@contextmanager
def threads(count: int) -> Iterator[None]:
    """Compute on so many cores, sums always in the same order; 0 = as many cores as torch takes by itself."""
    before, exact = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
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


def _telling(watch: Show, course: ProgressEstimator) -> Watch:
    return lambda report: watch(report, course(report))


def _begin(joint: Joint, plan: NanoConfig, out: Path, tell: Watch | None) -> None:
    """Everything before the joint stage: three stages from nothing, or the weights of an earlier run."""
    if plan.begin is None:
        for group in groups(plan):
            _side_by_side(group, plan, out, tell)
        joint.start(*_learned(out))
        ocr_alignment.run(joint.model, joint.symbols, plan.spelling, out, watch=tell)
    else:
        begin(plan.begin, joint.model, joint.symbols)
        if plan.again:
            for group in groups(plan):
                _side_by_side(group, plan, out, tell)
            joint.take(*_learned_again(out, plan))
    joint.save()


@torch.no_grad()
def _draw_back(joint: Joint, plan: NanoConfig, out: Path) -> None:
    """Weights of a trained model in place -> their mean with those that it began from."""
    assert plan.begin is not None
    first = Joint(plan.model, plan.joint, out)
    begin(plan.begin, first.model, first.symbols)
    for now, before in ((joint.model, first.model), (joint.symbols, first.symbols)):
        began = before.state_dict()
        for name, value in now.state_dict().items():
            value.lerp_(began[name], plan.kept)


def _side_by_side(names: tuple[str, ...], plan: NanoConfig, out: Path, tell: Watch | None) -> None:
    """Stages, and parts of their steps, on one core each where there are two; the weights are the same either way.

    The processes are given the plan, not the file: one that is edited meanwhile would make them disagree.
    """
    if (os.cpu_count() or 1) < 2:
        for name in names:
            with threads(1), quick(wanted=plan.quick):
                _stage(name, plan, out, tell)
        return
    context, ends = get_context("spawn"), {}
    with tempfile.TemporaryDirectory() as meeting:
        try:
            for name in names:
                count = getattr(getattr(plan, name), "parts", 1)
                for part in range(count):
                    mine, theirs = context.Pipe(duplex=False)
                    place = (count, part, Path(meeting) / name) if count > 1 else None
                    job = context.Process(target=_alone, args=(name, plan, out, theirs, place))
                    job.start()
                    theirs.close()
                    ends[mine] = (name, job)
            _listen({end: name for end, (name, _) in ends.items()}, tell)
            for name, job in ends.values():
                job.join()
                if job.exitcode:
                    raise DataError(f"the stage {name} ended with exit code {job.exitcode}; run again with --resume")
        finally:
            for _, job in ends.values():
                job.kill()
                job.join()


def _listen(ends: dict[Connection, str], tell: Watch | None) -> None:
    """Reports of the stages until all of them have ended; an error of one ends the others."""
    while ends:
        for end in wait(list(ends)):
            assert isinstance(end, Connection)
            try:
                said = end.recv()
            except EOFError:
                del ends[end]
                continue
            if isinstance(said, Exception):
                raise said
            if tell is not None:
                tell(said)


def _alone(name: str, plan: NanoConfig, out: Path, end: Connection, place: tuple[int, int, Path] | None = None) -> None:
    """A stage, or at `place` one part of its steps, in a process of its own."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the one who listens ends it
    try:
        with threads(1), quick(wanted=plan.quick), nullcontext() if place is None else init_replicas(*place) as parts:
            _stage(name, plan, out, end.send if parts is None or parts.writes else None, parts)
    except BrokenPipeError:
        os._exit(1)  # nobody listens any more
    except RuntimeError:
        above = parent_process()
        if place is None or (above is not None and above.is_alive()):
            raise
        os._exit(1)  # the part that told the listener has ended
    except IxcError as error:
        end.send(error)


def _stage(name: str, plan: NanoConfig, out: Path, tell: Watch | None, parts: DataParallel | None = None) -> None:
    if name == "sight":
        character_pretrain.run(plan.sight, out, watch=tell)
    elif name == "language" and plan.begin is None:
        layout_lm.run(plan.language, out, watch=tell, parts=parts)
    elif name == "joint":
        joint = Joint(plan.model, plan.joint, out, tell, parts)
        joint.resume()
        joint.run()
    else:
        assert plan.begin is not None
        joint = Joint(plan.model, plan.joint, out)
        begin(plan.begin, joint.model, joint.symbols)
        if name == "language":
            start = reader(joint.model, joint.symbols)
            layout_lm.run(plan.language, out, watch=tell, start=start, parts=parts)
        else:
            ocr_alignment.run(joint.model, joint.symbols, plan.spelling, out, watch=tell, parts=parts)


def _learned(out: Path) -> tuple[dict[str, Tensor], dict[str, Tensor], dict[str, Tensor]]:
    """Weights of the tower, the decoder and the symbols from the states of the first two stages."""
    eyes, hand = state.load(out / "sight.pt"), state.load(out / "language.pt")
    if eyes is None or hand is None:
        raise DataError(f"{out} lacks sight.pt or language.pt; run again with --resume")
    return (
        _below(eyes["spotter"], "tower."),
        _below(hand["reader"], "decoder."),
        _below(hand["reader"], "symbols."),
    )


def _learned_again(out: Path, plan: NanoConfig) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Weights of the decoder and of the eyes, from the states of the stages that went on; {} of one without steps."""
    hand, eyes = state.load(out / "language.pt"), state.load(out / "spelling.pt")
    if (hand is None and plan.language.steps) or (eyes is None and plan.spelling.steps):
        raise DataError(f"{out} lacks language.pt or spelling.pt; run again with --resume")
    return {} if hand is None else _below(hand["reader"], "decoder."), {} if eyes is None else eyes["eyes"]


def _below(weights: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {k.removeprefix(prefix): v for k, v in weights.items() if k.startswith(prefix)}


def _record(plan: NanoConfig, seconds: float) -> dict[str, Any]:
    """What the model card tells of this run."""
    stages: dict[str, Any] = {}
    for name in ("language", "sight", "spelling", "joint"):
        stages[name] = {k: v for k, v in asdict(getattr(plan, name)).items() if k not in ("text", "vision")}
    return {"stages": stages, "seconds_of_this_start": round(seconds), "torch": torch.__version__}
