"""`response_format` and tools of the light server, with the embedded model. Oracle: its answer as text."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from talk import Running, data_url, image_part, running, text_part

from ixc.inference.engine import Engine
from ixc.inference.model_folder import EMBEDDED

pytest.importorskip("llguidance", reason="the extra serve is not installed")

RECEIPT = Path(__file__).parents[2] / "examples" / "receipt.png"
TOTAL = "641.57"


@pytest.fixture(scope="module")
def nano(engine_of_embedded: Engine) -> Iterator[Running]:
    with running(engine_of_embedded, EMBEDDED) as found:
        yield found


def asked(question: str = "What is the TOTAL?") -> list[Any]:
    return [image_part(data_url(RECEIPT.read_bytes())), text_part(question)]


def fields(*required: str, **properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(required), "additionalProperties": False}


def schema_format(schema: Any) -> dict[str, Any]:
    return {"type": "json_schema", "json_schema": {"name": "Receipt", "strict": True, "schema": schema}}


def tool(name: str = "save_total", **properties: Any) -> dict[str, Any]:
    parameters = fields(*properties, **properties)
    return {"type": "function", "function": {"name": name, "description": "save", "parameters": parameters}}


TEXT = {"type": "string"}
SAVE = tool(total=TEXT)


def content(found: Any) -> Any:
    return json.loads(found["choices"][0]["message"]["content"])


def events(text: str) -> list[dict[str, Any]]:
    return [json.loads(line[6:])["choices"][0] for line in text.splitlines() if line.startswith("data: {")]


@pytest.mark.parametrize(
    ("schema", "value"),
    [
        (fields("total", total=TEXT), {"total": TOTAL}),
        (fields("total", total={"type": "number"}), {"total": 641.57}),
        (fields(total={"anyOf": [TEXT, {"type": "null"}], "default": None}), {"total": TOTAL}),
        (fields("totals", totals={"type": "array", "items": TEXT}), {"totals": [TOTAL]}),
        (fields("total", total={"enum": ["1.66", TOTAL]}), {"total": TOTAL}),
    ],
)
def test_json_schema_one_field_takes_the_answer(nano: Running, schema: Any, value: Any) -> None:
    status, found = nano.ask(asked(), response_format=schema_format(schema))
    assert (status, content(found)) == (200, value)
    assert found["choices"][0]["finish_reason"] == "stop"


def test_json_schema_several_fields_are_asked_by_name(nano: Running) -> None:
    schema = fields("Tax", "sum", Tax={"type": "number"}, sum={"type": "string", "title": "TOTAL"})
    _, found = nano.ask(asked("Read the receipt."), response_format=schema_format(schema))
    assert content(found) == {"Tax": 1.66, "sum": TOTAL}


def test_json_object_holds_the_answer(nano: Running) -> None:
    _, found = nano.ask(asked(), response_format={"type": "json_object"})
    assert content(found) == {"answer": TOTAL}


def test_json_schema_streamed_is_the_same_text(nano: Running) -> None:
    _, text = nano.ask(asked(), stream=True, response_format=schema_format(fields("total", total=TEXT)))
    found = events(text)
    assert "".join(event["delta"].get("content") or "" for event in found) == '{"total": "641.57"}'
    assert found[-1]["finish_reason"] == "stop"


def test_json_schema_max_tokens_cuts_the_value_and_closes(nano: Running) -> None:
    _, found = nano.ask(asked(), max_tokens=2, response_format=schema_format(fields("total", total=TEXT)))
    assert content(found) == {"total": "64"}
    assert found["choices"][0]["finish_reason"] == "length"
    assert found["usage"]["completion_tokens"] == 2


@pytest.mark.parametrize(
    ("more", "where", "says"),
    [
        ({"response_format": {"type": "yaml"}}, "response_format.type",
         'response_format.type is "yaml"; "text", "json_object" and "json_schema" are supported'),
        ({"response_format": "json"}, "response_format.type", "null"),
        ({"response_format": {"type": "json_schema"}}, "response_format.json_schema.schema", "missing"),
        ({"response_format": schema_format(fields(a=fields(b={"not": TEXT})))},
         "response_format.json_schema.schema.properties.a.properties.b", '["not"]'),
        ({"tools": [SAVE], "tool_choice": "required", "logprobs": True}, "logprobs",
         "logprobs is true, which does not go together with a forced tool call; leave logprobs out"),
        ({"response_format": {"type": "json_object"}, "use_beam_search": True, "n": 2}, "use_beam_search",
         "does not go together with JSON; leave use_beam_search out"),
        ({"tools": [SAVE], "tool_choice": "always"}, "tool_choice", '"none", "auto" and "required"'),
        ({"tool_choice": "required"}, "tool_choice", "offer it"),
        ({"tools": [SAVE], "tool_choice": {"type": "function", "function": {"name": "other"}}}, "tool_choice", "other"),
        ({"tools": [{"type": "custom", "name": "x"}]}, "tools.0.type", '"custom"'),
        ({"tools": [SAVE, SAVE]}, "tools.1", "second"),
        ({"tools": [tool("two words")]}, "tools.0.function.name", "two words"),
        ({"tools": {"a": 1}}, "tools", "dict"),
        ({"tools": [tool(), tool("b", a={"type": "zebra"})], "tool_choice": "required"},
         "tools.1.function.parameters.properties.a", "zebra"),
    ],
)  # fmt: skip
def test_structured_refusals_name_the_path(nano: Running, more: Any, where: str, says: str) -> None:
    status, found = nano.ask(asked(), **more)
    assert status == 400
    assert found["error"]["param"] == where
    assert says in found["error"]["message"]


@pytest.mark.parametrize("choice", [None, "auto", "none"])
def test_tools_that_are_not_forced_leave_a_text(nano: Running, choice: str | None) -> None:
    _, found = nano.ask(asked(), tools=[SAVE], tool_choice=choice)
    assert found["choices"][0]["message"]["content"] == TOTAL
    assert "tool_calls" not in found["choices"][0]["message"]


NAMED = {"type": "function", "function": {"name": "save_total"}}


@pytest.mark.parametrize("choice", ["required", NAMED])
def test_tools_a_forced_call(nano: Running, choice: Any) -> None:
    _, found = nano.ask(asked(), tools=[SAVE], tool_choice=choice)
    message = found["choices"][0]["message"]
    assert message["content"] is None
    assert message["tool_calls"][0]["function"] == {"name": "save_total", "arguments": '{"total": "641.57"}'}
    assert found["choices"][0]["finish_reason"] == "tool_calls"


def test_tools_one_of_several_is_named(nano: Running) -> None:
    tools = [tool("other", city=TEXT), SAVE]
    _, found = nano.ask(asked(), tools=tools, tool_choice=NAMED)
    assert found["choices"][0]["message"]["tool_calls"][0]["function"]["name"] == "save_total"
    _, found = nano.ask(asked(), tools=tools, tool_choice="required")
    call = found["choices"][0]["message"]["tool_calls"][0]["function"]
    assert list(json.loads(call["arguments"])) == [{"other": "city", "save_total": "total"}[call["name"]]]


def test_tools_parameters_with_definitions(nano: Running) -> None:
    parameters = {"$defs": {"t": fields("total", total=TEXT)}, **fields("it", it={"$ref": "#/$defs/t"})}
    found = nano.ask(
        asked(),
        tools=[{"type": "function", "function": {"name": "f", "parameters": parameters}}],
        tool_choice="required",
    )[1]
    call = found["choices"][0]["message"]["tool_calls"][0]["function"]
    assert json.loads(call["arguments"]) == {"it": {"total": TOTAL}}


def test_tools_a_call_without_parameters(nano: Running) -> None:
    tools = [{"type": "function", "function": {"name": "ping"}}]
    _, found = nano.ask(asked(), tools=tools, tool_choice="required")
    assert found["choices"][0]["message"]["tool_calls"][0]["function"] == {"name": "ping", "arguments": "{}"}


def test_tools_a_streamed_call(nano: Running) -> None:
    _, text = nano.ask(asked(), stream=True, tools=[SAVE], tool_choice="required")
    found = events(text)
    calls = [call for event in found for call in event["delta"].get("tool_calls", ())]
    assert calls[0]["id"].startswith("call_")
    assert calls[0]["function"]["name"] == "save_total"
    assert "".join(call["function"]["arguments"] for call in calls) == '{"total": "641.57"}'
    assert [call["index"] for call in calls] == [0] * len(calls)
    assert found[-1]["finish_reason"] == "tool_calls"


@pytest.mark.parametrize("stream", [False, True])
def test_tools_a_call_whose_value_a_limit_cuts_is_closed(nano: Running, stream: bool) -> None:
    _, found = nano.ask(asked(), tools=[SAVE], tool_choice="required", max_tokens=2, stream=stream)
    if stream:
        calls = [call for event in events(found) for call in event["delta"].get("tool_calls", ())]
        assert "".join(call["function"]["arguments"] for call in calls) == '{"total": "64"}'
    else:
        message = found["choices"][0]["message"]
        assert message["tool_calls"][0]["function"]["arguments"] == '{"total": "64"}'
        assert found["choices"][0]["finish_reason"] == "length"


def test_tools_calls_and_results_in_the_history(nano: Running) -> None:
    call = {"id": "c1", "type": "function", "function": {"name": "save_total", "arguments": '{"total": "1"}'}}
    messages = [
        {"role": "user", "content": asked()},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c1", "content": "saved"},
    ]
    status, found, _ = nano.call("POST", "/v1/chat/completions", {"model": "tiny", "messages": messages})
    assert (status, found["choices"][0]["message"]["content"]) == (200, TOTAL)


def test_tools_a_history_is_text_for_a_model_that_reads_it() -> None:
    from ixc.serving.openai import read_chat

    call = {"id": "c1", "type": "function", "function": {"name": "save", "arguments": '{"total": "1"}'}}
    turns = [
        {"role": "user", "content": "x"},
        {"role": "assistant", "content": "Let me see.", "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c1", "content": [{"type": "text", "text": "saved"}]},
    ]
    found = read_chat({"model": "m", "messages": turns})
    assert [turn.content for turn in found.turns(tools=True)] == [
        ("x",),
        ('Let me see.\n{"name": "save", "arguments": {"total": "1"}}',),
        ("Result of save: saved",),
    ]
    assert [turn.content for turn in found.turns(tools=False)] == [("x",), ("Let me see.",)]


JSON = schema_format(fields("total", total=TEXT))


def test_answer_text_stop_cuts_the_json_as_it_stands(nano: Running) -> None:
    _, found = nano.ask(asked(), response_format=JSON, stop=["1.5", "zebra"])
    choice = found["choices"][0]
    assert (choice["message"]["content"], choice["finish_reason"]) == ('{"total": "64', "stop")
    _, text = nano.ask(asked(), response_format=JSON, stop=["1.5"], stream=True)
    assert "".join(event["delta"].get("content") or "" for event in events(text)) == '{"total": "64'
    assert content(nano.ask(asked(), response_format=JSON, stop="zebra")[1]) == {"total": TOTAL}


def test_answer_text_stop_counts_in_the_arguments_only(nano: Running) -> None:
    force = {"tools": [SAVE], "tool_choice": "required"}
    choice = nano.ask(asked(), stop=["save", "name", "Observation:"], **force)[1]["choices"][0]
    assert choice["message"]["tool_calls"][0]["function"] == {"name": "save_total", "arguments": '{"total": "641.57"}'}
    assert choice["finish_reason"] == "tool_calls"
    choice = nano.ask(asked(), stop=["1.5"], **force)[1]["choices"][0]
    assert choice["message"]["tool_calls"][0]["function"] == {"name": "save_total", "arguments": '{"total": "64'}
    assert choice["finish_reason"] == "stop"
    found = events(nano.ask(asked(), stop=["1.5"], stream=True, **force)[1])
    calls = [call for event in found for call in event["delta"].get("tool_calls", ())]
    assert "".join(call["function"]["arguments"] for call in calls) == '{"total": "64'
    assert found[-1]["finish_reason"] == "stop"


def test_json_streamer_stop_token_ids_end_a_value(nano: Running) -> None:
    dot = nano.service.engine.processor.tokenizer(".", add_special_tokens=False)["input_ids"][-1]
    _, found = nano.ask(asked(), response_format=JSON, stop_token_ids=[dot])
    assert content(found) == {"total": "641"}
    assert found["choices"][0]["finish_reason"] == "stop"


def test_generate_several_choices_of_json(nano: Running) -> None:
    drawn = {"temperature": 2, "seed": 3}
    _, found = nano.ask(asked(), response_format=JSON, n=3, **drawn)
    texts = [choice["message"]["content"] for choice in found["choices"]]
    assert [choice["index"] for choice in found["choices"]] == [0, 1, 2]
    assert all(list(json.loads(text)) == ["total"] for text in texts)
    assert texts[0] == nano.ask(asked(), response_format=JSON, **drawn)[1]["choices"][0]["message"]["content"]
    assert len(set(texts)) > 1
    _, text = nano.ask(asked(), response_format=JSON, n=3, stream=True, **drawn)
    for place, whole in enumerate(texts):
        mine = [event for event in events(text) if event["index"] == place]
        assert "".join(event["delta"].get("content") or "" for event in mine) == whole


def test_generate_several_choices_of_a_call(nano: Running) -> None:
    force = {"tools": [SAVE], "tool_choice": "required", "n": 2}
    _, found = nano.ask(asked(), **force)
    calls = [choice["message"]["tool_calls"][0] for choice in found["choices"]]
    assert [call["function"]["arguments"] for call in calls] == ['{"total": "641.57"}'] * 2
    assert len({call["id"] for call in calls}) == 2
    streamed = events(nano.ask(asked(), stream=True, **force)[1])
    for place in range(2):
        mine = [call for event in streamed if event["index"] == place for call in event["delta"].get("tool_calls", ())]
        assert mine[0]["function"]["name"] == "save_total"
        assert "".join(call["function"]["arguments"] for call in mine) == '{"total": "641.57"}'


@pytest.mark.parametrize(
    "schema",
    [
        fields("total", total=TEXT),
        fields("total", total={"type": "number"}),
        fields("paid", "total", paid={"type": "boolean"}, total={"type": "string", "title": "TOTAL"}),
    ],
)
def test_json_streamer_logprobs_are_of_values_and_the_grammar_is_certain(nano: Running, schema: Any) -> None:
    _, found = nano.ask(asked(), response_format=schema_format(schema), logprobs=True, top_logprobs=2)
    choice = found["choices"][0]
    entries = choice["logprobs"]["content"]
    assert bytes(byte for entry in entries for byte in entry["bytes"]).decode() == choice["message"]["content"]
    generated = [entry for entry in entries if entry["top_logprobs"]]
    assert all(entry["logprob"] == 0.0 for entry in entries if not entry["top_logprobs"])
    assert entries[0]["token"].startswith('{"')
    text = nano.ask(asked(), logprobs=True)[1]["choices"][0]["logprobs"]["content"]
    if "paid" not in schema["properties"]:
        assert [(e["token"], e["logprob"]) for e in generated] == [(e["token"], e["logprob"]) for e in text]
    else:
        assert [entry["token"] for entry in generated] in (["true", *TOTAL], ["false", *TOTAL])
