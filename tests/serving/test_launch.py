"""Settings for vLLM by the arithmetic of `ixc plan`; vLLM itself is not needed."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest

from ixc.errors import CapacityError, IxcError
from ixc.inference.cost import ModelGeometry
from ixc.inference.model_folder import EMBEDDED
from ixc.serving import backend
from ixc.serving.image_input import Limits
from ixc.serving.vllm import launch
from ixc.serving.vllm.launch import Launch, VllmConfig, build_launch

GIB = 1 << 30


@pytest.fixture
def config() -> VllmConfig:
    return VllmConfig(
        folder=EMBEDDED, name="nano", host="127.0.0.1", port=8000, hd=None, partition=None, dtype="auto",
        accelerated=False, memory=16 * GIB, limits=Limits(), drain_seconds=120, api_key="secret",
    )  # fmt: skip


def option(found: Launch, name: str) -> str:
    return found.command[found.command.index(name) + 1]


def test_build_launch_context_holds_the_largest_image(config: VllmConfig) -> None:
    found = build_launch(config)
    context, kv = int(option(found, "--max-model-len")), int(option(found, "--kv-cache-memory-bytes"))
    assert context > 8737 + launch.ANSWER  # the largest image at HD-55: spec (a)
    text = json.loads((EMBEDDED / "config.json").read_text())["text_config"]
    heads, width = text["num_key_value_heads"], text["head_dim"]
    token = 2 * text["num_hidden_layers"] * heads * width * 4  # keys and values, layers, heads, width, float32
    assert kv == launch.REQUESTS * context * token
    assert any(f"{context:,}" in line for line in found.lines)
    assert json.loads(option(found, "--mm-processor-kwargs")) == {"hd": 9, "partition": "native", "max_hd": 55}


def test_build_launch_key_is_in_no_command(config: VllmConfig) -> None:
    found = build_launch(config)
    assert "secret" not in " ".join([*found.command, *found.lines, found.environment[launch.SETTINGS]])
    assert found.environment[launch.KEY] == "secret"


def test_build_launch_origins_are_the_middlewares(config: VllmConfig) -> None:
    """vLLM 0.32 answers pages of every origin unless it is told otherwise."""
    found = build_launch(replace(config, origins=("https://app.example.org",)))
    assert json.loads(option(found, "--allowed-origins")) == []
    assert json.loads(found.environment[launch.SETTINGS])["origins"] == ["https://app.example.org"]
    assert json.loads(build_launch(config).environment[launch.SETTINGS])["origins"] == []


def test_build_launch_of_the_published_model(config: VllmConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launch, "read_geometry", lambda folder: ModelGeometry())
    monkeypatch.setattr(launch, "read_tiling", lambda folder: {})
    with pytest.raises(CapacityError, match="GB of weights"):
        build_launch(config)
    found = build_launch(replace(config, accelerated=True))
    assert "--kv-cache-memory-bytes" not in found.command
    assert (option(found, "--dtype"), json.loads(option(found, "--mm-processor-kwargs"))["hd"]) == ("bfloat16", 25)
    assert any("131,072 bytes a token" in line for line in found.lines)


def test_free_memory(tmp_path: Path) -> None:
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    file = tmp_path / "meminfo"
    assert launch.free_memory(file) == total
    file.write_text("MemTotal:       24680000 kB\nMemAvailable:   12000000 kB\nSwapFree: 1 kB\n")
    assert launch.free_memory(file) == 12_000_000 * 1024
    assert 0 < launch.free_memory() <= total


def test_choose_engine_with_and_without_vllm(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backend, "has_vllm", lambda: False)
    assert backend.choose_engine("auto") == "light"
    for wrong in ("vllm", "tgi"):
        with pytest.raises(IxcError):
            backend.choose_engine(wrong)
    monkeypatch.setattr(backend, "has_vllm", lambda: True)
    assert [backend.choose_engine(name) for name in backend.ENGINES] == ["vllm", "light", "vllm"]


def test_build_launch_missing_folder(config: VllmConfig) -> None:
    with pytest.raises(Exception, match="nowhere"):
        build_launch(replace(config, folder=Path("nowhere")))
