"""Adapters of `ixc serve --engine vllm --lora`: what is refused, and vLLM's options; vLLM itself is not needed."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from ixc.errors import UsageError
from ixc.inference.cost import ModelGeometry
from ixc.serving.vllm.adapters import RANKS, adapter_bytes, adapter_options, max_rank

WQKV = "base_model.model.model.language_model.layers.0.attention.wqkv.base.lora_A.weight"

Make = Callable[..., Path]


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
