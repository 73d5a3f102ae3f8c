"""Progress and ETA of a run, of one stage or of several, and the logger of the steps of a fine-tuning run.

StepReport --ProgressEstimator--> Remaining                    tokens per second and seconds left of all stages
StepResult --ProgressLogger--> log.jsonl, callbacks(StepProgress)
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from ixc.runlog.jsonl import JsonlLog

WINDOW = 50
"""Steps that the pace of a stage is averaged over."""

EARLY = 0.3
"""Share of a stage's steps during which the expected pace counts if it is slower than the measured one: the curriculum
begins with the smallest steps."""


# -- estimate ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class StepReport:
    """One step of a stage."""

    stage: str
    """Name of the stage."""
    step: int
    """Steps done, from 1."""
    steps: int
    """Steps of the whole stage."""
    loss: float
    """Loss of the step."""
    tokens: int
    """Image and text tokens of the step."""
    seconds: float
    """Duration of the step."""
    scores: Mapping[str, float] = field(default_factory=dict)
    """Scores by name, for example running means of exact match on unseen pages."""

    def text(self) -> str:
        """Return a few words for the progress line."""
        scores = "".join(f", {name} {round(value, 2):g}" for name, value in self.scores.items())
        return f"{self.stage} {self.step} of {self.steps}, loss {self.loss:.3f}{scores}"


@dataclass(frozen=True, kw_only=True)
class StagePlan:
    """A stage before it runs."""

    stage: str
    """Name of the stage."""
    steps: int
    """Steps of the stage."""
    pace: float = 0.0
    """Expected seconds per step, used until steps are measured."""


@dataclass(frozen=True, kw_only=True)
class Remaining:
    """Progress of a whole run."""

    text: str
    """One line: the current stages, tokens per second, time left."""
    done: int
    """Steps done in all stages."""
    total: int
    """Steps of all stages."""
    tokens_per_second: float
    """Sum over the current stages."""
    seconds_left: float
    """Seconds left of the whole run."""


class ProgressEstimator:
    """Estimate tokens per second and the time left of a run from the steps reported so far.

    Args:
        groups: stages in their order; the stages of one group run in parallel.
        window: steps that a pace is averaged over.
    """

    def __init__(self, groups: Sequence[Sequence[StagePlan]], *, window: int = WINDOW) -> None:
        self.groups, self.window = groups, window
        self.latest: dict[str, StepReport] = {}
        self.recent: dict[str, deque[StepReport]] = {}

    def __call__(self, report: StepReport) -> Remaining:
        """Take the report of a step; return the progress of the run."""
        self.latest[report.stage] = report
        self.recent.setdefault(report.stage, deque(maxlen=self.window)).append(report)
        index = next(i for i, group in enumerate(self.groups) if report.stage in [plan.stage for plan in group])
        reports = [self.latest[plan.stage] for plan in self.groups[index] if plan.stage in self.latest]
        running = [one for one in reports if one.step < one.steps] or [report]
        tokens_per_second = sum(self._tokens_per_second(one.stage) for one in running)
        seconds_left = sum(max(map(self._seconds_left, group)) for group in self.groups[index:])
        text = "; ".join(one.text() for one in reports)
        return Remaining(
            text=f"{text}; {tokens_per_second:,.0f} tokens/s, {format_duration(seconds_left)} left",
            done=self._steps_done(index),
            total=sum(plan.steps for group in self.groups for plan in group),
            tokens_per_second=tokens_per_second,
            seconds_left=seconds_left,
        )

    def _tokens_per_second(self, stage: str) -> float:
        recent = self.recent[stage]
        return sum(one.tokens for one in recent) / max(sum(one.seconds for one in recent), 1e-9)

    def _steps_done(self, index: int) -> int:
        before = sum(plan.steps for group in self.groups[:index] for plan in group)
        return before + sum(self.latest[plan.stage].step for plan in self.groups[index] if plan.stage in self.latest)

    def _seconds_left(self, plan: StagePlan) -> float:
        """Return the seconds left of a stage."""
        if plan.stage not in self.latest:
            return plan.steps * plan.pace
        latest, recent = self.latest[plan.stage], self.recent[plan.stage]
        measured = sum(one.seconds for one in recent) / len(recent)
        pace = max(measured, plan.pace) if latest.step < EARLY * latest.steps else measured
        return (latest.steps - latest.step) * pace


def format_duration(seconds: float) -> str:
    """Return a duration in words: 40 s, 12 min, 3 h 05 min."""
    minutes = round(seconds / 60)
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60:02d} min"


# -- fine-tuning ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class StepResult:
    """Outcome of one optimiser step."""

    step: int
    """Steps done, from 1."""
    loss: float
    """Mean cross entropy over the labels of the step."""
    grad_norm: float
    """Norm of the gradient before clipping."""
    learning_rate: float
    """Learning rate of a part with lr_scale 1."""
    tokens: int
    """Tokens of the step, image tokens included."""
    labels: int
    """Labels of the step."""
    samples: tuple[tuple[int, int], ...] = ()
    """(number of the source, number of the record in it) of every conversation of the step, sorted."""


@dataclass(frozen=True, kw_only=True)
class StepProgress:
    """Outcome of one step, and the progress of the run."""

    result: StepResult
    """Outcome of the step."""
    steps: int
    """Steps of the whole run."""
    tokens_per_second: float
    """Mean of the last `STEP_WINDOW` steps."""
    seconds_left: float
    """Seconds left at the pace of the last `STEP_WINDOW` steps."""
    scores: Mapping[str, float] = field(default_factory=dict)
    """Scores of the evaluation after this step; empty: none was due."""

    def text(self) -> str:
        """Return the progress line."""
        return (
            f"step {self.result.step} of {self.steps}, loss {self.result.loss:.4f}, "
            f"rate {self.result.learning_rate:.2e}, {self.tokens_per_second:,.0f} tokens/s, "
            f"{format_duration(self.seconds_left)} left"
            + "".join(f", {name} {value:.4g}" for name, value in self.scores.items())
        )


STEP_WINDOW = 20
"""Steps that tokens per second and time left of a fine-tuning run are averaged over."""


class ProgressLogger:
    """Write every step to the log and pass it on to the callbacks.

    Args:
        log: the log of the run.
        steps: steps of the whole run.
        callbacks: called in order after each step.
    """

    def __init__(self, log: JsonlLog, steps: int, callbacks: Sequence[Callable[[StepProgress], Any]]) -> None:
        self.log, self.steps, self.callbacks = log, steps, callbacks
        self.estimator = ProgressEstimator([[StagePlan(stage="train", steps=steps)]], window=STEP_WINDOW)
        self.last = time.monotonic()

    def __call__(self, result: StepResult, scores: Mapping[str, float] | None = None) -> None:
        """Log a step with the scores of the evaluation after it."""
        now, scores = time.monotonic(), scores or {}
        seconds, self.last = now - self.last, now
        self.log.add(asdict(result) | {"seconds": round(seconds, 3)} | dict(scores))
        progress = self._progress(result, seconds)
        for callback in self.callbacks:
            callback(replace(progress, scores=scores))

    def _progress(self, result: StepResult, seconds: float) -> StepProgress:
        remaining = self.estimator(
            StepReport(
                stage="train",
                step=result.step,
                steps=self.steps,
                loss=result.loss,
                tokens=result.tokens,
                seconds=seconds,
            )
        )
        return StepProgress(
            result=result,
            steps=self.steps,
            tokens_per_second=remaining.tokens_per_second,
            seconds_left=remaining.seconds_left,
        )
