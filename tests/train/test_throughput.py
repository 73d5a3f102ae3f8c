"""Throughput: FLOPs counted by hand, and their share of the peak of a known device."""

from __future__ import annotations

import pytest
import torch

from ixc.train import throughput


def test_flops_per_token_are_those_of_a_linear_map() -> None:
    # 100 frozen weights: forward 200, back to the inputs 200; 10 that learn: 20 + 20 and 20 for their own gradient.
    assert throughput.flops_per_token({"LLM": (0, 100), "LoRA": (10, 10), "vision tower": (0, 999)}) == 400 + 60


def test_throughput_meter_share_of_a_known_peak(monkeypatch: pytest.MonkeyPatch) -> None:
    assert throughput.peak_flops("NVIDIA H200") == 989e12
    assert throughput.peak_flops("NVIDIA GeForce GTX 1080") is None
    reading = throughput.ThroughputMeter(1e9, 1e12)(500)
    assert reading.utilization == 0.5
    assert reading.text().endswith("GB, 50% of the peak")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    plain = throughput.ThroughputMeter(0.0, None)(500)
    assert plain.utilization is None
    assert 1e7 < plain.memory < 1e12  # a Python with torch in it
