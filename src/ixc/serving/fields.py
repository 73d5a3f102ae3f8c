"""Fields of a request without an effect here: which are accepted, and the words in which others are refused.

A field that by its meaning changes no answer of this model is accepted with any value (`IGNORED`). One that would
change the answer and is not supported is accepted at the values that change nothing (`NEUTRAL`) and refused at others,
with its path, its value and what is supported.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from ixc.serving.content import shown, wrong
from ixc.serving.errors import ApiError, quote

_COUNT = re.compile(r"\w+ should have (.+?)(?: after validation, not .*)?$")

IGNORED = {
    *("user", "metadata", "store", "service_tier", "safety_identifier", "moderation", "priority", "request_id"),
    *("prompt_cache_key", "prompt_cache_retention", "prompt_cache_options", "cache_control", "cache_salt"),
    *("reasoning_effort", "reasoning", "include_reasoning", "verbosity", "enable_thinking", "thinking"),
    *("thinking_token_budget", "parallel_tool_calls", "spaces_between_special_tokens"),
}
"""Fields that change no answer: notes for the provider, its caches, settings of a reasoning that this model lacks."""

NEUTRAL: dict[str, tuple[Any, ...]] = {
    "length_penalty": (1,),
    "functions": ([],),
    "function_call": ("none", "auto"),
    "modalities": (["text"],),
    "echo": (False,),
    "best_of": (1,),
    "skip_special_tokens": (True,),
    "ignore_eos": (False,),
    "min_tokens": (0,),
    "include_stop_str_in_output": (False,),
    "return_token_ids": (False,),
}
"""Fields that are not supported -> their values that change no answer, which are accepted."""

_BY_SCHEMA = "a schema in response_format is supported"
_BY_BIAS = "logit_bias is supported"
INSTEAD = {
    "functions": "tools is supported",
    "function_call": "tool_choice is supported",
    "min_tokens": _BY_BIAS + " to keep an answer from ending",
    "best_of": "n is supported",
    "audio": "answers are texts",
    "web_search_options": "nothing is searched",
    "prediction": "answers are generated anew",
    "chat_template": "the model's own prompt is written",
    "documents": "texts and files are read as parts of a message",
    "prompt_logprobs": "logprobs of the answer are supported",
    "truncate_prompt_tokens": "a prompt that is too long is refused",
    "bad_words": _BY_BIAS,
    "allowed_token_ids": _BY_BIAS,
    "structured_outputs": _BY_SCHEMA,
    **dict.fromkeys(("guided_json", "guided_regex", "guided_choice", "guided_grammar"), _BY_SCHEMA),
}
"""Fields of OpenAI's and vLLM's API that are not supported -> what is, for errors."""


def check_extras(extras: Mapping[str, Any]) -> None:
    """Check the fields of a body that no option reads.

    Raises:
        ApiError: an unknown field, or a value that would change the answer.
    """
    for name, value in extras.items():
        if name in IGNORED or value is None:
            continue
        if name not in NEUTRAL:
            raise unknown_field(name, value)
        if not is_neutral(name, value):
            only = " and ".join(json.dumps(same) for same in NEUTRAL[name])
            need = INSTEAD.get(name) or f"only {only} {'is' if len(NEUTRAL[name]) == 1 else 'are'} supported"
            raise wrong(name, value, f"{need}; leave it out", code="unsupported_parameter")


def unknown_field(name: str, value: Any, instead: str | None = None) -> ApiError:
    """Return the error of a field that no option reads.

    Args:
        name, value: of the field.
        instead: what is supported; None = as `INSTEAD` has it.
    """
    known = instead or INSTEAD.get(name)
    words = f"; {known}" if known else ""
    return ApiError(
        f"unknown field {quote(name)}, which is {shown(value)}{words}; leave it out",
        code="unknown_parameter",
        param=quote(name),
    )


def is_neutral(name: str, value: Any) -> bool:
    """Whether a value of a field of `NEUTRAL` changes no answer."""
    return any(type(value) is type(same) and value == same for same in NEUTRAL[name]) or (
        isinstance(value, float) and value in NEUTRAL[name]
    )


def validation_error(error: ValidationError) -> ApiError:
    """Return the first error of a body with its path, the value and what is needed."""
    first = error.errors(include_url=False, include_context=False)[0]
    where = ".".join(quote(part) for part in first["loc"])
    if first["type"] == "missing":
        return ApiError(f"{where} is missing; send it", param=where)
    if first["type"] == "extra_forbidden":
        return ApiError(f"{where} is unknown; leave it out", code="unknown_parameter", param=where)
    need = first["msg"][:200].replace("Input should be", "it must be")
    need = _COUNT.sub(r"it must have \1", need)
    return ApiError(f"{where} is {shown(first['input'])}; {need}", param=where)
