"""What goes back: an answer as one object or as server-sent events, in the shapes of OpenAI's API, and errors."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any
from uuid import uuid4

from starlette.exceptions import HTTPException

from ixc.errors import CapacityError, ContextError, ImageError, MissingPackageError, UsageError
from ixc.serving.deltas import TextDelta, TokenLogprob
from ixc.serving.errors import ApiError, error_body
from ixc.serving.jobs import GenerationJob
from ixc.serving.tools import CallReader, call_deltas, call_message

DONE = b"data: [DONE]\n\n"
"""The last event."""

CLIENT_LEFT = 499
"""Status of a request whose client has disconnected; nobody sees it but the log."""

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class ChatResponse:
    """Builds the objects and events of one answer."""

    id: str
    """chatcmpl-..."""
    created: int
    """Unix time, seconds."""
    model: str
    """The model's name."""
    job: GenerationJob
    """The request."""

    @classmethod
    def to(cls, job: GenerationJob, *, model: str) -> ChatResponse:
        """Return a response with a new id."""
        return cls(id=f"chatcmpl-{uuid4().hex}", created=int(time.time()), model=model, job=job)

    def completion(self, deltas: list[TextDelta]) -> dict[str, Any]:
        """Return the whole answer as one object, a choice for each beam."""
        answers = [[delta for delta in deltas if delta.choice == choice] for choice in range(self.job.choices)]
        answers += [[other] for other in deltas[-1].others]
        choices = [self._choice(place, answer) for place, answer in enumerate(answers)]
        return {**self._head("chat.completion"), "choices": choices, "usage": self.usage(deltas)}

    def _choice(self, place: int, deltas: list[TextDelta]) -> dict[str, Any]:
        text = "".join(delta.text for delta in deltas)
        plain = {"role": "assistant", "content": text, "refusal": None}
        return {
            "index": place,
            "message": call_message(text, complete=not deltas[-1].is_open) if self.is_call else plain,
            "logprobs": self._logprobs([entry for delta in deltas for entry in delta.logprobs]),
            "finish_reason": self._finish(deltas[-1]),
            **_confidence(deltas[-1]),
        }

    @property
    def is_call(self) -> bool:
        """Whether the answer is a tool call."""
        return self.job.json is not None and self.job.json.is_call

    def _finish(self, last: TextDelta) -> str | None:
        return "tool_calls" if self.is_call and last.finish == "stop" and not last.is_open else last.finish

    def call_chunks(self, delta: TextDelta, reader: CallReader) -> Iterator[bytes]:
        """Yield a delta of a tool call as events."""
        last = delta.finish is not None
        for found in call_deltas(reader, delta.text, last=last, complete=not delta.is_open):
            yield self._event(found, logprobs=None, finish=None, choice=delta.choice)
        if last:
            more = _confidence(delta)
            yield self._event({}, logprobs=None, finish=self._finish(delta), choice=delta.choice, more=more)

    def chunk(self, delta: TextDelta) -> bytes:
        """Return a delta as an event."""
        content = {"content": delta.text} if delta.text else {}
        logprobs = self._logprobs(list(delta.logprobs))
        more = _confidence(delta)
        return self._event(content, logprobs=logprobs, finish=delta.finish, choice=delta.choice, more=more)

    def first_chunk(self, choice: int = 0) -> bytes:
        """Return the first event of a choice, which names the role."""
        return self._event({"role": "assistant", "content": ""}, logprobs=None, finish=None, choice=choice)

    def usage_chunk(self, deltas: Sequence[TextDelta]) -> bytes:
        """Return the usage as an event without choices."""
        return event({**self._head("chat.completion.chunk"), "choices": [], "usage": self.usage(deltas)})

    def usage(self, deltas: Sequence[TextDelta]) -> dict[str, Any]:
        """Return the tokens of prompt and answers; those of images and of the prefix cache apart.

        Args:
            deltas: of the whole answer, at least the last one of each choice.
        """
        last = deltas[-1]
        finals = [*(delta for delta in deltas if delta.finish is not None), *last.others]
        prompt, generated = self.job.prompt_tokens, sum(delta.new_tokens for delta in finals)
        return {
            "prompt_tokens": prompt,
            "completion_tokens": generated,
            "total_tokens": prompt + generated,
            "prompt_tokens_details": {"cached_tokens": last.cached_tokens, "image_tokens": sum(self.job.image_tokens)},
        }

    def _event(
        self,
        delta: dict[str, Any],
        *,
        logprobs: Any,
        finish: str | None,
        choice: int,
        more: Mapping[str, Any] = MappingProxyType({}),
    ) -> bytes:
        found = {"index": choice, "delta": delta, "logprobs": logprobs, "finish_reason": finish, **more}
        return event({**self._head("chat.completion.chunk"), "choices": [found]})

    def _head(self, kind: str) -> dict[str, Any]:
        return {"id": self.id, "object": kind, "created": self.created, "model": self.model}

    def _logprobs(self, entries: list[TokenLogprob]) -> dict[str, Any] | None:
        if self.job.top_logprobs is None:
            return None
        return {"content": logprob_entries(entries), "refusal": None}


def _confidence(last: TextDelta) -> dict[str, float]:
    """Return the field of a choice that OpenAI's API does not have; none where the answer has no confidence."""
    return {} if last.confidence is None else {"confidence": last.confidence}


def logprob_entries(entries: Sequence[TokenLogprob]) -> list[dict[str, Any]]:
    """Return log probabilities in OpenAI's shape, which both of its APIs share."""
    return [{**_entry(each), "top_logprobs": [_entry(other) for other in each.top]} for each in entries]


def event(data: dict[str, Any]) -> bytes:
    """Return an object as a server-sent event."""
    return f"data: {json.dumps(data)}\n\n".encode()


async def events(
    response: ChatResponse, deltas: AsyncIterator[TextDelta], *, include_usage: bool
) -> AsyncIterator[bytes]:
    """Yield the answer as events, from the role to `DONE`."""
    started, finals = -1, list[TextDelta]()
    reader = CallReader()
    async for delta in deltas:
        if delta.choice > started:
            started, reader = delta.choice, CallReader()
            yield response.first_chunk(started)
        if response.is_call:
            for chunk in response.call_chunks(delta, reader):
                yield chunk
        else:
            yield response.chunk(delta)
        finals += [delta] if delta.finish is not None else []
    if include_usage:
        yield response.usage_chunk(finals)
    yield DONE


async def with_error_event(events: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Yield events; an error becomes the last of them, because the status has already been sent."""
    try:
        async for each in events:
            yield each
    except Exception as error:
        status, body, _ = describe_error(error)
        if status != CLIENT_LEFT:
            yield event(body)


def describe_error(error: Exception) -> tuple[int, dict[str, Any], dict[str, str]]:
    """Return status, body and headers of an error; one that is not ours goes to the log and never to a client."""
    headers: dict[str, str] = {}
    status, code, param, message = 500, None, None, "something went wrong in the server; its log says what"
    if isinstance(error, ApiError):
        status, code, param, message = error.status, error.code, error.param, str(error)
        headers = {"Retry-After": str(error.retry_after)} if error.retry_after else {}
    elif isinstance(error, HTTPException):
        status, message = error.status_code, f"{error.detail}; see / for what is served here"
        headers = dict(error.headers or {})  # Allow of a 405
    elif isinstance(error, ContextError):
        status, code, message = 400, "context_length_exceeded", str(error)
    elif isinstance(error, ImageError):
        status, code, message = 400, "invalid_image", str(error)
    elif isinstance(error, UsageError | MissingPackageError):
        status, message = 400, str(error)
    elif isinstance(error, CapacityError):
        status, code, message = 503, "out_of_memory", str(error)
    else:
        log.error("a request failed", exc_info=error)
    return status, error_body(message, status=status, code=code, param=param), headers


def _entry(entry: TokenLogprob) -> dict[str, Any]:
    return {"token": entry.token, "logprob": entry.logprob, "bytes": list(entry.bytes)}
