"""Every field of OpenAI's and vLLM's requests, one by one: accepted with the same answer, or refused in words."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import pytest
from talk import Running, data_url, image_part, picture, text_part

CHAT, RESPONSES = "/v1/chat/completions", "/v1/responses"
IMAGE = data_url(picture())
TOOL = {"type": "function", "function": {"name": "book", "description": "x", "strict": True, "parameters": {}}}

BODIES: dict[str, dict[str, Any]] = {
    CHAT: {
        "model": "tiny", "max_tokens": 4,
        "messages": [{"role": "user", "content": [image_part(IMAGE), text_part()]}],
    },
    RESPONSES: {
        "model": "tiny", "max_output_tokens": 4,
        "input": [{"role": "user", "content": [{"type": "input_image", "image_url": IMAGE},
                                               {"type": "input_text", "text": "What is the title?"}]}],
    },
}  # fmt: skip

BOTH: dict[str, tuple[Any, ...]] = {
    "store": (True, False, None),
    "metadata": ({"a": "b"}, {}),
    "user": ("someone",),
    "service_tier": ("auto", "default", "flex", "priority"),
    "prompt_cache_key": ("k",),
    "prompt_cache_retention": ("in_memory", "24h"),
    "prompt_cache_options": ({"mode": "explicit"},),
    "cache_control": ({"type": "ephemeral"},),
    "safety_identifier": ("x",),
    "parallel_tool_calls": (True, False),
    "skip_special_tokens": (True,),
    "ignore_eos": (False,),
    "enable_thinking": (True, False),
    "chat_template_kwargs": ({"enable_thinking": False}, {"thinking": True}),
    "temperature": (0, None),
    "tool_choice": ("auto", "none", None),
    "tools": ([], None),
    "stream_options": (None,),
}
"""Fields of both APIs -> values that change nothing."""

CHAT_ONLY: dict[str, tuple[Any, ...]] = {
    "reasoning_effort": ("none", "minimal", "low", "medium", "high"),
    "verbosity": ("low", "medium", "high"),
    "tools": ([TOOL],),
    "n": (1, None),
    "logprobs": (False,),
    "response_format": ({"type": "text"}, None),
    "modalities": (["text"],),
    "messages.0.name": ("anna",),
    "messages.0.id": ("m1",),
    "messages.0.cache_control": ({"type": "ephemeral"},),
    "messages.0.content.1.id": ("p1",),
    "messages.0.content.1.cache_control": ({"type": "ephemeral"},),
    "messages.0.content.1.prompt_cache_breakpoint": (True,),
    "messages.0.content.0.image_url.detail": ("auto", "low", "high", "original", None),
}

RESPONSES_ONLY: dict[str, tuple[Any, ...]] = {
    "reasoning": ({"effort": "high", "summary": "auto"},),
    "text": ({"verbosity": "low"}, {"format": {"type": "text"}}, None),
    "truncation": ("auto", "disabled"),
    "include": ([], ["reasoning.encrypted_content"], ["message.input_image.image_url"]),
    "previous_response_id": (None,),
    "background": (False, None),
    "max_tool_calls": (3,),
    "tools": ([{"type": "function", **TOOL["function"]}],),
    "input.0.type": ("message",),
    "input.0.id": ("m1",),
    "input.0.status": ("completed",),
    "input.0.content.0.detail": ("auto", "low", "high", "original"),
    "input.0.content.1.id": ("p1",),
}

ACCEPTED = [
    *((route, path, value) for path, values in BOTH.items() for value in values for route in BODIES),
    *((CHAT, path, value) for path, values in CHAT_ONLY.items() for value in values),
    *((RESPONSES, path, value) for path, values in RESPONSES_ONLY.items() for value in values),
]

AS_JSON = '"text", "json_object" and "json_schema" are supported'
REFUSED: list[tuple[str, str, Any, str]] = [
    (CHAT, "response_format.type", "yaml", f'response_format.type is "yaml"; {AS_JSON}'),
    (RESPONSES, "text.format.type", "yaml", f'text.format.type is "yaml"; {AS_JSON}'),
    (RESPONSES, "text.zebra", 1, "text.zebra is 1; format and verbosity are supported"),
    (CHAT, "modalities", ["text", "audio"], 'modalities is ["text", "audio"]; only ["text"] is supported'),
    (CHAT, "audio", {"voice": "a"}, 'audio, which is {"voice": "a"}; answers are texts'),
    (CHAT, "functions", [{"name": "x"}], "functions is a list of 1; tools is supported"),
    (CHAT, "function_call", {"name": "x"}, 'function_call is {"name": "x"}; tool_choice is supported'),
    (CHAT, "prediction", {"type": "content"}, 'prediction, which is {"type": "content"}; answers are generated anew'),
    (CHAT, "web_search_options", {}, "web_search_options, which is {}; nothing is searched"),
    (CHAT, "guided_json", {}, "guided_json, which is {}; a schema in response_format is supported"),
    (CHAT, "chat_template", "x", 'chat_template, which is "x"; the model\'s own prompt is written'),
    (CHAT, "bad_words", ["x"], 'bad_words, which is ["x"]; logit_bias is supported'),
    (CHAT, "prompt_logprobs", 1, "prompt_logprobs, which is 1; logprobs of the answer are supported"),
    (CHAT, "skip_special_tokens", False, "skip_special_tokens is false; only true is supported"),
    (CHAT, "ignore_eos", True, "ignore_eos is true; only false is supported"),
    (CHAT, "echo", True, "echo is true; only false is supported"),
    (CHAT, "best_of", 2, "best_of is 2; n is supported"),
    (CHAT, "min_tokens", 3, "min_tokens is 3; logit_bias is supported"),
    (CHAT, "length_penalty", 2.0, "length_penalty is 2.0; only 1 is supported"),
    (CHAT, "include_stop_str_in_output", True, "is true; only false is supported"),
    (CHAT, "n", 9, "n is 9; at most 8 answers are supported"),
    (CHAT, "n", 0, "n is 0; it must be greater than or equal to 1"),
    (CHAT, "temperature", 3, "temperature is 3; it must be less than or equal to 2"),
    (CHAT, "top_p", 0, "top_p is 0; it must be greater than 0"),
    (CHAT, "top_k", -2, "top_k is -2; it must be greater than or equal to -1"),
    (CHAT, "min_p", 2, "min_p is 2; it must be less than or equal to 1"),
    (CHAT, "frequency_penalty", 3, "frequency_penalty is 3; it must be less than or equal to 2"),
    (CHAT, "presence_penalty", "x", 'presence_penalty is "x"; it must be a valid number'),
    (CHAT, "repetition_penalty", 0, "repetition_penalty is 0; it must be greater than 0"),
    (CHAT, "logit_bias", [1], "logit_bias is [1]; it must be a valid dictionary"),
    (CHAT, "stop", ["a"] * 5, 'stop is ["a", "a", "a", "a", "a"]; at most 4 texts of 1 to 1000 characters'),
    (CHAT, "stop", [3], "stop is [3]; a string or a list of strings is needed"),
    (CHAT, "stop_token_ids", [1] * 101, "stop_token_ids is a list of 101; it must have at most 100 items"),
    (CHAT, "seed", "x", 'seed is "x"; it must be a valid integer'),
    (CHAT, "stream", "yes", 'stream is "yes"; it must be a valid boolean'),
    (CHAT, "hd", 0, "hd is 0; it must be greater than or equal to 1"),
    (CHAT, "hd", 99, "hd is 99, at most 9 here"),
    (CHAT, "partition", "x", 'partition is "x"; original, native, fit are supported'),
    (CHAT, "top_logprobs", 3, "top_logprobs has no effect without logprobs"),
    (CHAT, "tool_choice", "always", 'tool_choice is "always"; "none", "auto" and "required"'),
    (CHAT, "messages", [], "messages is []; it must have at least 1 item"),
    (CHAT, "messages.0.role", "king", 'role is "king"; system, developer, user, assistant, tool are supported'),
    (CHAT, "messages.0.content", None, "messages.0.content is null; text or images are needed"),
    (CHAT, "messages.0.content.0.type", "input_audio", '"input_audio"; "text", "image_url", "file", "input_text"'),
    (CHAT, "messages.0.content.0.image_url.detail", "ultra", '"ultra"; auto, low, high, original are accepted'),
    (CHAT, "messages.0.content.0.file_id", "f", 'file_id is "f"; no files are stored here'),
    (RESPONSES, "previous_response_id", "r", 'previous_response_id is "r"; nothing is stored here'),
    (RESPONSES, "conversation", "c", 'conversation is "c"; nothing is stored here'),
    (RESPONSES, "background", True, "background is true; only false is supported"),
    (RESPONSES, "max_output_tokens", 0, "max_output_tokens is 0; it must be greater than or equal to 1"),
    (RESPONSES, "max_tokens", 3, "max_tokens, which is 3; max_output_tokens is supported"),
    (RESPONSES, "n", 2, "n, which is 2; it is supported in /v1/chat/completions"),
    (RESPONSES, "response_format", {"type": "json_object"}, "text.format is supported"),
    (RESPONSES, "messages", [], "messages, which is []; input is supported"),
    (RESPONSES, "include", "x", 'include is "x"; a list of strings is needed'),
    (RESPONSES, "top_logprobs", 3, "top_logprobs is 3; it has no effect without"),
    (RESPONSES, "instructions", 3, "instructions is 3; a string is needed"),
    (RESPONSES, "tool_choice", {"type": "file_search"}, 'tool_choice is {"type": "file_search"}; "none"'),
    (RESPONSES, "input.0.content.0.file_id", "f", 'file_id is "f"; no files are stored here'),
]
"""Route, path, value, words of the error, which hold the path, the value and what is supported."""


def body_with(route: str, path: str, value: Any) -> dict[str, Any]:
    """Return the route's body with a value at a path; objects on the way are made."""
    found = deepcopy(BODIES[route])
    *way, last = [int(step) if step.isdigit() else step for step in path.split(".")]
    inner: Any = found
    for step in way:
        inner = inner[step] if isinstance(step, int) else inner.setdefault(step, {})
    inner[last] = value
    return found


def answer(server: Running, route: str, body: dict[str, Any]) -> Any:
    """Return what the model says."""
    status, found, _ = server.call("POST", route, body)
    assert status == 200, found
    if route == CHAT:
        return found["choices"][0]["message"]["content"], found["usage"]["prompt_tokens"]
    return found["output"][0]["content"][0]["text"], found["usage"]["input_tokens"]


@pytest.mark.parametrize(("route", "path", "value"), ACCEPTED, ids=lambda value: str(value)[:30])
def test_check_extras_accepts_what_changes_nothing(server: Running, route: str, path: str, value: Any) -> None:
    assert answer(server, route, body_with(route, path, value)) == answer(server, route, BODIES[route])


@pytest.mark.parametrize(("route", "path", "value", "words"), REFUSED, ids=lambda value: str(value)[:30])
def test_wrong_names_path_value_and_what_is_supported(
    server: Running, route: str, path: str, value: Any, words: str
) -> None:
    status, found, _ = server.call("POST", route, body_with(route, path, value))
    assert (status, found["error"]["param"]) == (400, path), found
    assert words in found["error"]["message"]
    assert "\n" not in found["error"]["message"]


PNG = IMAGE.partition(",")[2]
WRITTEN = {
    "line breaks": "data:image/png;base64," + "\r\n".join(PNG[i : i + 76] for i in range(0, len(PNG), 76)),
    "no padding": IMAGE.rstrip("="),
    "URL-safe letters": f"data:image/png;base64,{PNG.replace('+', '-').replace('/', '_')}",
    "a name": f"data:image/png;name=page.png;base64,{PNG}",
    "a name and a charset": f'data:image/png;name="a, b.png";charset=utf-8;base64,{PNG}',
    "another image's MIME type": f"data:image/jpeg;base64,{PNG}",
    "a MIME type of something else": f"data:text/plain;base64,{PNG}",
    "no MIME type": f"data:;base64,{PNG}",
    "capitals": f"DATA:IMAGE/PNG;BASE64,{PNG}",
}


def part_at(route: str) -> str:
    return "messages.0.content.0.image_url.url" if route == CHAT else "input.0.content.0.image_url"


@pytest.mark.parametrize("route", BODIES)
@pytest.mark.parametrize("name", WRITTEN)
def test_decode_data_url_gives_the_same_answer(server: Running, route: str, name: str) -> None:
    found = answer(server, route, body_with(route, part_at(route), WRITTEN[name]))
    assert found == answer(server, route, BODIES[route])


@pytest.mark.parametrize("route", BODIES)
@pytest.mark.parametrize(
    ("url", "words"),
    [
        (f"data:image/png;base64,{PNG[:40]}?{PNG[40:]}", "'?' at character 41 of"),
        (f"data:image/png;base64,{PNG[:41]}", "41 characters is cut short"),
        ("data:image/png;base64,", "an image has 0 bytes"),
        ("data:image/png,abc", "data:image/png,abc"),
    ],
)
def test_data_url_error_says_where(server: Running, route: str, url: str, words: str) -> None:
    status, found, _ = server.call("POST", route, body_with(route, part_at(route), url))
    place = "messages.0.content.0" if route == CHAT else "input.0.content.0"
    assert (status, found["error"]["param"]) == (400, place), found
    assert place in found["error"]["message"]
    assert words in found["error"]["message"]
