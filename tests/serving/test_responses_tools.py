"""Tools and JSON of the Responses API, embedded model, official client. Oracle: its answer as text."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from talk import data_url, running

from ixc.inference.engine import Engine
from ixc.inference.model_folder import EMBEDDED
from ixc.serving.responses_request import read_response

openai = pytest.importorskip("openai", reason="the official client comes with the extra dev")
pytest.importorskip("llguidance", reason="the extra serve is not installed")

TOTAL = "641.57"
ARGUMENTS = '{"total": "641.57"}'
RECEIPT = data_url((Path(__file__).parents[2] / "examples" / "receipt.png").read_bytes())
ASKED = [{"role": "user", "content": [{"type": "input_image", "image_url": RECEIPT},
                                      {"type": "input_text", "text": "What is the TOTAL?"}]}]  # fmt: skip
FIELDS = {
    "type": "object", "properties": {"total": {"type": "string"}}, "required": ["total"], "additionalProperties": False,
}  # fmt: skip
SAVE = {"type": "function", "name": "save_total", "strict": True, "parameters": FIELDS}
OTHER = {"type": "function", "name": "other", "parameters": {**FIELDS, "properties": {"total": {"type": "number"}}}}
NAMED = {"type": "function", "name": "save_total"}
ALLOWED = {"type": "allowed_tools", "mode": "required", "tools": [NAMED]}
FORMAT = {"type": "json_schema", "name": "receipt", "strict": True, "schema": FIELDS}


@pytest.fixture(scope="module")
def client(engine_of_embedded: Engine) -> Iterator[Any]:
    with (
        running(engine_of_embedded, EMBEDDED) as server,
        openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0) as found,
    ):
        yield found


def create(client: Any, given: Any = ASKED, **options: Any) -> Any:
    return client.responses.create(model="tiny", input=given, **options)


@pytest.mark.parametrize(
    ("tools", "choice"),
    [([SAVE], "required"), ([SAVE, OTHER], NAMED), ([OTHER, SAVE], ALLOWED), ([OTHER, SAVE], NAMED)],
)
def test_response_writer_a_forced_call(client: Any, tools: Any, choice: Any) -> None:
    found = create(client, tools=tools, tool_choice=choice)
    (call,) = found.output
    assert (call.type, call.name, call.arguments) == ("function_call", "save_total", ARGUMENTS)
    assert call.status == "completed"
    assert call.call_id.startswith("call_")
    assert call.id.startswith("fc_")
    assert (found.status, found.output_text) == ("completed", "")
    assert found.usage.output_tokens == len(TOTAL)
    type(found).model_validate(found.to_dict(), strict=False)


@pytest.mark.parametrize("choice", [None, "auto", "none"])
def test_response_writer_tools_that_are_not_forced_leave_a_text(client: Any, choice: str | None) -> None:
    found = create(client, tools=[SAVE], **({} if choice is None else {"tool_choice": choice}))
    assert found.output_text == TOTAL


def test_response_writer_events_of_a_call_come_in_openais_order(client: Any) -> None:
    force = {"tools": [SAVE], "tool_choice": "required"}
    events = list(create(client, stream=True, **force))
    assert [event.sequence_number for event in events] == list(range(len(events)))
    assert list(dict.fromkeys(event.type for event in events)) == [
        *("response.created", "response.in_progress", "response.output_item.added"),
        *("response.function_call_arguments.delta", "response.function_call_arguments.done"),
        *("response.output_item.done", "response.completed"),
    ]
    added = next(event for event in events if event.type == "response.output_item.added")
    assert (added.item.name, added.item.arguments, added.item.status) == ("save_total", "", "in_progress")
    pieces = [event.delta for event in events if event.type == "response.function_call_arguments.delta"]
    assert (len(pieces) > 1, "".join(pieces)) == (True, ARGUMENTS)
    done = next(event for event in events if event.type == "response.function_call_arguments.done")
    assert (done.arguments, done.item_id) == (ARGUMENTS, added.item.id)
    (last,) = events[-1].response.output
    assert (last.arguments, last.call_id, last.id) == (ARGUMENTS, added.item.call_id, added.item.id)
    with client.responses.stream(model="tiny", input=ASKED, **force) as stream:  # the helper checks the order itself
        for _ in stream:
            pass
        assert stream.get_final_response().output[0].arguments == ARGUMENTS


@pytest.mark.parametrize("stream", [False, True])
def test_response_writer_a_call_that_a_limit_cuts(client: Any, stream: bool) -> None:
    found = create(client, tools=[SAVE], tool_choice="required", max_output_tokens=2, stream=stream)
    if stream:
        found = list(found)[-1].response
    assert (found.status, found.incomplete_details.reason) == ("incomplete", "max_output_tokens")
    assert found.output[0].status == "incomplete"
    assert found.output[0].arguments == '{"total": "64"}'


@pytest.mark.parametrize(
    ("wanted", "text"),
    [(FORMAT, ARGUMENTS), ({"type": "json_object"}, '{"answer": "641.57"}'), ({"type": "text"}, TOTAL)],
)
def test_read_response_text_format(client: Any, wanted: Any, text: str) -> None:
    found = create(client, text={"format": wanted})
    assert found.output_text == text
    assert found.text.format.type == wanted["type"]
    events = list(create(client, text={"format": wanted}, stream=True))
    assert "".join(event.delta for event in events if event.type == "response.output_text.delta") == text


def test_response_writer_logprobs_of_json_have_its_bytes(client: Any) -> None:
    found = create(client, text={"format": FORMAT}, include=["message.output_text.logprobs"])
    entries = found.output[0].content[0].logprobs
    assert bytes(byte for entry in entries for byte in entry.bytes).decode() == ARGUMENTS


def test_read_response_a_history_with_calls_and_outputs(client: Any) -> None:
    first = create(client, tools=[SAVE], tool_choice="required").output[0]
    output = {"type": "function_call_output", "call_id": first.call_id, "output": json.dumps({"saved": True})}
    history = [*ASKED, first.to_dict(), output]
    assert create(client, history, tools=[SAVE]).output_text == TOTAL
    asked = {"role": "user", "content": "What is the Tax?"}
    alone = [*ASKED[0]["content"][:1], {"type": "input_text", "text": "What is the Tax?"}]
    plain = create(client, [{"role": "user", "content": alone}]).output_text
    assert create(client, [*history, asked]).output_text == plain != TOTAL


def test_read_response_a_history_is_text_for_a_model_that_reads_it() -> None:
    turns = [
        {"role": "user", "content": "x"},
        {"type": "reasoning", "id": "rs_1", "summary": []},
        {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "Let me see."}]},
        {"type": "function_call", "id": "fc_1", "call_id": "c1", "name": "save", "arguments": '{"total": "1"}'},
        {"type": "function_call", "id": "fc_2", "call_id": "c2", "name": "tell", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "c1", "output": "saved"},
        {"type": "function_call_output", "call_id": "c2", "output": [{"type": "input_text", "text": "told"}]},
    ]
    found = read_response({"model": "m", "input": turns}).chat
    assert [turn.content for turn in found.turns(tools=True)] == [
        ("x",),
        ('Let me see.\n{"name": "save", "arguments": {"total": "1"}}\n{"name": "tell", "arguments": {}}',),
        ("Result of save: saved",),
        ("Result of tell: told",),
    ]
    assert [turn.content for turn in found.turns(tools=False)] == [("x",), ("Let me see.",)]
