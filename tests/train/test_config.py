"""The paper's stages at full size, on the meta device: parts, rates, memory."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from itertools import takewhile
from pathlib import Path

import pytest
import torch

from ixc.cli.main import app
from ixc.errors import UsageError
from ixc.model.configuration import IxcTextConfig
from ixc.model.decoder import Decoder
from ixc.model.rope import rotary
from ixc.train.config import Adapter, Resolution, TrainConfig, TrainedPart, read_train_config
from ixc.train.memory_estimate import _BLOCK_D, _BLOCK_F, estimate
from ixc.train.param_groups import count_weights, meta_model, param_groups, part_of
from ixc.train.plan import train_plan

RECIPES = Path(__file__).parents[2] / "recipes"
WRITTEN = json.loads((RECIPES.parent / "benchmarks/plans_7b.json").read_text())
"""What docs/fine-tuning.md says of them."""

ALL = 8_597_499_904
"""Weights of the published file (spec k)."""


def config_of(name: str) -> TrainConfig:
    return read_train_config(RECIPES / f"{name}.py")


@pytest.fixture(scope="module")
def everything() -> torch.nn.Module:
    return meta_model(config_of("sft_4khd"))


def test_count_weights_of_pretraining_freezes_the_llm() -> None:
    found = count_weights(meta_model(config_of("pretrain_4khd")))
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


def test_param_groups_hold_every_parameter_once(everything: torch.nn.Module) -> None:
    made = param_groups(everything, config_of("sft_4khd"))
    assert sum(group.num_weights for group in made) == ALL
    parameters = [id(p) for group in made for p in group.parameters]
    assert len(parameters) == len(set(parameters)) == len(list(everything.parameters()))


def test_param_groups_learning_rates_of_fine_tuning(everything: torch.nn.Module) -> None:
    rates = {group.name: group.learning_rate for group in param_groups(everything, config_of("sft_4khd"))}
    assert rates["LLM"] == rates["head"] == rates["embeddings"] == pytest.approx(1e-5)  # 0.2 of 5e-5
    assert rates["PLoRA"] == rates["projector"] == 5e-5
    assert rates["vision tower, block 23"] == pytest.approx(5e-5 * 0.9)
    assert rates["vision tower, block 0"] == pytest.approx(5e-5 * 0.9**24)
    assert rates["vision tower, embeddings"] == pytest.approx(5e-5 * 0.9**25)


def test_param_groups_vectors_have_no_weight_decay(everything: torch.nn.Module) -> None:
    for group in param_groups(everything, config_of("sft_4khd")):
        assert (group.weight_decay == 0) == group.name.endswith("vectors")
        assert all((max(p.shape) == p.numel()) == (group.weight_decay == 0) for p in group.parameters)


def test_part_of_tells_lora_from_plora() -> None:
    found = count_weights(meta_model(config_of("lora")))
    assert {part for part, (some, _) in found.items() if some} == {"LoRA"}
    # rank * (in + out) of wqkv, wo, w1, w2, w3, in 32 layers
    assert found["LoRA"][0] == 16 * 32 * ((4096 + 6144) + 2 * 4096 + 3 * (4096 + 14336))
    assert found["PLoRA"] == (0, 522_715_136)
    assert part_of("base_model.model.model.language_model.layers.0.attention.wqkv.base.lora_A.default.weight") == "LoRA"
    with pytest.raises(UsageError, match="belongs to no part"):
        part_of("something.weight")


def test_learning_rate_at_warmup_and_cosine() -> None:
    paper = config_of("pretrain_4khd")
    rates = [paper.learning_rate_at(step, total_steps=1000) for step in range(1000)]
    assert max(rates) == rates[9] == rates[10] == 2e-4
    assert rates[0] == pytest.approx(2e-5)
    assert rates[505] == pytest.approx(1e-4)
    assert rates[-1] == pytest.approx(0, abs=1e-9)


def test_estimate_is_the_sum_of_its_items() -> None:
    paper = config_of("sft_4khd")
    parts = count_weights(meta_model(paper))
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


def test_block_constants_match_saved_tensors() -> None:
    narrow, wide = kept_values(256, 512), kept_values(256, 1024)
    per_mlp = (wide - narrow) / 512
    assert per_mlp == pytest.approx(_BLOCK_F, abs=0.1)
    assert _BLOCK_D - 1 < (narrow - 512 * per_mlp) / 256 <= _BLOCK_D


@pytest.mark.parametrize("name", ["lora", "qlora"])
def test_train_plan_adapters_fit_one_gpu_of_24_gb(name: str) -> None:
    found = train_plan(config_of(name), gpus=1, gpu_memory=24e9)
    assert found.fits
    assert found.needed == WRITTEN[name]["needed"]


@pytest.mark.parametrize("name", ["pretrain_4khd", "sft_4khd", "lora", "qlora", "lora_nano", "lora_boarding"])
def test_recipe_names_the_source_of_every_number(name: str) -> None:
    lines = (RECIPES / f"{name}.py").read_text().partition("def recipe()")[2].splitlines()
    fields = [i for i, line in enumerate(lines) if re.match(r" {8}(?!name=|model=)\w+=", line)]
    assert len(fields) >= 6
    for i in fields:
        before = [line for line in lines[:i] if line.strip()]
        comment = list(takewhile(lambda line: line.strip().startswith("#"), reversed(before)))
        assert comment, lines[i]
        assert re.match(r"\s+# \[[PFCO]\] ", comment[-1]), lines[i]


OLD_FIELDS = {
    "samples": "global_batch_size",
    "peak_rate": "learning_rate",
    "warmup": "warmup_ratio",
    "final_rate": "min_learning_rate",
    "clip": "max_grad_norm",
    "context": "max_seq_length",
    "budget": "max_tokens_per_batch",
}


def test_train_config_names_the_successors_of_old_fields(tmp_path: Path) -> None:
    for old, new in OLD_FIELDS.items():
        with pytest.raises(UsageError, match=rf"^TrainConfig has 1 fields .* older version: {old} is {new}$"):
            replace(config_of("lora"), **{old: 1})
    for cls, old in ((Resolution, "datasets"), (Adapter, "targets"), (TrainedPart, "scale")):
        with pytest.raises(UsageError, match=f"^{cls.__name__} has 1 fields .*: {old} is "):
            cls(**{old: 1})
    recipe = tmp_path / "mine.py"
    recipe.write_text(OLD_RECIPE.format(lora=str(RECIPES / "lora.py")))
    with pytest.raises(UsageError) as caught:
        read_train_config(recipe)
    assert str(caught.value) == (
        f"{recipe}: TrainConfig has 2 fields under the names of an older version: peak_rate is learning_rate; "
        "sources is no field any more: delete it, or keep it as a comment"
    )


OLD_RECIPE = """
from dataclasses import replace
from pathlib import Path
from ixc.train.config import read_train_config

def recipe():
    return replace(read_train_config(Path({lora!r})), peak_rate=1e-4, sources={{"peak_rate": "[O] mine"}})
"""


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("from ixc.train.stage import Stage", "the module ixc.train.stage is now ixc.train.config, where Stage is"),
        ("from ixc.train.config import Trained", "Trained of ixc.train.config is now TrainedPart; rename it"),
    ],
)
def test_read_train_config_names_where_old_imports_are_now(line: str, words: str, tmp_path: Path) -> None:
    recipe = tmp_path / "mine.py"
    recipe.write_text(f"{line}\n\ndef recipe():\n    return None\n")
    with pytest.raises(UsageError) as caught:
        read_train_config(recipe)
    assert words in str(caught.value)
    assert str(caught.value).startswith(f"{recipe}: ")


def test_train_config_refuses_contradictions() -> None:
    made = config_of("sft_4khd")
    with pytest.raises(UsageError, match="exactly one"):
        replace(made, epochs=1)
    with pytest.raises(UsageError, match="raise max_tokens_per_batch"):
        replace(made, max_tokens_per_batch=4096)
    with pytest.raises(UsageError, match="come together"):
        replace(made, trained=(TrainedPart(part="LoRA"),))
    with pytest.raises(UsageError, match="a TrainConfig needed"):
        read_train_config(RECIPES / "nano.py")


def test_plan_train_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert not app(["plan-train", str(RECIPES / "sft_4khd.py")], standalone_mode=False)
    out = capsys.readouterr().out
    assert "vision tower, block 7" in out
    assert "8,597,499,904 x 16 B / 8" in out
    assert "3,500 steps x 2,048 = 7,168,000 conversations" in out
    assert not app(["plan-train", str(RECIPES / "lora.py"), "--gpus", "1", "--json"], standalone_mode=False)
    assert json.loads(capsys.readouterr().out)["parts"]["LoRA"]["learning"] == 37_748_736
