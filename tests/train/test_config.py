"""The paper's stages at full size, on the meta device: parts, rates, memory."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from ixc.cli.main import app
from ixc.errors import UsageError
from ixc.model.configuration import IxcTextConfig
from ixc.model.decoder import Decoder
from ixc.model.rope import rotary
from ixc.train.config import TrainConfig, Trained, read_train_config
from ixc.train.memory_estimate import _BLOCK_D, _BLOCK_F, estimate
from ixc.train.param_groups import counts, groups, part_of, skeleton
from ixc.train.plan import train_plan

RECIPES = Path(__file__).parents[2] / "recipes"
WRITTEN = json.loads((RECIPES.parent / "benchmarks/plans_7b.json").read_text())
"""What docs/training.md says of them."""

ALL = 8_597_499_904
"""Weights of the published file (spec k)."""


def stage(name: str) -> TrainConfig:
    return read_train_config(RECIPES / f"{name}.py")


@pytest.fixture(scope="module")
def everything() -> torch.nn.Module:
    return skeleton(stage("sft_4khd"))


def test_pretraining_leaves_the_language_model_alone() -> None:
    found = counts(skeleton(stage("pretrain_4khd")))
    assert {part for part, (some, _) in found.items() if some} == {
        "vision tower",
        "projector",
        "newline and separator",
        "PLoRA",
    }
    assert sum(every for _, every in found.values()) == ALL
    assert found["PLoRA"] == (522_715_136, 522_715_136)
    assert found["vision tower"] == (303_505_408, 303_505_408)
    assert found["LLM"] == (0, 6_979_588_096)


def test_fine_tuning_trains_everything_once(everything: torch.nn.Module) -> None:
    made = groups(everything, stage("sft_4khd"))
    assert sum(group.numbers for group in made) == ALL
    parameters = [id(p) for group in made for p in group.parameters]
    assert len(parameters) == len(set(parameters)) == len(list(everything.parameters()))


def test_rates_of_fine_tuning(everything: torch.nn.Module) -> None:
    rates = {group.name: group.rate for group in groups(everything, stage("sft_4khd"))}
    assert rates["LLM"] == rates["head"] == rates["embeddings"] == pytest.approx(1e-5)  # 0.2 of 5e-5
    assert rates["PLoRA"] == rates["projector"] == 5e-5
    assert rates["vision tower, block 23"] == pytest.approx(5e-5 * 0.9)
    assert rates["vision tower, block 0"] == pytest.approx(5e-5 * 0.9**24)
    assert rates["vision tower, embeddings"] == pytest.approx(5e-5 * 0.9**25)


def test_vectors_do_not_decay(everything: torch.nn.Module) -> None:
    for group in groups(everything, stage("sft_4khd")):
        assert (group.weight_decay == 0) == group.name.endswith("vectors")
        assert all((max(p.shape) == p.numel()) == (group.weight_decay == 0) for p in group.parameters)


def test_lora_and_plora_are_distinct() -> None:
    found = counts(skeleton(stage("lora")))
    assert {part for part, (some, _) in found.items() if some} == {"LoRA"}
    # rank * (in + out) of wqkv, wo, w1, w2, w3, in 32 layers
    assert found["LoRA"][0] == 16 * 32 * ((4096 + 6144) + 2 * 4096 + 3 * (4096 + 14336))
    assert found["PLoRA"] == (0, 522_715_136)
    assert part_of("base_model.model.model.language_model.layers.0.attention.wqkv.base.lora_A.default.weight") == "LoRA"
    with pytest.raises(UsageError, match="belongs to no part"):
        part_of("something.weight")


def test_the_schedule() -> None:
    paper = stage("pretrain_4khd")
    rates = [paper.rate(step, steps=1000) for step in range(1000)]
    assert max(rates) == rates[9] == rates[10] == 2e-4
    assert rates[0] == pytest.approx(2e-5)
    assert rates[505] == pytest.approx(1e-4)
    assert rates[-1] == pytest.approx(0, abs=1e-9)


def test_memory_is_a_sum_of_its_lines() -> None:
    paper = stage("sft_4khd")
    parts = counts(skeleton(paper))
    lines = {item.what: item.size for item in estimate(paper, parts)}
    assert lines["what learns"] == ALL * 16 / 8
    assert lines["inputs of decoder blocks"] == 32 * 16384 * 4096 * 2
    assert sum(lines.values()) == WRITTEN["sft_4khd"]["needed"] < 80e9
    less = {item.what: item.size for item in estimate(paper, parts, eight_bit=True)}
    assert less["what learns"] == ALL * 10 / 8


def kept_values(width: int, mlp: int, *, tokens: int = 32) -> float:
    """bfloat16 values a token that one decoder block keeps for its backward pass, weights not counted."""
    config = IxcTextConfig(
        vocab_size=64,
        hidden_size=width,
        intermediate_size=mlp,
        num_hidden_layers=1,
        num_attention_heads=width // 16,
        num_key_value_heads=width // 64,
        plora_r=width // 16,
        plora_alpha=width // 16,
    )
    decoder = Decoder(config).to(torch.bfloat16).train()
    weights = {p.untyped_storage().data_ptr() for p in decoder.parameters()}
    kept: dict[int, torch.Tensor] = {}

    def keep(value: torch.Tensor) -> torch.Tensor:
        kept[value.untyped_storage().data_ptr()] = value
        return value

    positions = torch.arange(tokens)[None]
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda value: value):
        decoder.layers[0](
            torch.randn(1, tokens, width, dtype=torch.bfloat16, requires_grad=True),
            image_mask=torch.ones(1, tokens, dtype=torch.bool),
            position_embeddings=rotary(config, positions, dtype=torch.bfloat16),
            position_ids=positions,
            attention_mask=None,
            cache=None,
        )
    return sum(value.untyped_storage().nbytes() for at, value in kept.items() if at not in weights) / tokens / 2


def test_the_counts_inside_a_block_are_measured() -> None:
    narrow, wide = kept_values(256, 512), kept_values(256, 1024)
    per_mlp = (wide - narrow) / 512
    assert per_mlp == pytest.approx(_BLOCK_F, abs=0.1)
    assert _BLOCK_D - 1 < (narrow - 512 * per_mlp) / 256 <= _BLOCK_D


@pytest.mark.parametrize("name", ["lora", "qlora"])
def test_adapters_fit_one_card_of_24_gb(name: str) -> None:
    found = train_plan(stage(name), gpus=1, gpu_memory=24e9)
    assert found.fits
    assert found.needed == WRITTEN[name]["needed"]


@pytest.mark.parametrize("name", ["pretrain_4khd", "sft_4khd", "lora", "qlora", "lora_nano"])
def test_every_number_has_a_source(name: str) -> None:
    made = stage(name)
    assert all(source.startswith(("[P]", "[F]", "[C]", "[O]")) for source in made.sources.values())
    with pytest.raises(UsageError, match="1 numbers have no source: samples"):
        replace(made, sources={key: text for key, text in made.sources.items() if key != "samples"})


def test_wrong_stages() -> None:
    made = stage("sft_4khd")
    with pytest.raises(UsageError, match="exactly one"):
        replace(made, epochs=1)
    with pytest.raises(UsageError, match="raise budget"):
        replace(made, budget=4096)
    with pytest.raises(UsageError, match="come together"):
        replace(made, trained=(Trained(part="LoRA"),))
    with pytest.raises(UsageError, match="a TrainConfig needed"):
        read_train_config(RECIPES / "nano.py")


def test_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert not app(["plan-train", str(RECIPES / "sft_4khd.py")], standalone_mode=False)
    out = capsys.readouterr().out
    assert "vision tower, block 7" in out
    assert "8,597,499,904 x 16 B / 8" in out
    assert "3,500 steps x 2,048 = 7,168,000 conversations" in out
    assert not app(["plan-train", str(RECIPES / "lora.py"), "--gpus", "1", "--json"], standalone_mode=False)
    assert json.loads(capsys.readouterr().out)["parts"]["LoRA"]["learning"] == 37_748_736
