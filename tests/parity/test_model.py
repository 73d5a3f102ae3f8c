"""The model against the original code's numbers: features, hidden states, logits, tokens, losses, gradients."""

import json
from typing import Any

import pytest
import torch

from ixc.model.configuration import IxcConfig, IxcTextConfig
from ixc.model.generation import AnswerRepetitionPenalty
from ixc.model.key_mapping import published_name
from ixc.model.loading import load
from ixc.model.modeling import IxcForConditionalGeneration
from ixc.model.rope import inverse_frequencies, rotary
from parity.model_goldens import (
    FOLDER,
    INFERENCE,
    RECORD,
    REFERENCE,
    ROUNDING,
    TENSORS,
    assert_close,
    images,
    inputs,
    tiles,
)

CASES = pytest.mark.parametrize("name", INFERENCE)
PICTURED = pytest.mark.parametrize("name", [name for name, case in INFERENCE.items() if case.get("images")])
ROPE = json.loads((REFERENCE / "rope.json").read_text())["cases"]
NEW_TOKENS = 16


@pytest.fixture(scope="module")
def model() -> IxcForConditionalGeneration:
    model = load(FOLDER).eval()
    model.generation_config.eos_token_id = None  # the golden answers run on
    return model


def answer(model: IxcForConditionalGeneration, case: dict[str, Any], **kwargs: Any) -> list[int]:
    given = inputs(case)
    ids = model.generate(**given, max_new_tokens=NEW_TOKENS, do_sample=False, **kwargs)
    return ids[0, given["input_ids"].shape[1] :].tolist()


@PICTURED
@torch.no_grad()
def test_image_features(model: IxcForConditionalGeneration, name: str) -> None:
    case = INFERENCE[name]
    given = images(case)
    before = model.model.image_sequences(**given, tiles_per_pass=3)
    after = model.get_image_features(**given).pooler_output
    for k, image in enumerate(case["images"]):
        assert len(before[k]) == image["num_tokens"]
        for stage, found in (("vit_features", before[k]), ("image_embeds", after[k])):
            assert_close(found[:: image["row_stride"]], TENSORS[f"{name}.img{k}.{stage}"])
            assert_close(found.mean(-1), TENSORS[f"{name}.img{k}.{stage}_tokmean"])


@torch.no_grad()
def test_image_features_of_a_batch(model: IxcForConditionalGeneration) -> None:
    case = RECORD["vit_batch"]
    grids = torch.tensor([[1, 2], [2, 1], [1, 1]])
    pixels = torch.cat([tiles({"processed": path}) for path in case["images"]])
    found = model.model.image_sequences(pixels, grids)
    assert [len(image) for image in found] == case["split"]
    assert_close(torch.cat(found)[:: case["row_stride"]], TENSORS["vit_batch.features"])
    assert_close(torch.cat(found).mean(-1), TENSORS["vit_batch.tokmean"])


@CASES
@torch.no_grad()
def test_modeling_prefill_logits(model: IxcForConditionalGeneration, name: str) -> None:
    found = model(**inputs(INFERENCE[name]), output_hidden_states=True)
    for i, hidden in enumerate(found.hidden_states):
        assert_close(hidden[0, TENSORS[f"{name}.hidden_positions"]], TENSORS[f"{name}.hidden_{i}"])
    assert_close(found.logits[0, TENSORS[f"{name}.logit_positions"]], TENSORS[f"{name}.logits"])
    assert found.logits[0].argmax(-1).tolist() == TENSORS[f"{name}.argmax_all"].tolist()


@CASES
def test_generation_greedy_tokens(model: IxcForConditionalGeneration, name: str) -> None:
    given = inputs(INFERENCE[name])
    found = model.generate(
        **given, max_new_tokens=NEW_TOKENS, do_sample=False, return_dict_in_generate=True, output_logits=True
    )
    assert found.sequences[0, given["input_ids"].shape[1] :].tolist() == INFERENCE[name]["greedy_tokens"]
    assert_close(torch.cat(found.logits), TENSORS[f"{name}.greedy_logits"])


@CASES
@pytest.mark.parametrize("penalty", [1.005, 1.3])
def test_answer_repetition_penalty_equals_the_golden(
    model: IxcForConditionalGeneration, name: str, penalty: float
) -> None:
    case = INFERENCE[name]
    if case.get("images"):  # the history is a dummy <s> and the answer (spec i)
        wanted = {"logits_processor": [AnswerRepetitionPenalty(penalty, prompt_length=case["seq_len"])]}
    else:
        wanted = {"repetition_penalty": penalty}
    assert answer(model, case, **wanted) == case[f"greedy_tokens_reppen_{penalty}"]


@pytest.mark.parametrize("name", ["land_1x2", "multi_image", "text_only"])
def test_generation_beams(model: IxcForConditionalGeneration, name: str) -> None:
    # Informational in the goldens (transformers 4.33), and equal nevertheless.
    assert answer(model, INFERENCE[name], num_beams=3) == INFERENCE[name]["beam3_tokens"]


@torch.no_grad()
def test_rope_dynamic_ntk_equals_the_golden() -> None:
    case = RECORD["ntk_cases"][0]
    model = load(FOLDER)
    model.model.language_model.config.max_position_embeddings = case["config_override"]["max_position_embeddings"]
    found = model.eval()(**inputs(case))
    name = case["name"]
    assert_close(found.logits[0, TENSORS[f"{name}.logit_positions"]], TENSORS[f"{name}.logits"])


@pytest.mark.parametrize(
    "case", json.loads((REFERENCE / "rope.json").read_text())["cases"], ids=lambda case: str(case["seq_len"])
)
def test_rope_rotary_tables(case: dict[str, Any]) -> None:
    config = IxcTextConfig(
        head_dim=case["dim"],
        max_position_embeddings=case["max_position_embeddings"],
        rope_scaling={"type": "dynamic", "factor": case["factor"]},
        rope_theta=case["base"],
    )
    frequencies = inverse_frequencies(config, torch.tensor([case["seq_len"]]))[0]
    # 5e-7: two roundings of float32 between their order of the formula and ours.
    torch.testing.assert_close(frequencies[case["dims"]], torch.tensor(case["inv_freq"]), rtol=5e-7, atol=0.0)
    positions = torch.arange(case["seq_len"])[None]
    for found, key in zip(rotary(config, positions, dtype=torch.float32), ("cos", "sin"), strict=True):
        chosen = found[0, 0][case["positions"]][:, case["dims"]]
        # An angle of 40,000 radians has an error of 40,000 * 5e-7 in float32 itself.
        torch.testing.assert_close(chosen, torch.tensor(case[key]), rtol=0.0, atol=max(1e-5, case["seq_len"] * 2e-7))


@pytest.mark.parametrize("case", RECORD["training_cases"], ids=lambda case: case["name"])
def test_modeling_loss_and_gradients(case: dict[str, Any]) -> None:
    name, model = case["name"], load(FOLDER).eval()
    labels = TENSORS[f"{name}.labels"].long()[None]
    loss = model(**inputs(case), labels=labels, logits_to_keep=1).loss
    loss.backward()
    assert loss.item() == pytest.approx(case["loss"], rel=1e-5)
    gradients = {published_name(key): value.grad for key, value in model.named_parameters()}
    norms = {key: None if grad is None else grad.norm().item() for key, grad in gradients.items()}
    for key, wanted in case["grad_norms"].items():
        if "post_layernorm" in key or "position_ids" in key:
            continue
        found = norms[key]
        assert (found or 0.0) == pytest.approx(wanted or 0.0, rel=1e-3, abs=ROUNDING), key
    total = sum(norm**2 for norm in norms.values() if norm) ** 0.5
    assert total == pytest.approx(case["total_grad_norm"], rel=1e-3)
    for key, wanted in TENSORS.items():
        if key.startswith(f"{name}.grad."):
            assert_close(gradients[key.removeprefix(f"{name}.grad.")], wanted, tolerance=1e-3)


def test_modeling_published_keys_and_shapes() -> None:
    wanted = json.loads((REFERENCE / "checkpoint_keys.json").read_text())
    with torch.device("meta"):
        model = IxcForConditionalGeneration(IxcConfig())
    found = {published_name(key): list(value.shape) for key, value in model.state_dict().items()}
    assert found == {entry["key"]: entry["shape"] for entry in wanted["keys"] if entry["status"] == "present"}
    assert sum(value.numel() for value in model.parameters()) == wanted["num_params_published"] == 8_597_499_904
