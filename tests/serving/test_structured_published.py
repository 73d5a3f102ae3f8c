"""JSON and tools from a model that writes all of the JSON itself: random weights under the published vocabulary."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from talk import Running, running

from ixc.inference.engine import Engine, load

pytest.importorskip("llguidance", reason="the extra serve is not installed")

WORD = {"type": "string", "maxLength": 6}
SCHEMA = {
    "type": "object",
    "properties": {"kind": {"enum": ["größe", "文字"]}, "word": WORD},
    "required": ["kind", "word"],
    "additionalProperties": False,
}
JSON = {"type": "json_schema", "json_schema": {"name": "x", "strict": True, "schema": SCHEMA}}
CALL = {
    "tools": [{"type": "function", "function": {"name": "book", "parameters": SCHEMA}}],
    "tool_choice": "required",
    "max_tokens": 120,
}


@pytest.fixture(scope="module")
def engine_of_published(published_folder: Path) -> Engine:
    return load(published_folder, device="cpu")


@pytest.fixture(scope="module")
def published(engine_of_published: Engine, published_folder: Path) -> Iterator[Running]:
    with running(engine_of_published, published_folder) as found:
        yield found


def choices(server: Running, **fields: Any) -> list[dict[str, Any]]:
    status, found = server.ask("Fill in.", **{"max_tokens": 120, **fields})
    assert status == 200, found
    return found["choices"]


def joined(choice: dict[str, Any]) -> bytes:
    return bytes(byte for entry in choice["logprobs"]["content"] for byte in entry["bytes"])


@pytest.mark.parametrize("seed", range(3))
def test_grammar_mask_answers_meet_the_schema_and_logprobs_have_their_bytes(published: Running, seed: int) -> None:
    drawn = {"temperature": 1.0, "seed": seed, "response_format": JSON}
    (choice,) = choices(published, logprobs=True, top_logprobs=3, **drawn)
    text = choice["message"]["content"]
    assert json.loads(text)["kind"] in ("größe", "文字")
    assert len(json.loads(text)["word"]) <= 6
    assert joined(choice) == text.encode()
    assert all(len(entry["top_logprobs"]) == 3 for entry in choice["logprobs"]["content"])
    assert choices(published, **drawn)[0]["message"]["content"] == text


@pytest.mark.parametrize("limit", range(1, 9))
def test_answer_streamer_logprobs_have_the_bytes_of_a_cut_answer(published: Running, limit: int) -> None:
    """Random weights write any tokens, among them parts of characters."""
    (choice,) = choices(published, logprobs=True, temperature=2.0, seed=limit, max_tokens=limit)
    if "\ufffd" not in choice["message"]["content"]:
        assert joined(choice) == choice["message"]["content"].encode()
    bytes_token = {str(published.service.engine.processor.tokenizer.convert_tokens_to_ids("<0xE6>")): 100}
    (choice,) = choices(published, logprobs=True, max_tokens=limit, logit_bias=bytes_token)
    assert joined(choice) == b"\xe6" * limit
    assert choice["message"]["content"] == "\ufffd" * limit


def test_answer_text_stop_cuts_what_the_model_writes(published: Running) -> None:
    (whole,) = choices(published, response_format=JSON)
    text = whole["message"]["content"]
    (found,) = choices(published, response_format=JSON, stop='", "w', logprobs=True)
    assert (found["message"]["content"], found["finish_reason"]) == (text[: text.index('", "w')], "stop")
    assert joined(found) == found["message"]["content"].encode()


def test_generate_choices_each_under_a_mask_of_its_own(published: Running) -> None:
    found = choices(published, response_format=JSON, n=3, temperature=1.5, seed=1)
    values = [json.loads(choice["message"]["content"]) for choice in found]
    assert len({value["word"] for value in values}) > 1
    whole = choices(published, response_format=JSON, temperature=1.5, seed=1)[0]
    assert found[0]["message"]["content"] == whole["message"]["content"]


def test_call_reader_takes_the_models_own_call_apart(published: Running) -> None:
    message = choices(published, **CALL)[0]["message"]
    call = message["tool_calls"][0]["function"]
    assert call["name"] == "book"
    assert json.loads(call["arguments"])["kind"] in ("größe", "文字")
    (cut,) = choices(published, **{**CALL, "stop": '", "w'})
    assert cut["finish_reason"] == "stop"
    assert call["arguments"].startswith(cut["message"]["tool_calls"][0]["function"]["arguments"])
    assert not cut["message"]["tool_calls"][0]["function"]["arguments"].endswith('"')


def test_answer_streamer_a_stop_id_leaves_a_call_open(published: Running) -> None:
    """Its last bracket is the arguments' own, not the call's."""
    (whole,) = choices(published, response_format=JSON, logprobs=True)
    tokens = [entry["token"] for entry in whole["logprobs"]["content"]]
    word = next(token for token in tokens if "word" in token)
    (stop,) = published.service.engine.processor.tokenizer(word, add_special_tokens=False)["input_ids"]
    (cut,) = choices(published, response_format=JSON, stop_token_ids=[stop])
    assert cut["message"]["content"] == "".join(tokens[: tokens.index(word)])
    (cut,) = choices(published, **{**CALL, "stop_token_ids": [stop]})
    assert cut["finish_reason"] == "stop"
    assert whole["message"]["content"].startswith('{"kind": "')
    assert cut["message"]["tool_calls"][0]["function"]["arguments"].endswith('", "')


@pytest.mark.parametrize("limit", [1, 8, 120])
@pytest.mark.parametrize("stream", [False, True])
def test_response_writer_a_call_cut_anywhere(published: Running, limit: int, stream: bool) -> None:
    body = {
        "model": "tiny", "input": "Fill in.", "tools": [{"type": "function", "name": "book", "parameters": SCHEMA}],
        "tool_choice": {"type": "function", "name": "book"}, "max_output_tokens": limit, "stream": stream,
    }  # fmt: skip
    status, found, _ = published.call("POST", "/v1/responses", body)
    assert status == 200, found
    if stream:
        events = [json.loads(line[6:]) for line in found.splitlines() if line.startswith("data: ")]
        kinds = [event["type"] for event in events]
        found = events[-1]["response"]
        assert kinds.count("response.output_item.added") == kinds.count("response.output_item.done") <= 1
        pieces = "".join(e["delta"] for e in events if e["type"] == "response.function_call_arguments.delta")
        assert pieces == "".join(item["arguments"] for item in found["output"])
    if limit == 1:  # not even the name
        assert (found["status"], found["output"]) == ("incomplete", [])
    elif limit == 120:
        assert json.loads(found["output"][0]["arguments"])["kind"] in ("größe", "文字")
        assert found["status"] == "completed"
    else:
        assert found["status"] == "incomplete"
