"""Metrics of the light server in Prometheus' text format 0.0.4, kept by `prometheus_client` in their own registry."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Metric
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest

BUCKETS = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0)
"""Upper bounds of the histograms, seconds: from a short text on a GPU to a page of 4K on a laptop."""

CONTENT_TYPE = CONTENT_TYPE_PLAIN_0_0_4

COUNTERS = {
    "ixc_prompt_tokens_total": "Tokens of prompts answered, images included.",
    "ixc_prompt_tokens_cached_total": "Those of them whose keys and values came from the prefix cache.",
    "ixc_image_tokens_total": "Tokens of images in prompts answered.",
    "ixc_generation_tokens_total": "Tokens of answers.",
    "ixc_images_total": "Images in prompts answered.",
    "ixc_cancelled_total": "Answers whose client disconnected.",
}
"""Name -> help of the counters without labels."""


class Registry(CollectorRegistry):
    """A registry without the `_created` series, which nobody of this server's users has seen.

    prometheus_client 0.26 can leave them out for the whole process only (`disable_created_metrics`), and vLLM, whose
    process our middleware shares, keeps its metrics with the same library.
    """

    def collect(self) -> Iterable[Metric]:
        for family in super().collect():
            family.samples = [sample for sample in family.samples if not sample.name.endswith("_created")]
            yield family


class Metrics:
    """Counters, gauges and histograms since the start of the process; every method may be called from any thread."""

    def __init__(self) -> None:
        self._registry = Registry()
        self._responses = Counter(
            "ixc_requests_total", "Responses by route and status.", ("route", "status"), registry=self._registry
        )
        self._counters = {name: Counter(name, text, registry=self._registry) for name, text in COUNTERS.items()}
        self.first_token = self._histogram(
            "ixc_time_to_first_token_seconds", "From the start of generation to the first text."
        )
        self.request = self._histogram("ixc_request_seconds", "From a request's arrival to the end of its answer.")

    def _histogram(self, name: str, text: str) -> Histogram:
        return Histogram(name, text, buckets=BUCKETS, registry=self._registry)

    def count_response(self, route: str, status: int) -> None:
        """Count one response. `route` is one of ours and never a client's text: labels must be bounded."""
        self._responses.labels(route, str(status)).inc()

    def add(self, name: str, value: int = 1) -> None:
        """Add to a counter, a key of `COUNTERS`."""
        self._counters[name].inc(value)

    def add_gauge(self, name: str, text: str, read: Callable[[], float]) -> None:
        """Register a gauge that is read whenever the metrics are asked for."""
        Gauge(name, text, registry=self._registry).set_function(read)

    def text(self) -> str:
        """Return all metrics in the text format."""
        return generate_latest(self._registry).decode()
