"""Answers in the shape of OpenAI's Responses API: one object, or server-sent events in OpenAI's order.

response.created, response.in_progress, response.output_item.added, response.content_part.added,
response.output_text.delta (one or more), response.output_text.done, response.content_part.done,
response.output_item.done, response.completed or response.incomplete

A forced tool call is an item of type function_call; between the two events of the item come
response.function_call_arguments.delta (one or more) and response.function_call_arguments.done.
"""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

from ixc.serving.deltas import TextDelta
from ixc.serving.jobs import GenerationJob
from ixc.serving.responses import CLIENT_LEFT, describe_error, logprob_entries
from ixc.serving.tools import CallReader

FIXED: dict[str, Any] = {
    "object": "response", "error": None, "background": False, "max_tool_calls": None, "parallel_tool_calls": True,
    "previous_response_id": None, "prompt_cache_key": None, "reasoning": {"effort": None, "summary": None},
    "safety_identifier": None, "service_tier": "default", "store": False,
}  # fmt: skip
"""Fields of a response that are always the same here."""


@dataclass(kw_only=True)
class ResponseWriter:
    """Builds the object and the events of one response; holds the number of the next event."""

    model: str
    """The model's name."""
    job: GenerationJob
    """The request."""
    echo: Mapping[str, Any]
    """Fields of the request that are repeated."""
    id: str = field(default_factory=lambda: f"resp_{uuid4().hex}")
    """resp_..."""
    item_id: str = ""
    """msg_... of the one message, or fc_... of the one call; "" = a new one."""
    call: CallReader = field(default_factory=CallReader)
    """Reads the call while it arrives; it has the call's id."""
    created: int = field(default_factory=lambda: int(time.time()))
    """Unix time, seconds."""
    sent: int = 0
    """Events so far."""

    def __post_init__(self) -> None:
        self.item_id = self.item_id or f"{'fc' if self.is_call else 'msg'}_{uuid4().hex}"

    @property
    def is_call(self) -> bool:
        """Whether the answer is a tool call."""
        return self.job.json is not None and self.job.json.is_call

    def response(self, deltas: Sequence[TextDelta]) -> dict[str, Any]:
        """Return the whole response; no deltas = one that is in progress."""
        status, details = _status(deltas)
        return {
            **FIXED,
            **self.echo,
            "id": self.id,
            "created_at": self.created,
            "completed_at": int(time.time()) if status == "completed" else None,
            "status": status,
            "incomplete_details": details,
            "model": self.model,
            "top_logprobs": self.job.top_logprobs or 0,
            "output": self.output(deltas) if deltas else [],
            "usage": self.usage(deltas[-1]) if deltas else None,
        }

    def output(self, deltas: Sequence[TextDelta]) -> list[dict[str, Any]]:
        """Return the items: the message, or the call unless it was cut before its name was known."""
        if not self.is_call:
            return [self.item(deltas)]
        reader = CallReader()
        text = "".join(delta.text for delta in deltas)
        arguments = reader.read(text, last=True, complete=not deltas[-1].is_open)
        return [] if reader.name is None else [self.call_item(deltas, name=reader.name, arguments=arguments)]

    def call_item(self, deltas: Sequence[TextDelta], *, name: str, arguments: str) -> dict[str, Any]:
        """Return the call of a tool."""
        return {
            "type": "function_call", "id": self.item_id, "call_id": self.call.id, "name": name, "arguments": arguments,
            "status": "incomplete" if deltas and deltas[-1].is_open else _status(deltas)[0],
        }  # fmt: skip

    def item(self, deltas: Sequence[TextDelta]) -> dict[str, Any]:
        """Return the message."""
        content = [self.part(deltas)] if deltas else []
        return {
            "type": "message", "id": self.item_id, "status": _status(deltas)[0], "role": "assistant",
            "content": content,
        }  # fmt: skip

    def part(self, deltas: Sequence[TextDelta]) -> dict[str, Any]:
        """Return the text of the message."""
        text = "".join(delta.text for delta in deltas)
        return {"type": "output_text", "text": text, "annotations": [], "logprobs": self._logprobs(deltas)}

    def usage(self, last: TextDelta) -> dict[str, Any]:
        """Return the tokens of prompt and answer."""
        prompt = self.job.prompt_tokens
        return {
            "input_tokens": prompt,
            "input_tokens_details": {
                "cached_tokens": last.cached_tokens,
                "cache_write_tokens": 0,
                "image_tokens": sum(self.job.image_tokens),
            },
            "output_tokens": last.new_tokens,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": prompt + last.new_tokens,
        }

    async def events(self, deltas: AsyncIterator[TextDelta]) -> AsyncIterator[bytes]:
        """Yield the answer as events; an error becomes the last of them, because the status has already been sent."""
        try:
            async for each in self._events(deltas):
                yield each
        except Exception as error:
            status, body, _ = describe_error(error)
            if status != CLIENT_LEFT:
                inner = body["error"]
                # The object `error` besides OpenAI's own fields is what openai-python 3.57 makes an exception of.
                yield self.event("error", **{name: inner[name] for name in ("code", "message", "param")}, error=inner)

    async def _events(self, deltas: AsyncIterator[TextDelta]) -> AsyncIterator[bytes]:
        yield self.event("response.created", response=self.response([]))
        yield self.event("response.in_progress", response=self.response([]))
        said: list[TextDelta] = []
        async for each in (self._call_events if self.is_call else self._text_events)(deltas, said):
            yield each
        yield self.event(f"response.{_status(said)[0]}", response=self.response(said))

    async def _call_events(self, deltas: AsyncIterator[TextDelta], said: list[TextDelta]) -> AsyncIterator[bytes]:
        """Yield the events of a call; its deltas are added to `said`."""
        place = {"item_id": self.item_id, "output_index": 0}
        arguments, added = "", False
        async for delta in deltas:
            said.append(delta)
            piece = self.call.read(delta.text, last=delta.finish is not None, complete=not delta.is_open)
            if self.call.name is not None and not added:
                added, item = True, self.call_item([], name=self.call.name, arguments="")
                yield self.event("response.output_item.added", output_index=0, item=item)
            if piece:
                arguments += piece
                yield self.event("response.function_call_arguments.delta", **place, delta=piece)
        if self.call.name is not None:
            name, item = self.call.name, self.call_item(said, name=self.call.name, arguments=arguments)
            yield self.event("response.function_call_arguments.done", **place, name=name, arguments=arguments)
            yield self.event("response.output_item.done", output_index=0, item=item)

    async def _text_events(self, deltas: AsyncIterator[TextDelta], said: list[TextDelta]) -> AsyncIterator[bytes]:
        """Yield the events of a message; its deltas are added to `said`."""
        place = {"item_id": self.item_id, "output_index": 0, "content_index": 0}
        yield self.event("response.output_item.added", output_index=0, item=self.item([]))
        yield self.event("response.content_part.added", **place, part=self.part([]))
        async for delta in deltas:
            said.append(delta)
            if delta.text or delta.logprobs:
                logprobs = self._logprobs([delta])
                yield self.event("response.output_text.delta", **place, delta=delta.text, logprobs=logprobs)
        part = self.part(said)
        yield self.event("response.output_text.done", **place, text=part["text"], logprobs=part["logprobs"])
        yield self.event("response.content_part.done", **place, part=part)
        yield self.event("response.output_item.done", output_index=0, item=self.item(said))

    def event(self, kind: str, **fields: Any) -> bytes:
        """Return a server-sent event with the next number."""
        data = {"type": kind, "sequence_number": self.sent, **fields}
        self.sent += 1
        return f"event: {kind}\ndata: {json.dumps(data)}\n\n".encode()

    def _logprobs(self, deltas: Sequence[TextDelta]) -> list[dict[str, Any]]:
        return [] if self.job.top_logprobs is None else logprob_entries([e for d in deltas for e in d.logprobs])


def _status(deltas: Sequence[TextDelta]) -> tuple[str, dict[str, str] | None]:
    """Return the status, and why it is incomplete."""
    if not deltas or deltas[-1].finish is None:
        return "in_progress", None
    return ("incomplete", {"reason": "max_output_tokens"}) if deltas[-1].finish == "length" else ("completed", None)
