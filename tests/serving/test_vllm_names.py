"""What vLLM learns about a folder: our architecture, and our names for the published weights."""

from __future__ import annotations

import json
from pathlib import Path

from ixc.model.configuration import ARCHITECTURE, IxcConfig
from ixc.model.key_mapping import own_name, published_name
from ixc.model.modeling import IxcForConditionalGeneration

PUBLISHED = Path(__file__).parents[1] / "goldens" / "reference" / "checkpoint" / "config.json"


def test_ixc_config_of_a_published_folder_has_our_architecture() -> None:
    flat = json.loads(PUBLISHED.read_text(encoding="utf-8"))
    assert flat["architectures"] != [ARCHITECTURE]
    assert IxcConfig(**flat).architectures == [ARCHITECTURE] == [IxcForConditionalGeneration.__name__]


def test_published_name_and_own_name_are_inverse(tiny_folder: Path) -> None:
    from safetensors import safe_open

    with safe_open(tiny_folder / "model.safetensors", "pt") as file:
        published = set(file.keys())
    assert {published_name(own_name(key)) for key in published} == published
    assert all(own_name(own_name(key)) == own_name(key) for key in published)
    config = IxcConfig(**json.loads((tiny_folder / "config.json").read_text(encoding="utf-8")))
    own = set(dict(IxcForConditionalGeneration(config).named_parameters()))
    assert {own_name(key) for key in published} == own
