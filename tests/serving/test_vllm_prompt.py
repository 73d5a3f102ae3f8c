"""Prompts inside vLLM in ids; vLLM itself is not needed. Oracle: the ids of the local model's benchmark runs."""

from __future__ import annotations

from itertools import groupby, repeat
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from test_beams import PUBLISHED, question

from ixc.core.chat_format import IMAGE_PLACEHOLDER, Message, parse_messages, render
from ixc.core.chat_format import Image as chat_format_image
from ixc.core.prompt_format import CHAT_FORMAT, PromptFormat, prompt_segments
from ixc.errors import IxcError
from ixc.evals import endpoint
from ixc.evals.question import Question
from ixc.inference import batch
from ixc.inference.engine import Engine
from ixc.processing.image_io import open_image
from ixc.processing.processing import IxcProcessor
from ixc.processing.prompt_encoding import PromptEncoder
from ixc.serving.vllm import prompt


def local(engine: Engine, asked: Question) -> list[int]:
    """The local model's ids, one for each image."""
    published = asked.prompt_format.published
    request = batch.BatchRequest(
        name="own", images=asked.images, messages=asked.messages, prompt_format=asked.prompt_format, hd=asked.hd
    )
    own = engine.processor
    segments = batch.segments(
        request, [open_image(image) for image in asked.images], system=own.system, rules=own.rules
    )
    inputs = own.encode_segments([segments], bos_once=published, hd=asked.hd, return_tensors="pt")
    ids, types = (inputs[name][0].tolist() for name in ("input_ids", "mm_token_type_ids"))
    runs = [(kind, [token for token, _ in run]) for kind, run in groupby(zip(ids, types, strict=True), lambda p: p[1])]
    return [token for kind, run in runs for token in (run[:1] if kind else run)]


def served(engine: Engine, asked: Question, *, quirks: bool = False) -> list[int]:
    """vLLM's ids of what `ixc eval` sends; vLLM reads a picture's part as one of type image."""
    said, continued, form = endpoint.messages(asked)
    for message in said:
        if isinstance(message["content"], list):
            message["content"] = [part if part["type"] == "text" else {"type": "image"} for part in message["content"]]
    options = {"add_generation_prompt": not continued, "continue_final_message": continued, "tools": None, **form}
    return ids(engine, said, options, quirks=quirks)


def ids(engine: Engine, said: Any, options: dict[str, Any], *, quirks: bool = False) -> list[int]:
    encoder = PromptEncoder(engine.processor.tokenizer, published_quirks=quirks)
    return prompt.ids(encoder, said, options, system=engine.processor.system)


@pytest.mark.parametrize("quirks", [False, True])
@pytest.mark.parametrize("name", PUBLISHED)
def test_prompt_published_has_the_local_models_ids(engine: Engine, page: Path, name: str, quirks: bool) -> None:
    asked = question(page, PUBLISHED[name])
    found = served(engine, asked, quirks=quirks)
    assert found == local(engine, asked)
    image = engine.processor.image_token_id
    assert found.index(image) == 1  # behind <s>, before the first turn
    assert found.count(image) == 1


def test_prompt_of_a_users_text_has_the_ids_of_ask(engine: Engine, page: Path) -> None:
    asked = question(page, f"Title?{IMAGE_PLACEHOLDER}")
    assert served(engine, asked) == local(engine, asked)


def test_prompt_keeps_images_in_place(engine: Engine, page: Path) -> None:
    turn = Message("user", ("Which is ", chat_format_image(0), "?"))
    asked = question(page, "", messages=(turn,), prompt_format=PromptFormat(images_in_place=True))
    found = served(engine, asked)
    assert found == local(engine, asked)
    moved = served(engine, question(page, "", messages=(turn,)))
    image = engine.processor.image_token_id
    assert found.index(image) > moved.index(image)


USER = [{"role": "user", "content": "Title?"}]


@pytest.mark.parametrize(
    ("said", "options", "word"),
    [
        (USER, {"published": True, "assistant": "[UNUSED_TOKEN_145]assistant"}, "blanks"),
        (USER, {"assistant": " assistant"}, "published"),
        (USER, {"published": "yes"}, "published"),
        ([{"role": "critic", "content": "x"}], {}, "role"),
        ([{"role": "user", "content": [{"type": "video"}]}], {}, "part"),
    ],
)
def test_prompt_refusals(engine: Engine, said: Any, options: dict[str, Any], word: str) -> None:
    with pytest.raises(IxcError, match=word) as caught:
        ids(engine, said, options)
    assert "\n" not in str(caught.value)


QUESTION, SYSTEM = "What is the TOTAL?", {"role": "system", "content": "You are a helpful assistant."}
ORDERS: dict[str, list[list[str]]] = {
    "image first": [["image", QUESTION]],
    "text first": [[QUESTION, "image"]],
    "image between": [["What is", "image", "the TOTAL?"]],
    "two turns": [[QUESTION], ["image"]],
}


@pytest.mark.parametrize("quirks", [False, True])
@pytest.mark.parametrize("system", [False, True])
@pytest.mark.parametrize("order", ORDERS)
def test_arranged_prompts_are_the_same_in_every_way_in(engine: Engine, order: str, system: bool, quirks: bool) -> None:
    """The processor (Python, `ixc ask`), the light server and vLLM: one prompt, of the published order."""
    own = engine.processor
    processor = IxcProcessor(own.image_processor, own.tokenizer, published_quirks=quirks, system_turns=quirks)
    part = {"image": {"type": "image"}}
    turns = [{"role": "user", "content": [part.get(p, {"type": "text", "text": p}) for p in turn]}
             for turn in ORDERS[order]]  # fmt: skip
    said: Any = [SYSTEM, *turns] if system else turns
    encoder = PromptEncoder(own.tokenizer, published_quirks=quirks, rules=processor.rules)
    of_vllm = prompt.ids(encoder, said, {}, system=processor.system)
    light = prompt_segments(parse_messages(said), CHAT_FORMAT, system=processor.system, rules=processor.rules)
    of_light = encoder.row(light, counts=repeat(1), bos=True, bos_once=False).ids
    of_python = processor.encode(said, images=[Image.new("RGB", (40, 30))], hd=1)
    found = [token for token, run in groupby(of_python["input_ids"][0].tolist())
             for token in ([token] if token == processor.image_token_id else run)]  # fmt: skip
    one_form = ([SYSTEM] if system and quirks else []) + [
        {"role": "user", "content": [part["image"], {"type": "text", "text": QUESTION}]}
    ]
    usual = "" if system else processor.system
    expected = encoder.row(render(one_form, system=usual), counts=repeat(1), bos=True, bos_once=False).ids
    assert of_vllm == of_light == found == expected
