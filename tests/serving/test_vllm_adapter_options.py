"""Adapters of `ixc serve --engine vllm --lora`: what is refused, and vLLM's options; vLLM itself is not needed."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from ixc.errors import UsageError
from ixc.inference.cost import ModelGeometry
from ixc.inference.model_folder import EMBEDDED
from ixc.serving import backend
from ixc.serving.image_input import Limits
from ixc.serving.vllm.adapters import RANKS, adapter_bytes, adapter_options, max_rank
from ixc.serving.vllm.launch import VllmConfig, build_launch

WQKV = "base_model.model.model.language_model.layers.0.attention.wqkv.base.lora_A.weight"

Make = Callable[..., Path]
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """Writes an adapter's folder."""

    def adapter(name: str = "one", *, tensor: str = WQKV, **settings: Any) -> Path:
        folder = tmp_path / name
        folder.mkdir()
        (folder / "adapter_config.json").write_text(json.dumps({"r": 8, "lora_alpha": 8, **settings}))
        save_file({tensor: np.zeros((8, 4), dtype=np.float32)}, folder / "adapter_model.safetensors")
        return folder

    return adapter


def test_adapter_options_name_folders_and_room(make: Make) -> None:
    one, two = make(r=8), make("two", r=16, rank_pattern={"wo": 20})
    found = list(adapter_options({"one": one, "two": two}, model="nano"))
    assert found[: found.index("--lora-modules")] == [
        *("--enable-lora", "--max-loras", "2", "--max-lora-rank", "32", "--lora-target-modules", "base"),
    ]
    modules = [json.loads(word) for word in found[found.index("--lora-modules") + 1 :]]
    assert modules == [{"name": "one", "path": str(one)}, {"name": "two", "path": str(two)}]
    assert adapter_options({}, model="nano") == ()


def test_adapter_options_refuse_the_models_own_name(make: Make) -> None:
    with pytest.raises(UsageError, match="the model itself is named 'nano'; give the adapter another name"):
        adapter_options({"nano": make()}, model="nano")


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"tensor": WQKV.replace("language_model", "vision_tower")}, "outside the decoder's matrices"),
        ({"tensor": WQKV.replace(".base.", ".Plora_A.")}, "outside the decoder's matrices"),
        ({"modules_to_save": ["output"]}, "uses modules_to_save"),
        ({"use_dora": True}, "uses use_dora"),
        ({"r": RANKS[-1] + 1}, "has rank 513, vLLM takes 512 at most; merge it"),
        ({"r": "8"}, "r is '8', a whole number above 0 needed"),
    ],
)
def test_max_rank_refuses_what_vllm_cannot_serve(make: Make, given: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        max_rank({"one": make(**given)})


def test_max_rank_of_broken_files(make: Make) -> None:
    folder = make()
    (folder / "adapter_model.safetensors").write_bytes(b"x")
    with pytest.raises(UsageError, match=r"adapter_model\.safetensors cannot be read"):
        max_rank({"one": folder})
    (folder / "adapter_config.json").write_text("[]")
    with pytest.raises(UsageError, match="a JSON object needed; copy the adapter again"):
        max_rank({"one": folder})


def test_adapter_bytes_of_the_published_model(make: Make) -> None:
    sides = (4096 + 6144) + (4096 + 4096) + 3 * (4096 + 14336)  # wqkv, wo, w1, w3, w2: in + out
    assert adapter_bytes({"one": make(r=8), "two": make("two")}, ModelGeometry(), itemsize=2) == 2 * 8 * sides * 32 * 2
    assert adapter_bytes({}, ModelGeometry(), itemsize=2) == 0


def test_build_launch_with_an_adapter(make: Make) -> None:
    config = VllmConfig(
        folder=EMBEDDED, name="nano", host="127.0.0.1", port=8000, hd=None, partition=None, dtype="float32",
        accelerated=False, memory=1 << 30, limits=Limits(), drain_seconds=1,
    )  # fmt: skip
    alone, beside = build_launch(config), build_launch(replace(config, adapters={"one": make(r=64)}))
    assert "--enable-lora" not in alone.command
    assert json.loads(beside.command[-1])["name"] == "one"
    kv = [int(each.command[each.command.index("--kv-cache-memory-bytes") + 1]) for each in (alone, beside)]
    assert kv[0] > kv[1]  # the room for adapters is taken from the cache's
    assert any(line.startswith("adapters") and line.endswith("one") for line in beside.lines)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["--engine", "light", "--lora", "a=b"],
            "serves none by name; merge it with `ixc merge`, or use --engine vllm",
        ),
        (["--engine", "vllm", "--lora", "a"], "--lora 'a' is no NAME=DIR; write --lora passes=runs/passes"),
        (["--engine", "vllm", "--lora", "a=nowhere"], "nowhere has no adapter_config.json"),
        (["--engine", "vllm", "--cache-memory", "1"], "--cache-memory are of the light server"),
        (["--engine", "light", "--cache-memory", "1", "--prefix-cache", "2"], "cache_memory allows 1,048,576"),
    ],
)
def test_serve_refuses_adapters_and_cache_limits(
    run: Run, monkeypatch: pytest.MonkeyPatch, words: list[str], message: str
) -> None:
    monkeypatch.setattr(backend, "has_vllm", lambda: True)
    status, out, error = run("serve", *words)
    assert (status, out) == (2, "")
    assert message in error
    assert len(error.splitlines()) == 1


def test_serve_refuses_one_name_for_two_adapters(run: Run, monkeypatch: pytest.MonkeyPatch, make: Make) -> None:
    monkeypatch.setattr(backend, "has_vllm", lambda: True)
    one = make()
    status, _, error = run("serve", "--engine", "vllm", "--lora", f"a={one}", "--lora", f"a={one}")
    assert (status, "--lora names 'a' twice" in error) == (2, True)
