"""Report every step of a training from nothing: to the log of its stage and to a callback.

step -> StageLog -> OUT/STAGE.jsonl, watch(StepReport)
StepReport -> ProgressEstimator -> Remaining: pace, and time left of all stages
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ixc.runlog.jsonl import JsonlLog
from ixc.runlog.progress import duration

WINDOW = 50
"""Steps over which the pace is averaged."""

EARLY = 0.3
"""The first steps of a stage are its fastest: up to this share of them the larger of both paces counts."""


@dataclass(frozen=True, kw_only=True)
class StepReport:
    """One finished step of a stage."""

    stage: str
    """Name of the stage."""
    step: int
    """Number of the step, from 1."""
    steps: int
    """Steps of the whole stage."""
    loss: float
    tokens: int
    """Image and text tokens of the step."""
    seconds: float
    """Duration of the step."""
    scores: Mapping[str, float] = field(default_factory=dict)
    """Running means on pages never seen before: exact match by kind of page, share of characters recognised."""

    def text(self) -> str:
        """One line about the step."""
        scores = "".join(f", {name} {round(value, 2):g}" for name, value in self.scores.items())
        return f"{self.stage} {self.step} of {self.steps}, loss {self.loss:.3f}{scores}"


Watch = Callable[[StepReport], Any]
"""Called after each step."""


class StageLog:
    """Log of the steps of one stage, with their durations.

    Args:
        stage: name of the stage, and of the file.
        steps: steps of the whole stage.
        out: folder of the run.
        watch: called after each step.
    """

    def __init__(self, stage: str, steps: int, out: Path, watch: Watch | None) -> None:
        self.stage, self.steps, self.watch = stage, steps, watch
        self.log, self.last = JsonlLog(out / f"{stage}.jsonl"), time.monotonic()

    def __call__(self, step: int, *, loss: float, tokens: int, scores: Mapping[str, float]) -> None:
        """Log a step and report it."""
        now = time.monotonic()
        seconds, self.last = round(now - self.last, 4), now
        self.log.add({"step": step, "loss": loss, **scores, "tokens": tokens, "seconds": seconds})
        if self.watch is not None:
            report = StepReport(
                stage=self.stage,
                step=step,
                steps=self.steps,
                loss=loss,
                tokens=tokens,
                seconds=seconds,
                scores=dict(scores),
            )
            self.watch(report)


def running(means: dict[str, float], name: str, value: float, *, keep: float = 0.95) -> None:
    """Update a running mean; the first value is its start."""
    means[name] = keep * means.get(name, value) + (1 - keep) * value


@dataclass(frozen=True, kw_only=True)
class StagePlan:
    """A stage before it is run, for the estimate of the time left."""

    stage: str
    steps: int
    pace: float
    """Expected seconds a step, until it is measured."""


@dataclass(frozen=True, kw_only=True)
class Remaining:
    """Progress of a whole run and an estimate of what is left."""

    text: str
    """One line: the running stages, pace, time left."""
    done: int
    """Steps done, of all stages."""
    total: int
    """Steps of all stages."""
    tokens_per_second: float
    """Sum over the running stages."""
    seconds_left: float
    """Estimate for the whole run."""


class ProgressEstimator:
    """Estimate pace and time left of a run from the reports of its stages.

    Args:
        groups: stages in their order; those of one group run side by side.
    """

    def __init__(self, groups: Sequence[Sequence[StagePlan]]) -> None:
        self.groups = groups
        self.latest: dict[str, StepReport] = {}
        self.recent: dict[str, deque[StepReport]] = {}

    def __call__(self, report: StepReport) -> Remaining:
        """Add a report and estimate the rest of the run."""
        self.latest[report.stage] = report
        self.recent.setdefault(report.stage, deque(maxlen=WINDOW)).append(report)
        group = next(g for g in self.groups if report.stage in [plan.stage for plan in g])
        now = [self.latest[plan.stage] for plan in group if plan.stage in self.latest]
        running_now = [one for one in now if one.step < one.steps] or [report]
        pace, left = sum(self._pace(one.stage) for one in running_now), self._left(self.groups.index(group))
        text = "; ".join(one.text() for one in now)
        return Remaining(
            text=f"{text}; {pace:,.0f} tokens/s, {duration(left)} left",
            done=self._done(self.groups.index(group)),
            total=sum(plan.steps for g in self.groups for plan in g),
            tokens_per_second=pace,
            seconds_left=left,
        )

    def _pace(self, stage: str) -> float:
        mine = self.recent[stage]
        return sum(one.tokens for one in mine) / max(sum(one.seconds for one in mine), 1e-9)

    def _done(self, group: int) -> int:
        before = sum(plan.steps for g in self.groups[:group] for plan in g)
        return before + sum(self.latest[plan.stage].step for plan in self.groups[group] if plan.stage in self.latest)

    def _left(self, group: int) -> float:
        return sum(max(self._seconds_left(plan) for plan in g) for g in self.groups[group:])

    def _seconds_left(self, plan: StagePlan) -> float:
        """Estimate the seconds that a stage still takes."""
        if plan.stage not in self.latest:
            return plan.steps * plan.pace
        latest, mine = self.latest[plan.stage], self.recent[plan.stage]
        measured = sum(one.seconds for one in mine) / len(mine)
        pace = max(measured, plan.pace) if latest.step < EARLY * latest.steps else measured
        return (latest.steps - latest.step) * pace
