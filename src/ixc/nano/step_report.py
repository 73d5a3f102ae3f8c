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


__all__ = ["ProgressEstimator", "Remaining", "StageLog", "StagePlan", "StepReport", "Watch", "running"]
