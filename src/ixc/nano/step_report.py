"""The log of one stage of a training from nothing: every step timed, written down and passed on.

step --StageLog--> OUT/STAGE.jsonl, watch(StepReport)
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ixc.runlog.jsonl import JsonlLog
from ixc.runlog.progress import ProgressEstimator, Remaining, StagePlan, StepReport

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


__all__ = ["ProgressEstimator", "Remaining", "StageLog", "StagePlan", "StepReport", "Watch", "running"]
