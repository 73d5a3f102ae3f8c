"""Settings for vLLM by the arithmetic of `ixc plan`; vLLM itself is not needed."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from ixc.errors import CapacityError, UsageError
from ixc.inference.folder import EMBEDDED
from ixc.inference.plan import ModelGeometry
from ixc.serving import backend, launch
from ixc.serving.door import Limits
from ixc.serving.launch import Launch, Order, settings

GIB = 1 << 30


@pytest.fixture
def order() -> Order:
    return Order(
        folder=EMBEDDED, name="nano", host="127.0.0.1", port=8000, hd=None, partition=None, dtype="auto",
        accelerated=False, memory=16 * GIB, limits=Limits(), drain_seconds=120, api_key="secret",
    )  # fmt: skip


def option(found: Launch, name: str) -> str:
    return found.command[found.command.index(name) + 1]


def test_a_context_holds_the_largest_image_and_the_cache_holds_contexts(order: Order) -> None:
    found = settings(order)
    context, kv = int(option(found, "--max-model-len")), int(option(found, "--kv-cache-memory-bytes"))
    assert context > 8737 + launch.ANSWER  # the largest image at HD-55: spec (a)
    text = json.loads((EMBEDDED / "config.json").read_text())["text_config"]
    heads, width = text["num_key_value_heads"], text["head_dim"]
    token = 2 * text["num_hidden_layers"] * heads * width * 4  # keys and values, layers, heads, width, float32
    assert kv == launch.REQUESTS * context * token
    assert any(f"{context:,}" in line for line in found.lines)
    assert json.loads(option(found, "--mm-processor-kwargs")) == {"hd": 9, "partition": "native", "max_hd": 55}


def test_the_key_is_in_no_command(order: Order) -> None:
    found = settings(order)
    assert "secret" not in " ".join([*found.command, *found.lines, found.environment[launch.SETTINGS]])
    assert found.environment[launch.KEY] == "secret"


def test_the_published_model(order: Order, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launch, "read_geometry", lambda folder: ModelGeometry())
    monkeypatch.setattr(launch, "read_tiling", lambda folder: {})
    with pytest.raises(CapacityError, match="GB of weights"):
        settings(order)
    found = settings(replace(order, accelerated=True))
    assert "--kv-cache-memory-bytes" not in found.command
    assert (option(found, "--dtype"), json.loads(option(found, "--mm-processor-kwargs"))["hd"]) == ("bfloat16", 25)
    assert any("131,072 bytes a token" in line for line in found.lines)


def test_which_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backend, "has_vllm", lambda: False)
    assert backend.choose("auto") == "light"
    for wrong in ("vllm", "tgi"):
        with pytest.raises(UsageError):
            backend.choose(wrong)
    monkeypatch.setattr(backend, "has_vllm", lambda: True)
    assert [backend.choose(name) for name in backend.ENGINES] == ["vllm", "light", "vllm"]


def test_a_folder_that_is_none(order: Order) -> None:
    with pytest.raises(Exception, match="nowhere"):
        settings(replace(order, folder=Path("nowhere")))
