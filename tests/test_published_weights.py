"""The published 7B weights: names, number, ranks, prompts and answers, with the numbers of the specification.

    IXC_WEIGHTS=/models/internlm-xcomposer2-4khd-7b pytest -m weights tests/test_published_weights.py

No answer of the original at its own pictures is recorded, so the answers are held to what the pictures show.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch

from ixc.core import chat_format
from ixc.core.token_layout import num_image_tokens
from ixc.inference.engine import Engine, load
from ixc.inference.sampling import Sampling
from ixc.model.key_mapping import published_name
from ixc.model.plora import PLoRALinear
from ixc.processing.image_io import open_image

ROOT = Path(__file__).parents[1]
REFERENCE = ROOT / "tests" / "goldens" / "reference"
RECEIPT = ROOT / "examples" / "receipt.png"
WEIGHTS = os.environ.get("IXC_WEIGHTS", "")
"""Folder of the published weights."""

CHATS = [
    case
    for case in json.loads((REFERENCE / "prompts.json").read_text(encoding="utf-8"))["cases"]
    if not case["history"]
]
"""Prompts of the original's chat(); the first holds the example question of its README."""

README_CALL = {"hd": 55, "sampling": Sampling(num_beams=3), "max_new_tokens": 128}
"""The README's call of the original (spec i): HD-55, three beams, no sampling; 128 tokens instead of 1,024."""

PARAMETERS = 8_597_499_904
"""Of the published file (spec k)."""

pytestmark = [
    pytest.mark.weights,
    pytest.mark.skipif(not WEIGHTS, reason="IXC_WEIGHTS names no folder of the published weights"),
]


@pytest.fixture(scope="module")
def engine() -> Engine:
    return load(WEIGHTS, dtype="bfloat16", plora="separate")


def test_load_published_folder_has_the_published_parameters(engine: Engine) -> None:
    wanted = json.loads((REFERENCE / "checkpoint_keys.json").read_text(encoding="utf-8"))
    found = {published_name(name): list(value.shape) for name, value in engine.model.named_parameters()}
    assert found == {entry["key"]: entry["shape"] for entry in wanted["keys"] if entry["status"] == "present"}
    assert sum(value.numel() for value in engine.model.parameters()) == PARAMETERS


def test_plora_linear_published_ranks_and_scales(engine: Engine) -> None:
    """Spec (g): r = 8 with alpha = 16 at wqkv, 256 with 256 elsewhere; an update that is zero would be a lost one."""
    layers = {name: each for name, each in engine.model.named_modules() if isinstance(each, PLoRALinear)}
    assert len(layers) == 32 * 5
    for name, each in layers.items():
        rank, scale = (8, 2.0) if name.endswith("wqkv") else (256, 1.0)
        assert (each.Plora_A.out_features, each.scaling) == (rank, scale), name
        assert bool(each.Plora_B.weight.any()), name


@pytest.mark.parametrize("case", CHATS, ids=lambda case: case["query"][:20])
def test_processor_of_the_published_folder_gives_the_originals_ids(engine: Engine, case: dict[str, Any]) -> None:
    messages = chat_format.from_query(case["query"])
    images = [open_image(RECEIPT)] * case["query"].count(chat_format.IMAGE_PLACEHOLDER)
    batch = engine.processor.encode(messages, images=images, system=case["meta_instruction"], hd=1)
    ids = batch["input_ids"][0][batch["mm_token_type_ids"][0] == 0].tolist()
    assert ids == (case["ids"] if not images else [id for part in case["segments"] for id in part["ids"] or []])


def test_engine_ask_answers_the_originals_example_question(engine: Engine) -> None:
    question = CHATS[0]["query"].removeprefix(chat_format.IMAGE_PLACEHOLDER)
    answer = engine.ask([RECEIPT], question, **README_CALL)
    assert answer.image_tokens == (num_image_tokens(*answer.grids[0]),)
    assert answer.grids[0][0] * answer.grids[0][1] <= 55
    assert answer.new_tokens > 20
    assert any(shown in answer.text for shown in (*shown_answers().values(), "Bagel", "Sponge")), answer.text


def shown_answers() -> dict[str, str]:
    """Question -> answer as it stands on the receipt."""
    return json.loads(RECEIPT.with_suffix(".json").read_text(encoding="utf-8"))["answers"]


@pytest.mark.parametrize("question", ["What is the TOTAL?", "What is the title?"])
def test_engine_ask_reads_the_receipt(engine: Engine, question: str) -> None:
    """The examples' questions, whose answers stand on the page."""
    prompt = f"{question}\nAnswer the question using a single word or phrase."
    assert shown_answers()[question] in engine.ask([RECEIPT], prompt, **README_CALL).text


def test_modeling_published_weights_have_finite_logits(engine: Engine) -> None:
    """Half precision at HD-55: spec (i) runs it; an overflow would answer with noise."""
    turn = chat_format.Message("user", (chat_format.Image(open_image(RECEIPT)), "What is the TOTAL?"))
    inputs = engine.processor.encode([turn], hd=55).to(engine.model.device)
    with torch.inference_mode():
        assert bool(engine.model(**inputs, logits_to_keep=1).logits.isfinite().all())
