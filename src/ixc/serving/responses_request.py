"""Requests of OpenAI's Responses API: read into the same `ChatRequest` as chat completions.

    input, instructions, max_output_tokens, ... --as_chat--> fields of a chat completion --read_chat--> ChatRequest

Nothing is stored here, so whatever refers to something stored (`previous_response_id`, `conversation`, `prompt`,
`file_id`) is refused; `store` is accepted and has no effect. An error names the path in the request as it was sent.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ixc.serving.content import read_content, shown, wrong
from ixc.serving.errors import ApiError, quote
from ixc.serving.fields import IGNORED, unknown_field
from ixc.serving.openai import ChatRequest, read_chat
from ixc.serving.structured import enumerated

STORED = ("previous_response_id", "conversation", "prompt")
"""Fields that refer to something a server has kept."""

SAME = {
    *("model", "temperature", "top_p", "stream", "tools", "tool_choice", "hd", "partition", "mm_processor_kwargs"),
    *("top_k", "min_p", "seed", "frequency_penalty", "presence_penalty", "repetition_penalty", "logit_bias", "stop"),
    *("stop_token_ids", "chat_template_kwargs"),
}
"""Fields with the name and meaning that they have in a chat completion."""

OTHER_NAMES = {
    **dict.fromkeys(("max_tokens", "max_completion_tokens"), "max_output_tokens is supported"),
    **dict.fromkeys(
        ("n", "use_beam_search", "add_generation_prompt", "continue_final_message"),
        "it is supported in /v1/chat/completions",
    ),
    "messages": "input is supported",
    "response_format": "text.format is supported",
    "logprobs": 'include: ["message.output_text.logprobs"] is supported',
}
"""Fields of a chat completion that this API lacks -> what is supported, for errors."""

NO_EFFECT = {*IGNORED, "truncation", "max_tool_calls", "context_management"}
"""Fields that change no answer; a prompt that is too long is refused whatever `truncation` says."""

LOGPROBS = "message.output_text.logprobs"
"""Value of `include` that asks for log probabilities; the others add fields to items that do not occur here."""

RENAMED = {
    "max_tokens": ("max_output_tokens", "max_tokens", "max_output_tokens"),
    "logprobs": ("include", "logprobs is true", f'include has "{LOGPROBS}"'),
}
"""Field of a chat completion -> its name here, and words of its errors with those that replace them."""

TEXT_FIELDS = ("format", "verbosity")
"""Fields of `text`; the second has no effect."""

ITEMS = ("message", "function_call", "function_call_output")
"""Types of items of `input` that an error names."""


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
    chat = read_chat(fields, places=places, flat=True)
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
    fields = {name: value for name, value in body.items() if name not in known and name not in NO_EFFECT}
    for name, value in fields.items():  # what is left here is refused by its value when the chat is read
        if name in OTHER_NAMES and value is not None:
            raise unknown_field(name, value, OTHER_NAMES[name])
    fields |= {name: body[name] for name in SAME if name in body}
    messages, places = _messages(body)
    fields["messages"] = messages
    if body.get("max_output_tokens") is not None:
        fields["max_tokens"] = body["max_output_tokens"]
    if LOGPROBS in _include(body.get("include")):
        fields |= {"logprobs": True, "top_logprobs": body.get("top_logprobs")}
    elif body.get("top_logprobs"):
        raise wrong("top_logprobs", body["top_logprobs"], f'it has no effect without "{LOGPROBS}" in include; add it')
    text = _object(body.get("text"), "text")
    unknown = next((name for name in text if name not in TEXT_FIELDS and text[name] is not None), None)
    if unknown is not None:
        path = f"text.{quote(unknown)}"
        raise ApiError(f"{path} is {shown(text[unknown])}; format and verbosity are supported",
                       code="unknown_parameter", param=path)  # fmt: skip
    fields["response_format"] = text.get("format")
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
        for n, each in enumerate(given):
            _add_item(each, f"input.{n}", found)
    else:
        raise wrong("input", given, "a string or a list of messages is needed")
    if found and found[-1][0]["role"] == "assistant":
        last = f"input.{len(given) - 1}" if isinstance(given, list) else "input"
        raise ApiError(f"{last} is the assistant's; end with a message by the user or a function_call_output",
                       param=last)  # fmt: skip
    return [message for message, _ in found], [place for _, place in found]


def _add_item(item: Any, where: str, found: list[tuple[Any, str]]) -> None:
    """Add an item of the input to the messages of a chat; a call belongs to the assistant's message before it."""
    if not isinstance(item, Mapping):
        raise wrong(where, item, "an object with role and content is needed")
    kind = item.get("type", "message")
    if kind == "message":
        found.append(({"role": item.get("role"), "content": item.get("content")}, where))
    elif kind == "function_call":
        if not (found and found[-1][0]["role"] == "assistant"):
            found.append(({"role": "assistant", "content": None}, where))
        found[-1][0].setdefault("tool_calls", []).append(_call(item, where))
    elif kind == "function_call_output":
        result = {"role": "tool", "tool_call_id": _string(item, "call_id", where), "content": _result(item, where)}
        found.append((result, where))
    elif kind == "item_reference":
        raise wrong(f"{where}.type", kind, "nothing is stored here; send the item itself")
    elif kind != "reasoning":  # which says nothing to this model
        raise wrong(f"{where}.type", kind, f"{enumerated(ITEMS)} are supported")


def _call(item: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Return a call of a tool in the shape of chat completions."""
    call_id, name, arguments = (_string(item, key, where) for key in ("call_id", "name", "arguments"))
    return {"id": call_id, "type": "function", "function": {"name": name, "arguments": arguments}}


def _result(item: Mapping[str, Any], where: str) -> str:
    """Return the text of a tool's result."""
    parts = read_content(item.get("output"), f"{where}.output")
    if not parts:
        raise wrong(f"{where}.output", item.get("output"), "a string or a list of texts is needed")
    image = next((part for part in parts if not isinstance(part, str)), None)
    if image is not None:
        place = image.source.where
        raise ApiError(f"{place}: a tool's result is text; send images in a message by the user", param=place)
    return "".join(part for part in parts if isinstance(part, str))


def _string(item: Mapping[str, Any], name: str, where: str) -> str:
    if not isinstance(item.get(name), str):
        raise wrong(f"{where}.{name}", item.get(name), "a string is needed")
    return item[name]


def _include(given: Any) -> list[str]:
    if given is not None and not (isinstance(given, list) and all(isinstance(each, str) for each in given)):
        raise wrong("include", given, "a list of strings is needed")
    return given or []


def _object(given: Any, where: str) -> Mapping[str, Any]:
    if given is None:
        return {}
    if not isinstance(given, Mapping):
        raise wrong(where, given, "an object is needed")
    return given


def renamed(error: ApiError) -> ApiError:
    """Return an error of reading or encoding a request with the names of this API."""
    if error.param not in RENAMED or error.code == "unknown_parameter":
        return error
    param, words, here = RENAMED[error.param]
    message = str(error).replace(words, here)
    return ApiError(message, status=error.status, code=error.code, param=param, retry_after=error.retry_after)
