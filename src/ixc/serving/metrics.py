"""What happened, for Prometheus: counters, gauges and two histograms in its text format 0.0.4."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from threading import Lock

BUCKETS = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0)
"""Upper bounds of the histograms, seconds."""

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

COUNTERS = {
    "ixc_prompt_tokens_total": "Tokens of prompts answered, images included.",
    "ixc_prompt_tokens_cached_total": "Those of them that had been read before, and were not read again.",
    "ixc_image_tokens_total": "Tokens of images in prompts answered.",
    "ixc_generation_tokens_total": "Tokens of answers.",
    "ixc_images_total": "Images in prompts answered.",
    "ixc_cancelled_total": "Answers whose reader left.",
}
"""Name -> help."""


class Histogram:
    """Seconds, counted by upper bound."""

    def __init__(self, name: str, words: str) -> None:
        self.name, self.words = name, words
        self.counts = [0] * (len(BUCKETS) + 1)
        self.sum = 0.0

    def observe(self, seconds: float) -> None:
        """One measurement, >= 0."""
        self.sum += seconds
        self.counts[next((i for i, bound in enumerate(BUCKETS) if seconds <= bound), len(BUCKETS))] += 1

    def lines(self) -> list[str]:
        """Cumulative buckets, sum and count."""
        bounds = [*(f"{bound:g}" for bound in BUCKETS), "+Inf"]
        found, below = _head(self.name, self.words, "histogram"), 0
        for bound, count in zip(bounds, self.counts, strict=True):
            below += count
            found.append(f'{self.name}_bucket{{le="{bound}"}} {below}')
        return [*found, f"{self.name}_sum {self.sum:.6f}", f"{self.name}_count {below}"]


class Metrics:
    """Counted since the start of the process; any thread may count."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._requests: dict[tuple[str, int], int] = defaultdict(int)
        self._counters = dict.fromkeys(COUNTERS, 0)
        self.first_token = Histogram("ixc_time_to_first_token_seconds", "From a request's turn to its first text.")
        self.request = Histogram("ixc_request_seconds", "From a request's arrival to the end of its answer.")

    def count_response(self, route: str, status: int) -> None:
        """One response. `route` is one of ours, never a stranger's text."""
        with self._lock:
            self._requests[route, status] += 1

    def add(self, name: str, value: int = 1) -> None:
        """Adds to a counter, a key of `COUNTERS`."""
        with self._lock:
            self._counters[name] += value

    def text(self, gauges: Sequence[tuple[str, str, float]]) -> str:
        """The page of numbers.

        Args:
            gauges: (name, help, value) of what is so at this moment.
        """
        with self._lock:
            lines = _head("ixc_requests_total", "Responses by route and status.", "counter")
            for (route, status), count in sorted(self._requests.items()):
                lines.append(f'ixc_requests_total{{route="{route}",status="{status}"}} {count}')
            for name, words in COUNTERS.items():
                lines += [*_head(name, words, "counter"), f"{name} {self._counters[name]}"]
            for name, words, value in gauges:
                lines += [*_head(name, words, "gauge"), f"{name} {value:g}"]
            return "\n".join([*lines, *self.first_token.lines(), *self.request.lines(), ""])


def _head(name: str, words: str, kind: str) -> list[str]:
    return [f"# HELP {name} {words}", f"# TYPE {name} {kind}"]
