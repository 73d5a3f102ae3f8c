"""The Responses API through the official client: text, images, files, streams, errors. Oracle: chat completions."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from talk import Running, data_url, image_part, picture, text_part

openai = pytest.importorskip("openai", reason="the official client comes with the extra dev")

IMAGE = data_url(picture())
QUESTION = "What is the title?"
SHOWN = [{"role": "user", "content": [{"type": "input_text", "text": QUESTION},
                                      {"type": "input_image", "image_url": IMAGE, "detail": "auto"}]}]  # fmt: skip

FIELDS = {
    "type": "object", "properties": {"total": {"type": "string"}}, "required": ["total"], "additionalProperties": False,
}  # fmt: skip
TOOL = {"type": "function", "name": "save_total", "strict": True, "parameters": FIELDS}

ORDER = [
    *("response.created", "response.in_progress", "response.output_item.added", "response.content_part.added"),
    *("response.output_text.delta", "response.output_text.done", "response.content_part.done"),
    *("response.output_item.done", "response.completed"),
]
"""Types of events in OpenAI's order, deltas as one."""


@pytest.fixture(scope="module")
def client(server: Running) -> Iterator[Any]:
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0) as found:
        yield found


def create(client: Any, given: Any, **options: Any) -> Any:
    return client.responses.create(model="tiny", input=given, **options)


def test_read_response_text_and_usage_are_those_of_chat(client: Any, server: Running) -> None:
    chat = server.ask([image_part(IMAGE), text_part(QUESTION)])[1]
    found = create(client, SHOWN)
    assert found.output_text == chat["choices"][0]["message"]["content"]
    assert found.status in ("completed", "incomplete")
    assert found.usage.input_tokens == chat["usage"]["prompt_tokens"]
    assert found.usage.output_tokens == chat["usage"]["completion_tokens"]
    assert (found.output[0].role, found.object, found.store) == ("assistant", "response", False)
    assert create(client, "Hello?").output_text == server.ask("Hello?")[1]["choices"][0]["message"]["content"]


def test_read_response_is_a_whole_response_by_openais_own_type(client: Any) -> None:
    found = create(client, "Hello?", max_output_tokens=2, metadata={"a": "b"}, store=True, reasoning={"effort": "low"})
    type(found).model_validate(found.to_dict(), strict=False)
    assert (found.status, found.incomplete_details.reason) == ("incomplete", "max_output_tokens")
    assert (found.max_output_tokens, found.metadata, found.usage.output_tokens) == (2, {"a": "b"}, 2)


def test_read_response_instructions_are_a_system_message(client: Any, server: Running) -> None:
    chat = {"model": "tiny", "messages": [{"role": "system", "content": "Be short."}, {"role": "user", "content": "x"}]}
    wanted = server.call("POST", "/v1/chat/completions", chat)[1]
    found = create(client, "x", instructions="Be short.")
    assert found.usage.input_tokens == wanted["usage"]["prompt_tokens"]
    assert found.output_text == wanted["choices"][0]["message"]["content"]


def test_read_response_goes_on_with_a_conversation(client: Any, server: Running) -> None:
    first = create(client, "x", max_output_tokens=3)
    turns = [{"role": "user", "content": "x"}, *(item.to_dict() for item in first.output),
             {"role": "user", "content": "And?"}]  # fmt: skip
    said = [{"role": "user", "content": "x"}, {"role": "assistant", "content": first.output_text},
            {"role": "user", "content": "And?"}]  # fmt: skip
    wanted = server.call("POST", "/v1/chat/completions", {"model": "tiny", "messages": said})[1]
    assert create(client, turns).output_text == wanted["choices"][0]["message"]["content"]


def test_read_response_takes_a_file(client: Any) -> None:
    whole = create(client, SHOWN)
    part = {"type": "input_file", "filename": "a.png", "file_data": IMAGE}
    found = create(client, [{"role": "user", "content": [part, {"type": "input_text", "text": QUESTION}]}])
    assert found.output_text == whole.output_text


def test_response_writer_events_come_in_openais_order(client: Any) -> None:
    whole = create(client, "Hello?")
    events = list(create(client, "Hello?", stream=True))
    assert [e.sequence_number for e in events] == list(range(len(events)))
    kinds = list(dict.fromkeys(e.type for e in events))
    assert kinds[:-1] == ORDER[:-1]
    assert kinds[-1] == f"response.{whole.status}"
    assert "".join(e.delta for e in events if e.type == "response.output_text.delta") == whole.output_text
    assert events[-1].response.output_text == whole.output_text
    assert events[-1].response.usage.output_tokens == whole.usage.output_tokens
    with client.responses.stream(model="tiny", input="Hello?") as stream:  # the helper checks the order itself
        for _ in stream:
            pass
        if whole.status == "completed":
            assert stream.get_final_response().output_text == whole.output_text


def test_response_writer_logprobs(client: Any) -> None:
    found = create(client, "Hello?", include=["message.output_text.logprobs"], top_logprobs=2, max_output_tokens=3)
    entries = found.output[0].content[0].logprobs
    assert "".join(entry.token for entry in entries) == found.output_text
    assert all(len(entry.top_logprobs) == 2 for entry in entries)


@pytest.mark.parametrize(
    ("fields", "param", "words"),
    [
        ({"previous_response_id": "resp_1"}, "previous_response_id", "nothing is stored here"),
        ({"conversation": "conv_1"}, "conversation", "nothing is stored here"),
        ({"background": True}, "background", "nothing is stored here"),
        ({"max_output_tokens": 0}, "max_output_tokens", "max_output_tokens is 0"),
        ({"max_output_tokens": 99_999}, None, "positions"),
        ({"text": 3}, "text", "an object is needed"),
        ({"input": []}, "input", "input is []; a string or a list"),
        ({"input": [{"type": "computer_call"}]}, "input.0.type", '"computer_call"; "message"'),
        ({"input": [{"role": "user", "content": [{"type": "input_audio"}]}]}, "input.0.content.0.type", "input_audio"),
        ({"input": [{"role": "king", "content": "x"}]}, "input.0.role", '"king"; system'),
        ({"extra_body": {"zebra": 1}}, "zebra", "unknown field zebra"),
        ({"tools": [{"type": "web_search"}]}, "tools.0.type", 'tools.0.type is "web_search"; "function" is supported'),
        ({"tools": [{"type": "function", "name": "two words"}]}, "tools.0.name", "tools.0.name is"),
        ({"tools": [TOOL], "tool_choice": "always"}, "tool_choice", '{"type": "function", "name": NAME} are supported'),
        ({"tools": [TOOL], "tool_choice": {"type": "function", "name": "other"}}, "tool_choice", "offer it"),
        ({"tools": [TOOL], "tool_choice": {"type": "function"}}, "tool_choice.name", "tool_choice.name is null"),
        ({"tool_choice": "required"}, "tool_choice", "offer it"),
        ({"tools": [TOOL], "tool_choice": "required", "include": ["message.output_text.logprobs"]}, "include",
         'include has "message.output_text.logprobs", which does not go together with a forced tool call'),
        ({"text": {"format": {"type": "yaml"}}}, "text.format.type",
         'text.format.type is "yaml"; "text", "json_object" and "json_schema" are supported'),
        ({"text": {"format": {"type": "json_schema", "name": "x"}}}, "text.format.schema", "is missing"),
        ({"text": {"format": {"type": "json_schema", "name": "x", "schema": {"properties": {"a": {"type": "zebra"}}}}}},
         "text.format.schema.properties.a", "zebra"),
        ({"tools": [{**TOOL, "parameters": {"type": "object", "properties": {"a": {"not": {}}}}}],
          "tool_choice": "required"}, "tools.0.parameters.properties.a", "not"),
        ({"input": [{"type": "function_call", "name": "x", "arguments": "{}"}]}, "input.0.call_id", "is null"),
        ({"input": [{"type": "function_call", "call_id": "c", "name": "x", "arguments": {}}]}, "input.0.arguments",
         "is {}; a string"),
        ({"input": [{"type": "function_call_output", "call_id": "c"}]}, "input.0.output", "a list of texts"),
        ({"input": [{"type": "function_call_output", "call_id": "c", "output": [{"type": "input_image",
                                                                                "image_url": IMAGE}]}]},
         "input.0.output.0", "a tool's result is text"),
        ({"input": [{"type": "item_reference", "id": "msg_1"}]}, "input.0.type", "nothing is stored here"),
        ({"input": [{"role": "user", "content": "x"}, {"role": "assistant", "content": "y"}]}, "input.1",
         "end with a message by the user"),
    ],
)  # fmt: skip
def test_read_response_refuses_with_the_path(
    client: Any, fields: dict[str, Any], param: str | None, words: str
) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        client.responses.create(**{"model": "tiny", "input": "x", **fields})
    assert caught.value.param == param
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("method", "path", "words"),
    [
        ("POST", "/v1/completions", "send messages to /v1/chat/completions"),
        ("POST", "/chat/completions", "the address is /v1/chat/completions"),
        ("POST", "/v1/v1/chat/completions", "ends in /v1, once"),
        ("POST", "/responses", "the address is /v1/responses"),
        ("GET", "/models", "the address is /v1/models"),
        ("GET", "/v1/responses/resp_1", "no response is stored here"),
        ("POST", "/v1/embeddings", "there are /v1/chat/completions, /v1/responses, /v1/models"),
    ],
)
def test_hint_names_the_right_route(server: Running, method: str, path: str, words: str) -> None:
    status, found, _ = server.call(method, path, {})
    assert (status, found["error"]["code"]) == (404, "not_found")
    assert words in found["error"]["message"]


@pytest.mark.parametrize(
    ("method", "path", "allowed"), [("GET", "/v1/responses", "POST"), ("POST", "/v1/models", "GET")]
)
def test_describe_error_keeps_allow(server: Running, method: str, path: str, allowed: str) -> None:
    status, _, headers = server.call(method, path, {})
    assert (status, headers["allow"]) == (405, allowed)
