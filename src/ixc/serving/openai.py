"""Requests of OpenAI's chat completions: read and checked field by field; and the shape of an error.

    bytes --read_json--> object --read_chat--> ChatRequest (messages with URLs of images, options)

A field that would change the answer and is not supported is refused by name; fields of `IGNORED` change no answer.
Besides OpenAI's fields there are those of vLLM that benchmarks need, under vLLM's names and with its rules:

    use_beam_search + n          beam search of width n; n choices, the likeliest first, never streamed
    add_generation_prompt: false + continue_final_message: true
                                 the last message is the beginning of an answer, and the model continues it
    chat_template_kwargs         {"published": true} and its "assistant", see `PromptFormat`
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pydantic import ValidationError

from ixc.core import chat_format
from ixc.inference.sampling import GREEDY, Sampling
from ixc.serving.errors import LONGEST_QUOTE, ApiError, quote
from ixc.serving.prompt_format import CHAT_FORMAT, PromptFormat
from ixc.serving.schema import ChatBody, ChatMessage, ContentPart, StreamOptions, TemplateOptions, TilingOptions
from ixc.serving.structured import OutputSchema, check_options, read_response_format
from ixc.serving.tools import call_names, calls_text, read_tools, result_text

MAX_BEAMS = 8
"""Widest beam search: each beam holds a copy of the prompt's keys and values."""

MAX_STOPS = 4
"""Most stop texts of a request, as OpenAI has it."""

ROLES = {"system": "system", "developer": "system", "user": "user", "assistant": "assistant", "tool": "user"}
"""Role of a request -> role of `chat_format`; a tool's result comes from outside, as the user's words do."""

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
    "modalities": (["text"],),
    "echo": (False,),
    "best_of": (1,),
}
"""Fields that are not supported -> their values that change no answer, which are accepted."""


@dataclass(frozen=True, kw_only=True)
class ChatRequest:
    """A checked request. Images in `messages` hold their URL; nothing is opened yet."""

    messages: tuple[chat_format.Message, ...]
    """Turns; the last one is the user's, or the beginning of an answer."""
    model: str
    """The name asked for."""
    sampling: Sampling
    """How tokens are chosen."""
    max_tokens: int | None
    """Longest answer; None = the folder's setting."""
    stop: tuple[str, ...]
    """Texts that end the answer and are not part of it."""
    top_logprobs: int | None
    """None = no log probabilities; else the number of alternatives to each token, 0 to 20."""
    stream: bool
    """Server-sent events instead of one object."""
    include_usage: bool
    """Whether a last event gives the usage."""
    hd: int | None
    """Most tiles of an image; None = the server's."""
    partition: str | None
    """Partition rule; None = the server's."""
    prompt_format: PromptFormat = CHAT_FORMAT
    """How the messages become a prompt."""
    output: OutputSchema | None = None
    """The JSON that the answer must be: `response_format`, or a forced tool call; None = a text."""
    tool_turns: Mapping[int, str] = field(default_factory=dict)
    """Place of each turn that is of tools -> its text without calls; "" where nothing is left."""

    def turns(self, *, tools: bool) -> tuple[chat_format.Message, ...]:
        """Return the messages.

        Args:
            tools: with calls and results of tools as texts; without them for a model that would take a result for the
                question.
        """
        if tools or not self.tool_turns:
            return self.messages
        found = []
        for place, turn in enumerate(self.messages):
            text = self.tool_turns.get(place)
            if text is None:
                found.append(turn)
            elif text:
                found.append(chat_format.Message(turn.role, (text,)))
        return tuple(found)

    @property
    def images(self) -> tuple[str, ...]:
        """URLs of the images in order."""
        return tuple(
            part.source for turn in self.messages for part in turn.content if isinstance(part, chat_format.Image)
        )


def read_json(body: bytes) -> Mapping[str, Any]:
    """Parse the JSON object of a body.

    Raises:
        ApiError: not JSON, no object, or nested deeper than Python parses.
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
    """Check a request and read its fields.

    Raises:
        ApiError: a field is missing or wrong, or asks for something that this server does not support.
    """
    found = _validated(body)
    _check_extras(found.model_extra or {})
    names = call_names([turn.tool_calls for turn in found.messages])
    messages = tuple(_message(turn, place, names) for place, turn in enumerate(found.messages))
    prompt_format = _prompt_format(found, messages[-1])
    _check_text(found.model, "model")
    tiling = found.mm_processor_kwargs or TilingOptions()
    options = found.stream_options or StreamOptions()
    return ChatRequest(
        messages=messages,
        model=found.model,
        sampling=_sampling(found),
        max_tokens=_either("max_tokens", found.max_tokens, "max_completion_tokens", found.max_completion_tokens),
        stop=_stops(found.stop),
        top_logprobs=_logprobs(found),
        stream=bool(found.stream),
        include_usage=bool(options.include_usage),
        hd=_either("hd", found.hd, "mm_processor_kwargs.hd", tiling.hd),
        partition=_either("partition", found.partition, "mm_processor_kwargs.partition", tiling.partition),
        prompt_format=prompt_format,
        output=_output(found),
        tool_turns={
            place: turn.content if turn.role == "assistant" and isinstance(turn.content, str) else ""
            for place, turn in enumerate(found.messages)
            if turn.role == "tool" or turn.tool_calls
        },
    )


def _output(body: ChatBody) -> OutputSchema | None:
    """Return the JSON that the answer must be; a forced tool call comes before `response_format`."""
    found = read_tools(body.tools, body.tool_choice)
    as_text = read_response_format(body.response_format)
    found = found or as_text
    if found is not None:
        more = body.n if (body.n or 1) > 1 else None
        check_options(
            found,
            {
                "use_beam_search": body.use_beam_search, "n": more, "stop": body.stop, "logprobs": body.logprobs,
                "continue_final_message": body.continue_final_message,
            },
        )  # fmt: skip
    return found


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


def _message(turn: ChatMessage, place: int, names: Mapping[str, str]) -> chat_format.Message:
    where = f"messages.{place}"
    role = ROLES.get(turn.role)
    if role is None:
        raise ApiError(f"{where}: role {quote(turn.role)} is none of {', '.join(ROLES)}", param=f"{where}.role")
    if turn.tool_calls and turn.role != "assistant":
        raise ApiError(f"{where}.tool_calls: a call in a message by the {turn.role}", param=f"{where}.tool_calls")
    if turn.content is None and not turn.tool_calls:
        raise ApiError(f"{where}: a message needs content, text or images", param=where)
    turn = _with_tools(turn, where, names)
    assert turn.content is not None
    parts = [ContentPart(type="text", text=turn.content)] if isinstance(turn.content, str) else turn.content
    content = tuple(_part(part, f"{where}.content.{i}") for i, part in enumerate(parts))
    if role != "user" and any(isinstance(part, chat_format.Image) for part in content):
        raise ApiError(f"{where}: an image in a message by the {role}; images belong to the user's", param=where)
    if role == "user" and not any(isinstance(part, chat_format.Image) or part.strip() for part in content):
        raise ApiError(f"{where}: the message is empty; write a text or add an image", param=where)
    return chat_format.Message(role, content)  # type: ignore[arg-type]


def _with_tools(turn: ChatMessage, where: str, names: Mapping[str, str]) -> ChatMessage:
    """Return a message in which calls and a tool's result are text."""
    if turn.role != "tool" and not turn.tool_calls:
        return turn
    content = turn.content or ""
    if not isinstance(content, str):
        if any(part.type != "text" for part in content):
            raise ApiError(f"{where}: only text goes with tools; images belong to the user's messages", param=where)
        content = "".join(part.text or "" for part in content)
    if turn.role == "tool":
        return turn.model_copy(update={"content": result_text(content, names.get(turn.tool_call_id or ""))})
    text = "\n".join(filter(None, (content, calls_text(turn.tool_calls, f"{where}.tool_calls"))))
    return turn.model_copy(update={"content": text})


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
    """Read how the messages become a prompt. The two flags exclude each other, as in vLLM 0.32, where
    `add_generation_prompt` is on unless a request turns it off."""
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
        raise ApiError("the last message is no text by the assistant, which continue_final_message needs",
                      param="messages")  # fmt: skip
    if not continued and last.role != "user":
        raise ApiError(f"the last message is by the {last.role}; end with the user's, or set continue_final_message",
                      param="messages")  # fmt: skip
    return read_prompt_format(body.chat_template_kwargs or TemplateOptions(), continue_final_message=continued)


def read_prompt_format(given: TemplateOptions, *, continue_final_message: bool) -> PromptFormat:
    """Read the prompt format of `chat_template_kwargs`.

    Args:
        given: the options of the request.
        continue_final_message: whether the last message is the beginning of an answer.

    Raises:
        ApiError: another role name than the assistant's, or one where no header is written.
    """
    if given.assistant is None:
        return PromptFormat(continue_final_message=continue_final_message, published=bool(given.published))
    blanks = len(given.assistant) <= LONGEST_QUOTE and given.assistant.strip(" ") == "assistant"
    if continue_final_message or not given.published or not blanks:
        raise ApiError(
            f"chat_template_kwargs.assistant is {quote(given.assistant)}; only blanks around the word assistant, "
            "with published: true and without continue_final_message",
            param="chat_template_kwargs.assistant",
        )
    return PromptFormat(published=True, assistant=given.assistant)


def _beams(body: ChatBody) -> int:
    """Return the width of the beam search, 1 without one. Raises: ApiError: options that beam search does not have."""
    width = body.n or 1
    if not body.use_beam_search:
        if width > 1:
            raise ApiError(f"n is {width}; several answers come from use_beam_search: true only", param="n")
        return 1
    if width > MAX_BEAMS:
        raise ApiError(f"n is {quote(width)} beams, at most {MAX_BEAMS} here; use fewer", param="n")
    if body.temperature not in (None, 0, 1) or body.top_p not in (None, 1):
        raise ApiError("beam search does not sample; leave temperature and top_p out", param="use_beam_search")
    wrong = [name for name in ("stream", "logprobs") if getattr(body, name)]
    if width > 1 and wrong:
        raise ApiError(f"{width} beams have no {' and no '.join(wrong)}; leave it out, or use n: 1", param=wrong[0])
    return width


def _sampling(body: ChatBody) -> Sampling:
    """Return greedy sampling, as `ixc ask`, unless a temperature above 0 or a top_p below 1 is given.

    A seed alone changes nothing, so that clients which always send one stay greedy.
    """
    sampled = body.temperature > 0 if body.temperature is not None else (body.top_p or 1.0) < 1
    penalty: dict[str, Any] = {} if body.repetition_penalty is None else {"repetition_penalty": body.repetition_penalty}
    beams = _beams(body)
    if body.use_beam_search:
        return Sampling(num_beams=beams, **penalty)
    if not sampled:
        return Sampling(**penalty) if penalty else GREEDY
    temperature = 1.0 if body.temperature is None else body.temperature
    top_p = 1.0 if body.top_p is None else body.top_p
    return Sampling(do_sample=True, temperature=temperature, top_p=top_p, seed=body.seed, **penalty)


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


def _either(name: str, value: Any, other: str, second: Any) -> Any:
    """Return the value of a field with two spellings."""
    if value is not None and second is not None and value != second:
        raise ApiError(f"{name} is {quote(value)} and {other} is {quote(second)}; give one of them", param=name)
    return second if value is None else value
