"""Every step of a training from nothing: into the log of its stage, and to whoever watches.

step --Log--> OUT/STAGE.jsonl, watch(Report)          Course(Report) -> Outlook: pace and time left of all stages
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
"""Steps that a pace is taken from."""

EARLY = 0.3
"""A stage's first steps are its smallest: up to this share of them its expected pace stands where it is the slower."""


@dataclass(frozen=True, kw_only=True)
class StepReport:
    """A step of a stage."""

    stage: str
    """Its name."""
    step: int
    """Steps done."""
    steps: int
    """Of the whole stage."""
    loss: float
    tokens: int
    """Image and text tokens of the step."""
    seconds: float
    """That it took."""
    scores: Mapping[str, float] = field(default_factory=dict)
    """Running means on pages never seen before: exact match by kind of page, characters named rightly."""

    def text(self) -> str:
        """A few words."""
        scores = "".join(f", {name} {round(value, 2):g}" for name, value in self.scores.items())
        return f"{self.stage} {self.step} of {self.steps}, loss {self.loss:.3f}{scores}"


Watch = Callable[[StepReport], Any]
"""Called after each step."""


class StageLog:
    """The steps of one stage, timed.

    Args:
        stage: name of the stage, and of the file.
        steps: of the whole stage.
        out: folder of the run.
        watch: whoever else wants to know.
    """

    def __init__(self, stage: str, steps: int, out: Path, watch: Watch | None) -> None:
        self.stage, self.steps, self.watch = stage, steps, watch
        self.journal, self.last = JsonlLog(out / f"{stage}.jsonl"), time.monotonic()

    def __call__(self, step: int, *, loss: float, tokens: int, scores: Mapping[str, float]) -> None:
        """Write a step down, and tell of it."""
        now = time.monotonic()
        seconds, self.last = round(now - self.last, 4), now
        self.journal.add({"step": step, "loss": loss, **scores, "tokens": tokens, "seconds": seconds})
        if self.watch is not None:
            told = StepReport(
                stage=self.stage,
                step=step,
                steps=self.steps,
                loss=loss,
                tokens=tokens,
                seconds=seconds,
                scores=dict(scores),
            )
            self.watch(told)


def running(means: dict[str, float], name: str, value: float, *, keep: float = 0.95) -> None:
    """Bring a running mean forward; the first value begins it."""
    means[name] = keep * means.get(name, value) + (1 - keep) * value


@dataclass(frozen=True, kw_only=True)
class StagePlan:
    """A stage before it is run."""

    stage: str
    steps: int
    pace: float
    """Seconds that a step is expected to take, until it is measured."""


@dataclass(frozen=True, kw_only=True)
class Remaining:
    """A whole run as a person watches it."""

    text: str
    """One line: the stages under way, pace, time left."""
    done: int
    """Steps of all stages."""
    total: int
    tokens_per_second: float
    """Of all stages under way."""
    seconds_left: float
    """Of the whole run."""


class ProgressEstimator:
    """All stages of a run and what they have told.

    Args:
        groups: stages in their order; those of one group run side by side.
    """

    def __init__(self, groups: Sequence[Sequence[StagePlan]]) -> None:
        self.groups = groups
        self.told: dict[str, StepReport] = {}
        self.recent: dict[str, deque[StepReport]] = {}

    def __call__(self, report: StepReport) -> Remaining:
        """Take a report; how things stand."""
        self.told[report.stage] = report
        self.recent.setdefault(report.stage, deque(maxlen=WINDOW)).append(report)
        group = next(g for g in self.groups if report.stage in [leg.stage for leg in g])
        now = [self.told[leg.stage] for leg in group if leg.stage in self.told]
        under_way = [one for one in now if one.step < one.steps] or [report]
        pace, left = sum(self._pace(one.stage) for one in under_way), self._left(self.groups.index(group))
        text = "; ".join(one.text() for one in now)
        return Remaining(
            text=f"{text}; {pace:,.0f} tokens/s, {duration(left)} left",
            done=self._done(self.groups.index(group)),
            total=sum(leg.steps for g in self.groups for leg in g),
            tokens_per_second=pace,
            seconds_left=left,
        )

    def _pace(self, stage: str) -> float:
        mine = self.recent[stage]
        return sum(one.tokens for one in mine) / max(sum(one.seconds for one in mine), 1e-9)

    def _done(self, group: int) -> int:
        before = sum(leg.steps for g in self.groups[:group] for leg in g)
        return before + sum(self.told[leg.stage].step for leg in self.groups[group] if leg.stage in self.told)

    def _left(self, group: int) -> float:
        return sum(max(self._of(leg) for leg in g) for g in self.groups[group:])

    def _of(self, leg: StagePlan) -> float:
        """Seconds that a stage still takes."""
        if leg.stage not in self.told:
            return leg.steps * leg.pace
        told, mine = self.told[leg.stage], self.recent[leg.stage]
        measured = sum(one.seconds for one in mine) / len(mine)
        pace = max(measured, leg.pace) if told.step < EARLY * told.steps else measured
        return (told.steps - told.step) * pace
