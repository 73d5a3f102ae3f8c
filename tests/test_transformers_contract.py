"""What this package needs of transformers, name by name and through every way in, on whatever release is installed.

`just range lowest|newest` runs this file at both ends of the declared range. When a release breaks something, the first
failing test names the contract that moved; `ixc.model.transformers_contract` is where it is bridged.
"""

from __future__ import annotations

import inspect
from dataclasses import fields
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import torch
from parity.model_goldens import FOLDER, INFERENCE, inputs
from transformers import AutoModelForImageTextToText, AutoProcessor, DynamicCache, StaticCache, pipeline
from typer.testing import CliRunner

import ixc
from ixc.cli.main import app
from ixc.errors import UsageError
from ixc.inference.engine import Engine
from ixc.inference.sampling import Sampling
from ixc.model.modeling import IxcForConditionalGeneration
from ixc.model.transformers_contract import CACHE_NAME, CACHE_NAMES, cache_of, causal_mask, one_cache

ROOT = Path(__file__).parents[1]
NANO = ROOT / "src" / "ixc" / "pretrained" / "nano"
RECEIPT = ROOT / "examples" / "receipt.png"
QUESTION, ANSWER = "What is the TOTAL?", "641.57"
NEW_TOKENS = 16
"""Of the goldens."""
FEW_TOKENS = 4
"""A cache that is lost shows at the second token; without one, every token costs a prefill."""

NAMES = {
    "transformers": "AutoProcessor BatchFeature Cache CompileConfig DynamicCache GenerationConfig GenerationMixin "
    "LogitsProcessor LogitsProcessorList PreTrainedConfig PreTrainedModel PreTrainedTokenizerBase "
    "PreTrainedTokenizerFast ProcessorMixin StaticCache StoppingCriteria",
    "transformers.cache_utils": "DynamicLayer",
    "transformers.conversion_mapping": "register_checkpoint_conversion_mapping",
    "transformers.core_model_loading": "WeightRenaming",
    "transformers.generation.streamers": "BaseStreamer",
    "transformers.initialization": "normal_ zeros_",
    "transformers.image_processing_backends": "PilBackend",
    "transformers.masking_utils": "create_causal_mask",
    "transformers.modeling_layers": "GradientCheckpointingLayer",
    "transformers.modeling_outputs": "BaseModelOutputWithPast CausalLMOutputWithPast",
    "transformers.modeling_utils": "ALL_ATTENTION_FUNCTIONS",
    "transformers.models.auto.configuration_auto": "CONFIG_MAPPING",
    "transformers.processing_utils": "MultiModalData",
    "transformers.utils.generic": "ModelOutput",
    "transformers.utils.output_capturing": "capture_outputs",
}
"""Module -> names this package imports from it."""


@pytest.mark.parametrize(("module", "name"), [(m, n) for m, names in NAMES.items() for n in names.split()])
def test_transformers_contract_names_exist(module: str, name: str) -> None:
    assert hasattr(import_module(module), name), f"{module}.{name} is gone"


def test_transformers_contract_create_causal_mask_takes_the_cache_fourth() -> None:
    from transformers.masking_utils import create_causal_mask

    names = list(inspect.signature(create_causal_mask).parameters)
    assert names[:5] == ["config", "inputs_embeds", "attention_mask", CACHE_NAME, "position_ids"]


def test_transformers_contract_outputs_name_the_cache_as_generate_does() -> None:
    from transformers.generation.utils import GenerationMixin
    from transformers.modeling_outputs import BaseModelOutputWithPast, CausalLMOutputWithPast

    for output in (BaseModelOutputWithPast, CausalLMOutputWithPast):
        assert CACHE_NAME in {field.name for field in fields(output)}, output.__name__
    assert CACHE_NAME in inspect.signature(GenerationMixin.prepare_inputs_for_generation).parameters


def test_transformers_contract_checkpointed_layer_drops_the_cache() -> None:
    """Otherwise the backward pass, which runs the layer again, would append its keys a second time."""
    import transformers.modeling_layers

    assert f'"{CACHE_NAME}"' in inspect.getsource(transformers.modeling_layers)


@pytest.fixture(scope="module")
def golden() -> IxcForConditionalGeneration:
    model = AutoModelForImageTextToText.from_pretrained(FOLDER).eval()
    assert isinstance(model, IxcForConditionalGeneration)
    model.generation_config.eos_token_id = None  # the golden answers run on
    return model


def tokens(model: IxcForConditionalGeneration, case: dict[str, Any], count: int, **given: Any) -> list[int]:
    """New tokens of plain `generate`, as a user of transformers calls it."""
    batch = inputs(case)
    found = model.generate(**batch, max_new_tokens=count, do_sample=False, **given)
    return found[0, batch["input_ids"].shape[1] :].tolist()


@pytest.mark.parametrize("name", INFERENCE)
@pytest.mark.parametrize("way", ["plain", "static", "no cache", "own cache"])
def test_generate_gives_the_golden_tokens(golden: IxcForConditionalGeneration, name: str, way: str) -> None:
    given: dict[str, dict[str, Any]] = {
        "plain": {},
        "static": {"cache_implementation": "static"},
        "no cache": {"use_cache": False},
        "own cache": {CACHE_NAME: DynamicCache()},
    }
    count = NEW_TOKENS if way == "plain" else FEW_TOKENS
    assert tokens(golden, INFERENCE[name], count, **given[way]) == INFERENCE[name]["greedy_tokens"][:count]


@pytest.mark.parametrize("name", ["land_1x2", "multi_image", "text_only"])
def test_generate_gives_the_golden_beams(golden: IxcForConditionalGeneration, name: str) -> None:
    assert tokens(golden, INFERENCE[name], NEW_TOKENS, num_beams=3) == INFERENCE[name]["beam3_tokens"]


def test_transformers_contract_cache_implementation_static(golden: IxcForConditionalGeneration) -> None:
    """With transformers 5.24 a forward that did not know the new name left `cache_implementation` without effect."""
    found = golden.generate(
        **inputs(INFERENCE["land_1x2"]),
        max_new_tokens=2,
        do_sample=False,
        cache_implementation="static",
        return_dict_in_generate=True,
    )
    assert isinstance(cache_of(found), StaticCache)


@pytest.mark.parametrize("name", CACHE_NAMES)
@torch.no_grad()
def test_forward_reads_the_cache_under_either_name(golden: IxcForConditionalGeneration, name: str) -> None:
    ids = inputs(INFERENCE["text_only"])["input_ids"]
    whole = golden(input_ids=ids).logits[:, -1]
    first = golden(input_ids=ids[:, :-1], use_cache=True)
    rest = golden(input_ids=ids[:, -1:], **{name: cache_of(first)})
    torch.testing.assert_close(rest.logits[:, -1], whole, rtol=1e-4, atol=1e-4)
    assert cache_of(rest).get_seq_length() == ids.shape[1]


@torch.no_grad()
def test_forward_refuses_a_cache_it_would_swallow(golden: IxcForConditionalGeneration) -> None:
    ids, cache = torch.tensor([[1, 5]]), DynamicCache()
    with pytest.raises(UsageError, match="both cache and past_key_values"):
        golden(input_ids=ids, cache=cache, past_key_values=cache)
    for model in (golden, golden.model, golden.model.language_model):
        for name in ("kv_cache", "cache_params", "layer_past"):
            with pytest.raises(UsageError, match=f"{name} is not read here"):
                model(input_ids=ids, **{name: cache})


def test_one_cache_leaves_other_arguments_alone() -> None:
    assert one_cache(None, None, {"use_cache": True, "cache_position": torch.arange(3), "past": None}) is None


def test_causal_mask_follows_what_the_cache_holds(golden: IxcForConditionalGeneration) -> None:
    config = golden.config.text_config
    cache = DynamicCache()
    cache.update(torch.zeros(1, 1, 3, 4), torch.zeros(1, 1, 3, 4), 0)
    padding = torch.tensor([[0, 1, 1, 1, 1]])
    mask = causal_mask(
        config, torch.zeros(1, 2, 8), attention_mask=padding, cache=cache, position_ids=torch.tensor([[2, 3]])
    )
    assert mask.shape == (1, 1, 2, 5)
    assert mask[0, 0].tolist() == [[False, True, True, True, False], [False, True, True, True, True]]


@pytest.fixture(scope="module")
def engine() -> Engine:
    return ixc.load()


def test_ask_gives_the_answer_of_the_readme() -> None:
    result = CliRunner().invoke(app, ["ask", str(RECEIPT), QUESTION])
    assert result.exit_code == 0, result.output
    assert result.stdout.strip() == ANSWER


@pytest.mark.parametrize("sampling", [Sampling(), Sampling(num_beams=3)], ids=["greedy", "beams"])
def test_engine_ask_gives_the_answer_of_the_readme(engine: Engine, sampling: Sampling) -> None:
    assert engine.ask([RECEIPT], QUESTION, sampling=sampling).text == ANSWER


def test_engine_stream_gives_the_answer_of_the_readme(engine: Engine) -> None:
    assert "".join(engine.stream([RECEIPT], QUESTION)) == ANSWER


MESSAGES = [{"role": "user", "content": [{"type": "image", "path": str(RECEIPT)}, {"type": "text", "text": QUESTION}]}]


@pytest.mark.parametrize(
    "given",
    [{}, {"cache_implementation": "static"}, {"num_beams": 3}, {"use_cache": False}],
    ids=["plain", "static", "beams", "no cache"],
)
def test_auto_classes_give_the_answer_of_the_readme(given: dict[str, Any]) -> None:
    model = AutoModelForImageTextToText.from_pretrained(NANO)
    processor = AutoProcessor.from_pretrained(NANO)
    batch = processor.apply_chat_template(
        MESSAGES, add_generation_prompt=True, tokenize=True, return_dict=True, return_tensors="pt"
    )
    found = model.generate(**batch, max_new_tokens=32, do_sample=False, **given)
    assert processor.decode_answer(found[0, batch["input_ids"].shape[1] :]) == ANSWER


def test_auto_classes_in_a_pipeline_give_the_answer_of_the_readme() -> None:
    ask = pipeline("image-text-to-text", model=str(NANO))
    found = ask(text=MESSAGES, max_new_tokens=32, return_full_text=False)
    assert found[0]["generated_text"].split("[UNUSED_TOKEN")[0].strip() == ANSWER
