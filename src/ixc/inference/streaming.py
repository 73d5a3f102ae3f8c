"""Tokens while they are made: `generate` runs in a thread and this module hands its tokens to the caller.

    thread:  model.generate(..., streamer=_Queue)  --put(ids)-->  queue  --next-->  caller
                                                   --error----->         --raise->

An exception in the thread is raised in the caller; a caller that stops listening stops the thread at its next token.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from queue import SimpleQueue
from threading import Event, Thread
from typing import Any

import torch
from transformers import StoppingCriteria
from transformers.generation.streamers import BaseStreamer

Message = int | BaseException | None
"""A token id, what went wrong, or None: the end."""


class _Queue(BaseStreamer):
    """Where `generate` puts its tokens. The first thing it puts is the prompt, which is dropped."""

    def __init__(self) -> None:
        self.messages: SimpleQueue[Message] = SimpleQueue()
        self._prompt_seen = False

    def put(self, value: torch.Tensor) -> None:
        if not self._prompt_seen:
            self._prompt_seen = True
            return
        for token in value.flatten().tolist():
            self.messages.put(token)

    def end(self) -> None:
        """The thread itself says when it has ended; `generate` may still raise after this call."""


class _Stop(StoppingCriteria):
    """Ends generation when the caller has left."""

    def __init__(self, event: Event) -> None:
        self.event = event

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor, **kwargs: Any) -> torch.Tensor:
        return torch.full((input_ids.shape[0],), self.event.is_set(), device=input_ids.device)  # (B,)


def token_stream(generate: Callable[..., Any]) -> Iterator[int]:
    """The new tokens of one sequence, one by one.

    Args:
        generate: called once, in a thread, with `streamer` and `stopping_criteria`; puts one sequence.

    Raises:
        Whatever `generate` raises, after the tokens made before.
    """
    queue, left = _Queue(), Event()

    def work() -> None:
        try:
            generate(streamer=queue, stopping_criteria=[_Stop(left)])
            queue.messages.put(None)
        except BaseException as error:
            queue.messages.put(error)

    thread = Thread(target=work, name="ixc-generate", daemon=True)
    thread.start()
    try:
        while (message := queue.messages.get()) is not None:
            if isinstance(message, BaseException):
                raise message
            yield message
    finally:
        left.set()
        thread.join()
