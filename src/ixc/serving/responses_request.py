"""Requests of OpenAI's Responses API: read into the same `ChatRequest` as chat completions.

    input, instructions, max_output_tokens, ... --as_chat--> fields of a chat completion --read_chat--> ChatRequest

Nothing is stored here, so whatever refers to something stored (`previous_response_id`, `conversation`, `prompt`,
`file_id`) is refused; `store` is accepted and has no effect. An error names the path in the request as it was sent.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ixc.serving.content import wrong
from ixc.serving.errors import ApiError
from ixc.serving.fields import IGNORED
from ixc.serving.openai import ChatRequest, read_chat

STORED = ("previous_response_id", "conversation", "prompt")
"""Fields that refer to something a server has kept."""

SAME = {
    *("model", "temperature", "top_p", "stream", "tools", "tool_choice", "hd", "partition", "mm_processor_kwargs"),
    *("top_k", "min_p", "seed", "frequency_penalty", "presence_penalty", "repetition_penalty", "logit_bias", "stop"),
    *("stop_token_ids", "chat_template_kwargs"),
}
"""Fields with the name and meaning that they have in a chat completion."""

NO_EFFECT = {*IGNORED, "truncation", "max_tool_calls", "context_management"}
"""Fields that change no answer; a prompt that is too long is refused whatever `truncation` says."""

LOGPROBS = "message.output_text.logprobs"
"""Value of `include` that asks for log probabilities; the others add fields to items that do not occur here."""

RENAMED = {"max_tokens": "max_output_tokens", "response_format": "text.format"}
"""Field of a chat completion -> its path here, for errors."""


@dataclass(frozen=True, kw_only=True)
class ResponseRequest:
    """A checked request."""

    chat: ChatRequest
    """What the model is asked."""
    echo: Mapping[str, Any]
    """Fields of the request that the response repeats."""


def read_response(body: Mapping[str, Any]) -> ResponseRequest:
    """Check a request and read its fields.

    Raises:
        ApiError: a field is missing or wrong, refers to something stored, or asks for what is not supported.
    """
    for name in STORED:
        if body.get(name) is not None:
            raise wrong(name, body[name], "nothing is stored here; send the whole conversation in input",
                        code="unsupported_parameter")  # fmt: skip
    if body.get("background"):
        raise wrong("background", body["background"], "only false is supported, for nothing is stored here")
    fields, places = _as_chat(body)
    try:
        chat = read_chat(fields, places=places)
    except ApiError as error:
        raise _renamed(error) from None
    if chat.output is not None and chat.output.is_call:
        raise wrong("tool_choice", body.get("tool_choice"), "forced calls are made in /v1/chat/completions only",
                    code="unsupported_parameter")  # fmt: skip
    text = body.get("text") or {}
    echo = {
        "instructions": body.get("instructions"),
        "max_output_tokens": body.get("max_output_tokens"),
        "metadata": body.get("metadata") or {},
        "temperature": 0.0 if body.get("temperature") is None else body["temperature"],
        "top_p": 1.0 if body.get("top_p") is None else body["top_p"],
        "tools": body.get("tools") or [],
        "tool_choice": body.get("tool_choice") or "auto",
        "text": {"format": text.get("format") or {"type": "text"}},
        "truncation": body.get("truncation") or "disabled",
        "user": body.get("user"),
    }
    return ResponseRequest(chat=chat, echo=echo)


def _as_chat(body: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """Return the fields of a chat completion, and the path of each message in this request."""
    known = {*SAME, *STORED, "input", "instructions", "max_output_tokens", "background", "include", "text",
             "top_logprobs", "stream_options"}  # fmt: skip
    fields = {name: value for name, value in body.items() if name not in known and name not in NO_EFFECT}  # refused
    fields |= {name: body[name] for name in SAME if name in body}
    messages, places = _messages(body)
    fields["messages"] = messages
    if body.get("max_output_tokens") is not None:
        fields["max_tokens"] = body["max_output_tokens"]
    if LOGPROBS in (body.get("include") or ()):
        fields |= {"logprobs": True, "top_logprobs": body.get("top_logprobs")}
    wanted = _object(body.get("text"), "text").get("format")
    if wanted is not None:
        fields["response_format"] = _response_format(wanted)
    if isinstance(body.get("tools"), list):
        fields["tools"] = [_tool(tool) for tool in body["tools"]]
    choice = body.get("tool_choice")
    if isinstance(choice, Mapping) and choice.get("type") == "function" and "name" in choice:
        fields["tool_choice"] = {"type": "function", "function": {"name": choice["name"]}}
    return fields, places


def _messages(body: Mapping[str, Any]) -> tuple[list[Any], list[str]]:
    given, found = body.get("input"), list[tuple[Any, str]]()
    if body.get("instructions") is not None:
        if not isinstance(body["instructions"], str):
            raise wrong("instructions", body["instructions"], "a string is needed")
        found.append(({"role": "system", "content": body["instructions"]}, "instructions"))
    if isinstance(given, str):
        found.append(({"role": "user", "content": given}, "input"))
    elif isinstance(given, list) and given:
        found += [(item, f"input.{n}") for n, each in enumerate(given) if (item := _item(each, f"input.{n}"))]
    else:
        raise wrong("input", given, "a string or a list of messages is needed")
    return [message for message, _ in found], [place for _, place in found]


def _item(item: Any, where: str) -> dict[str, Any] | None:
    """Return an item of the input as a message of a chat; None for one that says nothing to the model."""
    if not isinstance(item, Mapping):
        raise wrong(where, item, "an object with role and content is needed")
    kind = item.get("type", "message")
    if kind == "message":
        return {"role": item.get("role"), "content": item.get("content")}
    if kind == "reasoning":
        return None
    if kind == "function_call":
        call = {"name": item.get("name"), "arguments": item.get("arguments")}
        tool_calls = [{"id": item.get("call_id"), "type": "function", "function": call}]
        return {"role": "assistant", "content": None, "tool_calls": tool_calls}
    if kind == "function_call_output":
        return {"role": "tool", "tool_call_id": item.get("call_id"), "content": item.get("output")}
    raise wrong(f"{where}.type", kind, '"message", "function_call" and "function_call_output" are supported')


def _response_format(wanted: Any) -> Any:
    """Return `text.format` as a chat's `response_format`."""
    if not isinstance(wanted, Mapping) or wanted.get("type") != "json_schema":
        return wanted
    inner = {name: wanted[name] for name in ("name", "schema", "strict", "description") if name in wanted}
    return {"type": "json_schema", "json_schema": inner}


def _tool(tool: Any) -> Any:
    if not isinstance(tool, Mapping) or tool.get("type") != "function" or "function" in tool:
        return tool
    return {"type": "function", "function": {name: value for name, value in tool.items() if name != "type"}}


def _object(given: Any, where: str) -> Mapping[str, Any]:
    if given is None:
        return {}
    if not isinstance(given, Mapping):
        raise wrong(where, given, "an object is needed")
    return given


def _renamed(error: ApiError) -> ApiError:
    """Return an error with the names of this API."""
    message, param = str(error), error.param
    for name, here in RENAMED.items():
        if param is not None and (param == name or param.startswith(f"{name}.")):
            message, param = message.replace(name, here), param.replace(name, here, 1)
    return ApiError(message, status=error.status, code=error.code, param=param, retry_after=error.retry_after)
