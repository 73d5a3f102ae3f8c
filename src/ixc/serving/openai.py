"""The wire of OpenAI's chat completions: a request checked field by field, and what goes back.

    bytes --read_json--> object --read_chat--> Chat (messages with addresses of images, settings)

A field that would change an answer and cannot be honoured is refused by name; `IGNORED` change nothing anywhere.
Beyond OpenAI's there are the fields of vLLM that benchmarks need, under vLLM's names and with its rules:

    use_beam_search + n          beam search of width n; n choices, the likeliest first, never streamed
    add_generation_prompt: false + continue_final_message: true
                                 the last message is an answer continued: the model goes on with it
    chat_template_kwargs         {"published": true} and its "assistant", see `answer.Form`
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from ixc.core import chat_format
from ixc.errors import UsageError
from ixc.inference.sampling import GREEDY, Sampling
from ixc.serving.jobs import CHAT_FORMAT, PromptFormat
from ixc.serving.schema import ChatBody, ChatMessage, ContentPart, StreamOptions, TemplateOptions, TilingOptions

MAX_BEAMS = 8
"""Widest beam search: each beam keeps the prompt's keys and values once more."""

MAX_STOPS = 4
"""Most stop texts of a request, as OpenAI has it."""

LONGEST_QUOTE = 60
"""Characters of a stranger's text repeated in an error."""

ROLES = {"system": "system", "developer": "system", "user": "user", "assistant": "assistant"}
"""Role on the wire -> role of `chat`."""

IGNORED = {
    *("user", "metadata", "store", "service_tier", "safety_identifier", "prompt_cache_key", "parallel_tool_calls"),
    *("prompt_cache_retention",),
}
"""Fields that change no answer."""

NEUTRAL: dict[str, tuple[Any, ...]] = {
    "length_penalty": (1,),
    "frequency_penalty": (0,),
    "presence_penalty": (0,),
    "logit_bias": ({},),
    "tools": ([],),
    "tool_choice": ("none", "auto"),
    "response_format": ({"type": "text"},),
    "modalities": (["text"],),
    "echo": (False,),
    "best_of": (1,),
}
"""Fields this server cannot honour -> the values that change nothing."""


class ApiError(UsageError):
    """A request that is not answered, as OpenAI's clients expect to hear it."""

    def __init__(
        self,
        message: str,
        *,
        status: int = 400,
        code: str | None = None,
        param: str | None = None,
        retry_after: int | None = None,
    ) -> None:
        """
        Args:
            status: of HTTP, 400 .. 599.
            code: short name for programs.
            param: the field that is wrong.
            retry_after: seconds after which another try makes sense.
        """
        super().__init__(message)
        self.status, self.code, self.param, self.retry_after = status, code, param, retry_after


KINDS = {401: "authentication_error", 403: "permission_error", 404: "not_found_error", 429: "rate_limit_error"}
"""Status -> type of an error; other 4xx are invalid requests, 5xx the server's fault."""


def error_body(message: str, *, status: int, code: str | None = None, param: str | None = None) -> dict[str, Any]:
    """What OpenAI's clients turn into their exceptions."""
    kind = KINDS.get(status, "invalid_request_error" if status < 500 else "server_error")
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}


@dataclass(frozen=True, kw_only=True)
class ChatRequest:
    """A checked request. Images in `messages` hold their address, unopened."""

    messages: tuple[chat_format.Message, ...]
    """Turns; the last one is the user's, or an answer continued."""
    model: str
    """The name asked for."""
    sampling: Sampling
    """How tokens are chosen."""
    max_tokens: int | None
    """Longest answer; None = the folder's setting."""
    stop: tuple[str, ...]
    """Texts that end the answer, not part of it."""
    top_logprobs: int | None
    """None = no logprobs; else the alternatives to each token, 0 .. 20."""
    stream: bool
    """Server-sent events instead of one object."""
    include_usage: bool
    """A last event with the usage."""
    hd: int | None
    """Most tiles of an image; None = the server's."""
    partition: str | None
    """Partition rule; None = the server's."""
    prompt_format: PromptFormat = CHAT_FORMAT
    """How the messages become a prompt."""

    @property
    def images(self) -> tuple[str, ...]:
        """Addresses of the images in order."""
        return tuple(
            part.source for turn in self.messages for part in turn.content if isinstance(part, chat_format.Image)
        )


def read_json(body: bytes) -> Mapping[str, Any]:
    """The object of a body.

    Raises:
        ApiError: no JSON, no object, or nested deeper than Python reads.
    """
    try:
        found = json.loads(body)
    except RecursionError:
        raise ApiError("the body is nested too deeply; a request needs about 5 levels") from None
    except ValueError as error:  # also bytes that are no UTF-8, and numbers of thousands of digits
        raise ApiError(f"the body is not JSON ({quote(str(error))}); send one object in UTF-8") from None
    if not isinstance(found, dict):
        raise ApiError(f"the body holds a {type(found).__name__}, a JSON object is needed")
    return found


def read_chat(body: Mapping[str, Any]) -> ChatRequest:
    """The request.

    Raises:
        ApiError: a field is missing, wrong, or asks for something that this server does not do.
    """
    found = _validated(body)
    _check_extras(found.model_extra or {})
    messages = tuple(_message(turn, place) for place, turn in enumerate(found.messages))
    prompt_format = _prompt_format(found, messages[-1])
    _check_text(found.model, "model")
    tiling = found.mm_processor_kwargs or TilingOptions()
    options = found.stream_options or StreamOptions()
    return ChatRequest(
        messages=messages,
        model=found.model,
        sampling=_sampling(found),
        max_tokens=_same("max_tokens", found.max_tokens, "max_completion_tokens", found.max_completion_tokens),
        stop=_stops(found.stop),
        top_logprobs=_logprobs(found),
        stream=bool(found.stream),
        include_usage=bool(options.include_usage),
        hd=_same("hd", found.hd, "mm_processor_kwargs.hd", tiling.hd),
        partition=_same("partition", found.partition, "mm_processor_kwargs.partition", tiling.partition),
        prompt_format=prompt_format,
    )


def quote(text: object) -> str:
    """A stranger's text, short and harmless, for an error."""
    line = ascii(str(text)[: LONGEST_QUOTE + 1])[1:-1]
    return line if len(line) <= LONGEST_QUOTE else line[:LONGEST_QUOTE] + "..."


def _validated(body: Mapping[str, Any]) -> ChatBody:
    try:
        return ChatBody.model_validate(body)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        where = ".".join(quote(part) for part in first["loc"] if not str(part).startswith(("list[", "str")))
        raise ApiError(f"{where}: {first['msg'][:200]}", param=where) from None
    except RecursionError:
        raise ApiError("the body is nested too deeply; a request needs about 5 levels") from None


def _check_extras(extras: Mapping[str, Any]) -> None:
    for name, value in extras.items():
        if name in IGNORED or value is None:
            continue
        if name not in NEUTRAL:
            raise ApiError(f"unknown field {quote(name)}; leave it out", code="unknown_parameter", param=quote(name))
        if not any(type(value) is not bool and value == same for same in NEUTRAL[name]) and value is not False:
            only = " or ".join(json.dumps(same) for same in NEUTRAL[name])
            raise ApiError(
                f"{name} is not supported beside {only}; leave it out", code="unsupported_parameter", param=name
            )


def _message(turn: ChatMessage, place: int) -> chat_format.Message:
    where = f"messages.{place}"
    role = ROLES.get(turn.role)
    if role is None:
        raise ApiError(f"{where}: role {quote(turn.role)} is none of {', '.join(ROLES)}", param=f"{where}.role")
    if turn.content is None or (turn.model_extra and any(turn.model_extra.get(key) for key in ("tool_calls", "audio"))):
        raise ApiError(f"{where}: a message needs content, text or images; tools are not supported", param=where)
    parts = [ContentPart(type="text", text=turn.content)] if isinstance(turn.content, str) else turn.content
    content = tuple(_part(part, f"{where}.content.{i}") for i, part in enumerate(parts))
    if role != "user" and any(isinstance(part, chat_format.Image) for part in content):
        raise ApiError(f"{where}: an image in a message by the {role}; images belong to the user's", param=where)
    if role == "user" and not any(isinstance(part, chat_format.Image) or part.strip() for part in content):
        raise ApiError(f"{where}: the message is empty; write a text or add an image", param=where)
    return chat_format.Message(role, content)  # type: ignore[arg-type]


def _part(part: ContentPart, where: str) -> str | chat_format.Image:
    if part.type == "text" and part.text is not None:
        _check_text(part.text, where)
        return part.text
    if part.type == "image_url" and part.image_url is not None:
        if part.image_url.detail not in (None, "auto", "high"):
            raise ApiError(
                f"{where}: detail {quote(part.image_url.detail)} is not supported; set hd, e.g. 1, for a coarser look",
                param=where,
            )
        return chat_format.Image(part.image_url.url)
    raise ApiError(f"{where}: a part of type {quote(part.type)} is not supported; use text or image_url", param=where)


def _check_text(text: str, where: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ApiError(
            f"{where}: character {error.start + 1} is half of a surrogate pair, no text", param=where
        ) from None


def _prompt_format(body: ChatBody, last: chat_format.Message) -> PromptFormat:
    """How the messages become a prompt; the two flags exclude each other, as in vLLM, where the first is on unless
    it is said to be off."""
    continued, header = bool(body.continue_final_message), body.add_generation_prompt is not False
    if continued and header:
        raise ApiError(
            "continue_final_message goes with add_generation_prompt: false only; set it", param="add_generation_prompt"
        )
    if not continued and not header:
        raise ApiError(
            "add_generation_prompt: false has no use here without continue_final_message: true; leave it out",
            param="add_generation_prompt",
        )
    if continued and not (last.role == "assistant" and any(last.content)):
        raise ApiError("the last message is no continued text by the assistant; continue_final_message needs one",
                      param="messages")  # fmt: skip
    if not continued and last.role != "user":
        raise ApiError(f"the last message is by the {last.role}; end with the user's, or set continue_final_message",
                      param="messages")  # fmt: skip
    return prompt_format_of(body.chat_template_kwargs or TemplateOptions(), continued=continued)


def prompt_format_of(given: TemplateOptions, *, continued: bool) -> PromptFormat:
    """What the words mean.

    Args:
        continued: the last message is an answer continued.

    Raises:
        ApiError: another name of the assistant, or one that has no place.
    """
    if given.assistant is None:
        return PromptFormat(continued=continued, published=bool(given.published))
    blanks = len(given.assistant) <= LONGEST_QUOTE and given.assistant.strip(" ") == "assistant"
    if continued or not given.published or not blanks:
        raise ApiError(
            f"chat_template_kwargs.assistant is {quote(given.assistant)}; only blanks around the word assistant, "
            "beside published: true and without a continued answer",
            param="chat_template_kwargs.assistant",
        )
    return PromptFormat(published=True, assistant=given.assistant)


def _beams(body: ChatBody) -> int:
    """Width of the beam search, 1 without one. Raises ApiError where the request has something that beams cannot do."""
    width = body.n or 1
    if not body.use_beam_search:
        if width > 1:
            raise ApiError(f"n is {width}; several answers come from use_beam_search: true only", param="n")
        return 1
    if width > MAX_BEAMS:
        raise ApiError(f"n is {quote(width)} beams, at most {MAX_BEAMS} here; use fewer", param="n")
    if body.temperature not in (None, 0, 1) or body.top_p not in (None, 1):
        raise ApiError("beam search draws nothing; leave temperature and top_p out", param="use_beam_search")
    wrong = [name for name in ("stream", "logprobs") if getattr(body, name)]
    if width > 1 and wrong:
        raise ApiError(f"{width} beams have no {' and no '.join(wrong)}; leave it out, or use n: 1", param=wrong[0])
    return width


def _sampling(body: ChatBody) -> Sampling:
    """Greedy, as `ixc ask`, unless a temperature above 0 or a top_p below 1 is given; a seed alone changes nothing."""
    warm = body.temperature > 0 if body.temperature is not None else (body.top_p or 1.0) < 1
    penalty: dict[str, Any] = {} if body.repetition_penalty is None else {"repetition_penalty": body.repetition_penalty}
    beams = _beams(body)
    if body.use_beam_search:
        return Sampling(num_beams=beams, **penalty)
    if not warm:
        return Sampling(**penalty) if penalty else GREEDY
    heat = 1.0 if body.temperature is None else body.temperature
    top_p = 1.0 if body.top_p is None else body.top_p
    return Sampling(do_sample=True, temperature=heat, top_p=top_p, seed=body.seed, **penalty)


def _stops(stop: str | list[str] | None) -> tuple[str, ...]:
    stops = () if stop is None else (stop,) if isinstance(stop, str) else tuple(stop)
    if len(stops) > MAX_STOPS or any(not text or len(text) > 1000 for text in stops):
        raise ApiError(f"stop: {len(stops)} texts; at most {MAX_STOPS}, each of 1 to 1000 characters", param="stop")
    return stops


def _logprobs(body: ChatBody) -> int | None:
    if not body.logprobs:
        if body.top_logprobs:
            raise ApiError("top_logprobs has no effect without logprobs; set logprobs to true", param="top_logprobs")
        return None
    return body.top_logprobs or 0


def _same(name: str, value: Any, other: str, second: Any) -> Any:
    """One of two spellings of the same thing."""
    if value is not None and second is not None and value != second:
        raise ApiError(f"{name} is {quote(value)} and {other} is {quote(second)}; give one of them", param=name)
    return second if value is None else value
