"""A step as a person watches it, and the watcher that writes every step down and shows it.

step's outcome (Done) --Watcher--> log.jsonl, and whoever watches (Glance)
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from ixc.runlog.jsonl import JsonlLog

WINDOW = 20
"""Steps that tokens/s and the time left are taken from."""


@dataclass(frozen=True, kw_only=True)
class StepResult:
    """One step, told to whoever watches."""

    step: int
    """Steps done, from 1."""
    loss: float
    """Mean over the labels of the step."""
    norm: float
    """Of the gradient, before it was clipped."""
    rate: float
    """Of a part of scale 1."""
    tokens: int
    """Tokens of the step."""
    labels: int
    """Those learned from."""
    samples: tuple[tuple[int, int], ...] = ()
    """(number of the source, number of the record in it) of all conversations of the step, sorted."""


@dataclass(frozen=True, kw_only=True)
class StepProgress:
    """A step as a person watches it."""

    done: StepResult
    """What was learned."""
    steps: int
    """Of the whole run."""
    tokens_per_second: float
    """Over the last steps."""
    seconds_left: float
    """At their pace."""
    scores: Mapping[str, float] = field(default_factory=dict)
    """What an evaluation found behind this step; empty: none was due."""

    def text(self) -> str:
        """One line."""
        return (
            f"step {self.done.step} of {self.steps}, loss {self.done.loss:.4f}, rate {self.done.rate:.2e}, "
            f"{self.tokens_per_second:,.0f} tokens/s, {duration(self.seconds_left)} left"
            + "".join(f", {name} {value:.4g}" for name, value in self.scores.items())
        )


class ProgressLogger:
    """Every step into the log, and to whoever watches."""

    def __init__(self, journal: JsonlLog, steps: int, watch: Callable[[StepProgress], Any] | None) -> None:
        self.journal, self.steps, self.watch = journal, steps, watch
        self.recent: deque[tuple[int, float]] = deque(maxlen=WINDOW)  # (tokens, seconds) of the last steps
        self.last = time.monotonic()

    def __call__(self, done: StepResult, scores: Mapping[str, float] | None = None) -> None:
        now, scores = time.monotonic(), scores or {}
        self.recent.append((done.tokens, now - self.last))
        self.journal.add(asdict(done) | {"seconds": round(now - self.last, 3)} | dict(scores))
        self.last = now
        if self.watch is not None:
            self.watch(replace(self._glance(done), scores=scores))

    def _glance(self, done: StepResult) -> StepProgress:
        seconds = sum(took for _, took in self.recent)
        return StepProgress(
            done=done,
            steps=self.steps,
            tokens_per_second=sum(tokens for tokens, _ in self.recent) / max(seconds, 1e-9),
            seconds_left=(self.steps - done.step) * seconds / len(self.recent),
        )


def duration(seconds: float) -> str:
    """As a person says it: 40 s, 12 min, 3 h 05 min."""
    minutes = round(seconds / 60)
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60:02d} min"
