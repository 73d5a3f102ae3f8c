"""What goes back of an answer: one object, or events while it is made. Shapes of OpenAI's chat completions."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

from ixc.serving.jobs import GenerationJob, TextDelta, TokenLogprob

DONE = b"data: [DONE]\n\n"
"""The last event."""


@dataclass(frozen=True, kw_only=True)
class ChatResponse:
    """One answer's envelope."""

    id: str
    """chatcmpl-..."""
    created: int
    """Unix time, seconds."""
    model: str
    """The model's name."""
    job: GenerationJob
    """What was asked."""

    @classmethod
    def to(cls, job: GenerationJob, *, model: str) -> ChatResponse:
        """A new envelope."""
        return cls(id=f"chatcmpl-{uuid4().hex}", created=int(time.time()), model=model, job=job)

    def whole(self, pieces: list[TextDelta]) -> dict[str, Any]:
        """The answer as one object."""
        last = pieces[-1]
        answers = [pieces, *([other] for other in last.others)]
        choices = [self._choice(place, answer) for place, answer in enumerate(answers)]
        return {**self._head("chat.completion"), "choices": choices, "usage": self.usage(last)}

    def _choice(self, place: int, pieces: list[TextDelta]) -> dict[str, Any]:
        """One answer from its pieces."""
        return {
            "index": place,
            "message": {"role": "assistant", "content": "".join(piece.text for piece in pieces), "refusal": None},
            "logprobs": self._logprobs([entry for piece in pieces for entry in piece.logprobs]),
            "finish_reason": pieces[-1].finish,
        }

    def event(self, piece: TextDelta) -> bytes:
        """A piece as an event."""
        delta = {"content": piece.text} if piece.text else {}
        return self._event(delta, logprobs=self._logprobs(list(piece.logprobs)), finish=piece.finish)

    def first_event(self) -> bytes:
        """Who speaks."""
        return self._event({"role": "assistant", "content": ""}, logprobs=None, finish=None)

    def usage_event(self, last: TextDelta) -> bytes:
        """The usage, with no choices."""
        return event({**self._head("chat.completion.chunk"), "choices": [], "usage": self.usage(last)})

    def usage(self, last: TextDelta) -> dict[str, Any]:
        """Tokens of prompt and answers; those of images by themselves."""
        asked, made = self.job.prompt_tokens, sum(piece.new_tokens for piece in (last, *last.others))
        return {
            "prompt_tokens": asked,
            "completion_tokens": made,
            "total_tokens": asked + made,
            "prompt_tokens_details": {"cached_tokens": last.cached_tokens, "image_tokens": sum(self.job.image_tokens)},
        }

    def _event(self, delta: dict[str, Any], *, logprobs: Any, finish: str | None) -> bytes:
        choice = {"index": 0, "delta": delta, "logprobs": logprobs, "finish_reason": finish}
        return event({**self._head("chat.completion.chunk"), "choices": [choice]})

    def _head(self, kind: str) -> dict[str, Any]:
        return {"id": self.id, "object": kind, "created": self.created, "model": self.model}

    def _logprobs(self, entries: list[TokenLogprob]) -> dict[str, Any] | None:
        if self.job.top_logprobs is None:
            return None
        content = [{**_entry(e.token, e.logprob), "top_logprobs": [_entry(*other) for other in e.top]} for e in entries]
        return {"content": content, "refusal": None}


def event(data: dict[str, Any]) -> bytes:
    """One server-sent event."""
    return f"data: {json.dumps(data)}\n\n".encode()


async def events(reply: ChatResponse, pieces: AsyncIterator[TextDelta], *, include_usage: bool) -> AsyncIterator[bytes]:
    """The answer as events, from who speaks to `DONE`."""
    yield reply.first_event()
    async for piece in pieces:
        yield reply.event(piece)
        if piece.finish is not None and include_usage:
            yield reply.usage_event(piece)
    yield DONE


def _entry(token: str, logprob: float) -> dict[str, Any]:
    return {"token": token, "logprob": logprob, "bytes": list(token.encode("utf-8", "replace"))}
