"""The training loop of every stage: data drawn from (seed, step), Muon and AdamW, a log, a state that survives a kill.

    Task.loss(step) -> gradients -> clip -> Muon | AdamW -> average of weights -> OUT/NAME.jsonl, OUT/NAME.pt

A step depends on the state and on its number alone, so a run that was killed goes on from its last state and gives the
weights of a run that was not. The state is written beside and renamed, every `save_seconds`.
"""

from __future__ import annotations

import signal
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from ixc.nano import bf16_cpu, state
from ixc.nano.stages.layout_lm import optimisers, rate_at, set_rate
from ixc.nano.step_report import running
from ixc.runlog.jsonl import JsonlLog

RECENT = 50
"""Steps that the time left is taken from."""


@dataclass(frozen=True, kw_only=True)
class LoopConfig:
    """Numbers of a training run."""

    steps: int
    decay_from: int
    """Step from which the learning rate falls linearly to zero."""
    warmup: int = 50
    """Steps in which it rises."""
    seed: int = 0
    muon_lr: float = 0.02
    """Of the matrices of blocks."""
    adam_lr: float = 2e-3
    """Of everything else."""
    max_grad_norm: float = 1.0
    average: float = 0.998
    """Decay of the average of weights a step; 0 keeps none."""
    save_seconds: float = 180.0
    """Time between two states on disk."""
    bf16: bool = True
    """Products in bf16 on processors with units for them (`ixc.nano.bf16_cpu`)."""


@dataclass(frozen=True, kw_only=True)
class StepResult:
    """What a task computed for a step, before the update."""

    loss: Tensor
    """Scalar, to be differentiated."""
    examples: int
    """Windows, pages or questions of the step."""
    scores: Mapping[str, float]
    """Shares of right predictions; the log holds running means."""


class Task(Protocol):
    """A stage of training."""

    name: str
    """Of its log and state."""

    @property
    def model(self) -> nn.Module:
        """What is trained."""
        ...

    def blocks(self) -> nn.Module:
        """The part of the model whose matrices Muon trains."""
        ...

    def step(self, number: int) -> StepResult:
        """Loss of a step, from the model as it is and data drawn from the step's number."""
        ...


@dataclass(frozen=True, kw_only=True)
class StepReport:
    """A step of a run as a person watches it; a line of the log."""

    stage: str
    step: int
    steps: int
    loss: float
    examples: int
    """Since the run began."""
    seconds: float
    """Of this step."""
    cpu_seconds: float
    """Of this process and those before it, since the run began."""
    seconds_left: float
    """At the pace of the last steps."""
    scores: Mapping[str, float]


@dataclass(kw_only=True)
class _Run:
    """What changes from step to step besides weights and optimizers."""

    step: int = 0
    examples: int = 0
    cpu_seconds: float = 0.0


def train(task: Task, config: LoopConfig, out: Path, *, watch: Callable[[StepReport], Any] | None = None) -> nn.Module:
    """Train to the last step, or go on from the state in `out`; returns the model with its averaged weights.

    SIGTERM and SIGINT write the state and end the run early, with what has been learned.
    """
    optimizers = optimisers(task.model, task.blocks(), muon_lr=config.muon_lr, adam_lr=config.adam_lr)
    set_rate(optimizers, 1.0)
    average = {k: v.clone() for k, v in task.model.state_dict().items()} if config.average else {}
    run, means, path = _Run(), {}, out / f"{task.name}.pt"
    if (saved := state.load(path)) is not None:
        _restore(saved, task.model, optimizers, average, run, means)
    journal, recent = JsonlLog(out / f"{task.name}.jsonl"), deque(maxlen=RECENT)
    saved_at = time.monotonic()
    with _stop_requested() as stopped, bf16_cpu.bf16_products(wanted=config.bf16):
        while run.step < config.steps and not stopped():
            began, cpu = time.monotonic(), time.process_time()
            result = task.step(run.step)
            loss = _update(result.loss, task.model, optimizers, config, run.step)
            _follow(average, task.model, config, run.step)
            for name, value in result.scores.items():
                running(means, name, value, keep=0.98)
            run.step, run.examples = run.step + 1, run.examples + result.examples
            run.cpu_seconds += time.process_time() - cpu
            recent.append(time.monotonic() - began)
            report = _report(task, config, run, loss, means, recent)
            journal.add(_line(report))
            if watch is not None:
                watch(report)
            if time.monotonic() - saved_at > config.save_seconds:
                _save(path, task.model, optimizers, average, run, means)
                saved_at = time.monotonic()
    _save(path, task.model, optimizers, average, run, means)
    if average:
        task.model.load_state_dict(average)
    return task.model


def _update(
    loss: Tensor, model: nn.Module, optimizers: list[torch.optim.Optimizer], config: LoopConfig, step: int
) -> float:
    loss.backward()
    nn.utils.clip_grad_norm_(model.parameters(), config.max_grad_norm)
    rate = rate_at(step, steps=config.steps, decay_from=config.decay_from, warmup=config.warmup)
    set_rate(optimizers, rate)
    for optimizer in optimizers:
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    return loss.item()


@torch.no_grad()
def _follow(average: dict[str, Tensor], model: nn.Module, config: LoopConfig, step: int) -> None:
    """Exponential average of the weights, shorter at the beginning."""
    keep = min(config.average, (step + 1) / (step + 10))
    for name, value in model.state_dict().items():
        if name in average:
            average[name].lerp_(value, 1 - keep)


def _report(
    task: Task, config: LoopConfig, run: _Run, loss: float, means: Mapping[str, float], recent: deque[float]
) -> StepReport:
    pace = sum(recent) / len(recent)
    return StepReport(
        stage=task.name,
        step=run.step,
        steps=config.steps,
        loss=loss,
        examples=run.examples,
        seconds=recent[-1],
        cpu_seconds=run.cpu_seconds,
        seconds_left=(config.steps - run.step) * pace,
        scores=dict(means),
    )


def _line(report: StepReport) -> dict[str, Any]:
    return {
        "step": report.step,
        "steps": report.steps,
        "loss": round(report.loss, 5),
        **{name: round(value, 5) for name, value in report.scores.items()},
        "examples": report.examples,
        "seconds": round(report.seconds, 3),
        "cpu_seconds": round(report.cpu_seconds, 1),
        "seconds_left": round(report.seconds_left),
    }


def _save(
    path: Path,
    model: nn.Module,
    optimizers: list[torch.optim.Optimizer],
    average: dict[str, Tensor],
    run: _Run,
    means: dict[str, float],
) -> None:
    whole = {
        "model": model.state_dict(),
        "optimizers": [optimizer.state_dict() for optimizer in optimizers],
        "average": average,
        "run": vars(run),
        "means": means,
    }
    state.save(whole, path)


def _restore(
    saved: dict[str, Any],
    model: nn.Module,
    optimizers: list[torch.optim.Optimizer],
    average: dict[str, Tensor],
    run: _Run,
    means: dict[str, float],
) -> None:
    model.load_state_dict(saved["model"])
    for optimizer, values in zip(optimizers, saved["optimizers"], strict=True):
        optimizer.load_state_dict(values)
    average.update(saved["average"])
    means.update(saved["means"])
    vars(run).update(saved["run"])


@contextmanager
def _stop_requested() -> Iterator[Callable[[], bool]]:
    """Inside, SIGTERM and SIGINT ask for an end after the step under way; elsewhere than in the main thread nothing."""
    asked: list[int] = []
    before = {}
    try:
        for number in (signal.SIGTERM, signal.SIGINT):
            before[number] = signal.signal(number, lambda received, frame: asked.append(received))
    except ValueError:  # not the main thread
        before = {}
    try:
        yield lambda: bool(asked)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


__all__ = ["LoopConfig", "StepReport", "StepResult", "Task", "train"]
