"""The metrics that operators have dashboards on: names, labels and values as before `prometheus_client` kept them."""

from __future__ import annotations

from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families
from talk import Running

from ixc.serving.metrics import COUNTERS, Metrics

BEFORE = Path(__file__).with_name("metrics_before.txt")
"""Text of the same measurements by the release before, which wrote the format itself."""

RESPONSES = (
    ("/v1/chat/completions", 200), ("/v1/chat/completions", 200), ("/v1/chat/completions", 429), ("/page", 200),
    ("other", 404),
)  # fmt: skip


@pytest.fixture
def metrics() -> Metrics:
    found = Metrics()
    for route, status in RESPONSES:
        found.count_response(route, status)
    for place, name in enumerate(COUNTERS):
        found.add(name, 10 * place + 1)
    for seconds in (0.05, 0.3, 0.3, 7.5, 1000.0):
        found.first_token.observe(seconds)
    for seconds in (0.1, 299.0):
        found.request.observe(seconds)
    found.add_gauge("ixc_requests_inside", "Requests running and waiting.", lambda: 2)
    found.add_gauge("ixc_tokens_per_second", "Prompt and answer tokens a second, smoothed.", lambda: 200.5)
    return found


def samples(text: str) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    """(name, labels) -> value; bounds of buckets as numbers, which Prometheus 3 makes of them too."""
    found = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            labels = {key: f"{float(value):g}" if key == "le" else value for key, value in sample.labels.items()}
            found[sample.name, tuple(sorted(labels.items()))] = sample.value
    return found


def test_metrics_text_has_the_names_and_values_of_before(metrics: Metrics) -> None:
    before = samples(BEFORE.read_text(encoding="utf-8"))
    assert len(before) == 40
    assert samples(metrics.text()) == pytest.approx(before)


def test_metrics_text_has_the_types_of_before(metrics: Metrics) -> None:
    def types(text: str) -> set[str]:
        return {line for line in text.splitlines() if line.startswith("# TYPE")}

    assert types(metrics.text()) == types(BEFORE.read_text(encoding="utf-8"))


def test_metrics_of_a_server_have_every_gauge(server: Running) -> None:
    status, text, headers = server.call("GET", "/metrics")
    assert status == 200
    assert headers["content-type"].startswith("text/plain; version=0.0.4")
    gauges = {"requests_inside", "tokens_inside", "tokens_limit", "body_bytes_inside", "tokens_per_second"}
    gauges |= {"tile_cache_bytes", "prefix_cache_bytes", "cache_memory_bytes", "cache_memory_limit_bytes"}
    assert {f"ixc_{name}" for name in gauges} <= {name for name, _ in samples(text)}
