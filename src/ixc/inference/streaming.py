"""Tokens while they are generated: `generate` runs in a thread and hands its tokens to the caller.

    thread:  model.generate(..., streamer=TokenStreamer(queue.put))  --token-->  queue  --next-->  caller
                                                                     --error-->         --raise->

An exception in the thread is raised in the caller. A caller that closes the iterator ends the thread at its next token.
A caller that has a thread of its own for the model gives `generate` a `TokenWatcher` instead, and needs no second one.
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
"""A token id, the exception that ended generation, or None at the end."""


class TokenStreamer(BaseStreamer):
    """Calls a function with each new token of one sequence.

    Args:
        on_token: receives the token's id, in the thread of `generate`.
    """

    def __init__(self, on_token: Callable[[int], None]) -> None:
        self._on_token = on_token
        self._prompt_seen = False

    def put(self, value: torch.Tensor) -> None:
        """Take what `generate` puts; the first tensor is the prompt and is dropped."""
        if not self._prompt_seen:
            self._prompt_seen = True
            return
        for token in value.flatten().tolist():
            self._on_token(token)

    def end(self) -> None:
        """Do nothing: `generate` may still raise after this call, so its return is the end of the stream."""


class StopOnEvent(StoppingCriteria):
    """Ends generation at the next token once an event is set.

    Args:
        event: set by the caller, from any thread.
    """

    def __init__(self, event: Event) -> None:
        self._event = event

    def __call__(  # pyright: ignore[reportIncompatibleMethodOverride] - annotated tuple and BoolTensor, tensors come
        self, input_ids: torch.Tensor, scores: torch.Tensor, **kwargs: Any
    ) -> torch.Tensor:
        stopped = self._event.is_set()
        return torch.full((input_ids.shape[0],), stopped, dtype=torch.bool, device=input_ids.device)  # (B,)


class EndWhen(StoppingCriteria):
    """Ends a generation when a condition holds; `generate` asks after every token.

    Args:
        ended: the condition.
    """

    def __init__(self, ended: Callable[[], bool]) -> None:
        self.ended = ended

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor, **_: Any) -> torch.Tensor:  # pyright: ignore[reportIncompatibleMethodOverride] - documented with exactly these two
        return torch.full((input_ids.shape[0],), self.ended(), dtype=torch.bool, device=input_ids.device)  # (B,)


class TokenWatcher(StoppingCriteria):
    """Calls a function with each new token of one sequence and ends generation when it says so.

    A criterion and not a streamer: transformers 5.24 asks the criteria before it puts a token into the streamer, and on
    mps it puts each token one step late. What a streamer knows would end generation a token too late, and a mask over
    the next scores would miss the last token.

    Args:
        on_token: receives the token's id before the next forward, in the thread of `generate`; true = end.
    """

    def __init__(self, on_token: Callable[[int], bool]) -> None:
        self._on_token = on_token

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor, **_: Any) -> torch.Tensor:  # pyright: ignore[reportIncompatibleMethodOverride] - documented with exactly these two
        ended = self._on_token(int(input_ids[0, -1]))
        return torch.full((input_ids.shape[0],), ended, dtype=torch.bool, device=input_ids.device)  # (B,)


def token_stream(generate: Callable[..., Any]) -> Iterator[int]:
    """Yield the new tokens of one sequence, one by one.

    Args:
        generate: called once, in a thread, with `streamer` and `stopping_criteria`; generates one sequence.

    Raises:
        Whatever `generate` raises, after the tokens generated before.
    """
    messages: SimpleQueue[Message] = SimpleQueue()
    closed = Event()

    def work() -> None:
        try:
            generate(streamer=TokenStreamer(messages.put), stopping_criteria=[StopOnEvent(closed)])
            messages.put(None)
        except BaseException as error:
            messages.put(error)

    thread = Thread(target=work, name="ixc-generate", daemon=True)
    thread.start()
    try:
        while (message := messages.get()) is not None:
            if isinstance(message, BaseException):
                raise message
            yield message
    finally:
        closed.set()
        thread.join()
