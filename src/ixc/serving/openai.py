"""Requests of OpenAI's chat completions: read and checked field by field; and the shape of an error.

    bytes --read_json--> object --read_chat--> ChatRequest (messages with sources of images, options)

Parts of a message are read by `content.py`, options of sampling by `sampling_fields.py`; `fields.py` says which fields
without an effect are accepted.
Besides OpenAI's fields there are those of vLLM that benchmarks need, under vLLM's names and with its rules:

    use_beam_search + n          beam search of width n; n choices, the likeliest first, never streamed
    add_generation_prompt: false + continue_final_message: true
                                 the last message is the beginning of an answer, and the model continues it
    chat_template_kwargs         {"published": true} and its "assistant", {"images_in_place": true}: `PromptFormat`
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pydantic import ValidationError

from ixc.core import chat_format
from ixc.core.prompt_format import CHAT_FORMAT, PromptFormat
from ixc.inference.sampling import Sampling
from ixc.serving.content import FileSource, check_text, read_content, wrong
from ixc.serving.errors import LONGEST_QUOTE, ApiError, quote
from ixc.serving.fields import check_extras, validation_error
from ixc.serving.sampling_fields import read_sampling
from ixc.serving.schema import ChatBody, ChatMessage, StreamOptions, TemplateOptions, TilingOptions
from ixc.serving.structured import OutputSchema, check_options, read_response_format
from ixc.serving.tools import call_names, calls_text, read_tools, result_text

MAX_STOPS = 4
"""Most stop texts of a request, as OpenAI has it."""

ROLES = {"system": "system", "developer": "system", "user": "user", "assistant": "assistant", "tool": "user"}
"""Role of a request -> role of `chat_format`; a tool's result comes from outside, as the user's words do."""


@dataclass(frozen=True, kw_only=True)
class ChatRequest:
    """A checked request. Images in `messages` hold a `FileSource`; nothing is opened yet."""

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
    choices: int
    """Answers to the same prompt, `n`."""
    stop_token_ids: frozenset[int]
    """Ids that end the answer, besides the model's own."""
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
    def sources(self) -> tuple[FileSource, ...]:
        """Where the images and documents come from, in order."""
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


def read_chat(body: Mapping[str, Any], *, places: Sequence[str] = (), flat: bool = False) -> ChatRequest:
    """Check a request and read its fields.

    Args:
        body: the object that was sent.
        places: path of each message, for errors; () = messages.0, messages.1, ...
        flat: whether tools and the format are written as in the Responses API.

    Raises:
        ApiError: a field is missing or wrong, or asks for something that this server does not support.
    """
    found = _validated(body)
    check_extras(found.model_extra or {})
    names = call_names([turn.tool_calls for turn in found.messages])
    messages = tuple(
        _message(turn, places[n] if places else f"messages.{n}", names) for n, turn in enumerate(found.messages)
    )
    prompt_format = _prompt_format(found, messages[-1])
    check_text(found.model, "model")
    tiling = found.mm_processor_kwargs or TilingOptions()
    options = found.stream_options or StreamOptions()
    return ChatRequest(
        messages=messages,
        model=found.model,
        sampling=read_sampling(found),
        choices=1 if found.use_beam_search else found.n or 1,
        stop_token_ids=frozenset(found.stop_token_ids or ()),
        max_tokens=_either("max_tokens", found.max_tokens, "max_completion_tokens", found.max_completion_tokens),
        stop=_stops(found.stop),
        top_logprobs=_logprobs(found),
        stream=bool(found.stream),
        include_usage=bool(options.include_usage),
        hd=_either("hd", found.hd, "mm_processor_kwargs.hd", tiling.hd),
        partition=_either("partition", found.partition, "mm_processor_kwargs.partition", tiling.partition),
        prompt_format=prompt_format,
        output=_output(found, flat=flat),
        tool_turns={
            place: _texts(turn.content) if turn.role == "assistant" else ""
            for place, turn in enumerate(found.messages)
            if turn.role == "tool" or turn.tool_calls
        },
    )


def _texts(content: Any) -> str:
    """Return the texts of a message's content."""
    return "".join(part for part in read_content(content, "content") if isinstance(part, str))


def _output(body: ChatBody, *, flat: bool) -> OutputSchema | None:
    """Return the JSON that the answer must be; a forced tool call comes before `response_format`."""
    found = read_tools(body.tools, body.tool_choice, flat=flat)
    as_text = read_response_format(body.response_format, "text.format" if flat else "response_format")
    found = found or as_text
    if found is not None:
        check_options(
            found,
            {
                "use_beam_search": body.use_beam_search, "continue_final_message": body.continue_final_message,
                "logprobs": body.logprobs if found.is_call else None,  # a call has no content that they could be of
            },
        )  # fmt: skip
    return found


def _validated(body: Mapping[str, Any]) -> ChatBody:
    try:
        return ChatBody.model_validate(body)
    except ValidationError as error:
        raise validation_error(error) from None
    except RecursionError:
        raise ApiError("the body is nested too deeply; a request needs about 5 levels") from None


def _message(turn: ChatMessage, where: str, names: Mapping[str, str]) -> chat_format.Message:
    role = ROLES.get(turn.role)
    if role is None:
        raise wrong(f"{where}.role", turn.role, f"{', '.join(ROLES)} are supported")
    if turn.tool_calls and turn.role != "assistant":
        raise ApiError(f"{where}.tool_calls: a call in a message by the {turn.role}", param=f"{where}.tool_calls")
    if turn.content is None and not turn.tool_calls:
        raise wrong(f"{where}.content", None, "text or images are needed")
    content = _with_tools(turn, read_content(turn.content, f"{where}.content"), where, names)
    image = next((part for part in content if isinstance(part, chat_format.Image)), None)
    if role != "user" and image is not None:
        where = image.source.where
        raise ApiError(f"{where}: an image in a message by the {role}; images belong to the user's", param=where)
    if role == "user" and not any(isinstance(part, chat_format.Image) or part.strip() for part in content):
        raise ApiError(f"{where}: the message is empty; write a text or add an image", param=where)
    return chat_format.Message(role, content)  # type: ignore[arg-type]


def _with_tools(
    turn: ChatMessage, content: tuple[str | chat_format.Image, ...], where: str, names: Mapping[str, str]
) -> tuple[str | chat_format.Image, ...]:
    """Return the content of a message in which calls and a tool's result are text."""
    if turn.role != "tool" and not turn.tool_calls:
        return content
    texts = [part for part in content if isinstance(part, str)]
    if len(texts) < len(content):
        raise ApiError(f"{where}: only text goes with tools; images belong to the user's messages", param=where)
    text = "".join(texts)
    if turn.role == "tool":
        return (result_text(text, names.get(turn.tool_call_id or "")),)
    return ("\n".join(filter(None, (text, calls_text(turn.tool_calls, f"{where}.tool_calls")))),)


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
    if given.images_in_place and given.published:
        raise ApiError(
            "chat_template_kwargs.images_in_place has no effect with published: true, where images come before the "
            "first turn; leave one of them out",
            param="chat_template_kwargs.images_in_place",
        )
    if given.assistant is None:
        return PromptFormat(
            continue_final_message=continue_final_message,
            published=bool(given.published),
            images_in_place=bool(given.images_in_place),
        )
    blanks = len(given.assistant) <= LONGEST_QUOTE and given.assistant.strip(" ") == "assistant"
    if continue_final_message or not given.published or not blanks:
        raise ApiError(
            f"chat_template_kwargs.assistant is {quote(given.assistant)}; only blanks around the word assistant, "
            "with published: true and without continue_final_message",
            param="chat_template_kwargs.assistant",
        )
    return PromptFormat(published=True, assistant=given.assistant)


def _stops(stop: Any) -> tuple[str, ...]:
    stops = () if stop is None else (stop,) if isinstance(stop, str) else stop
    if not isinstance(stops, list | tuple) or not all(isinstance(text, str) for text in stops):
        raise wrong("stop", stop, "a string or a list of strings is needed")
    if len(stops) > MAX_STOPS or any(not text or len(text) > 1000 for text in stops):
        raise wrong("stop", stop, f"at most {MAX_STOPS} texts of 1 to 1000 characters each are supported")
    return tuple(stops)


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
