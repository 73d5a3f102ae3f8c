"""The thread of the model, and the way of an answer from it to the event loop: one thread and one queue.

    DeltaStream.deltas: ticket.turn() -> thread: generation.generate --call_soon_threadsafe--> asyncio.Queue --> client

A request keeps its place in the queue until its generation has really ended, even if the client has left before.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from threading import Event
from time import perf_counter
from typing import Any, TypeVar

import torch

from ixc.inference.engine import Engine
from ixc.serving import generation
from ixc.serving.deltas import TextDelta
from ixc.serving.errors import ApiError
from ixc.serving.jobs import GenerationJob
from ixc.serving.metrics import Metrics
from ixc.serving.queue import Ticket
from ixc.utils.allocator import release_free_memory

GUESS_ROWS = 256
"""Rows of the matrix product that the first estimate is timed on."""

GUESS_SHARE = 0.5
"""Share of that product's speed that prefill reaches, assumed until the first prefill has been timed."""

RELEASE_EVERY = 16
"""Answers after which free memory goes back to the system: it takes milliseconds, and pages given back are faulted in
again by the next answer."""

T = TypeVar("T")

Message = TextDelta | BaseException
"""What the thread sends to the event loop."""


class GenerationWorker:
    """The one thread in which the model works.

    Args:
        engine: the model.
        metrics: counts what is answered.
    """

    def __init__(self, engine: Engine, metrics: Metrics) -> None:
        self.engine, self.metrics = engine, metrics
        self.prefill_rate: float | None = None
        """Tokens a second of the last prefill without cached tokens; None = none yet."""
        self._flops_per_second = _measure_flops(engine.model)
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="ixc-answer")
        self._answers = 0

    def prefill_seconds(self, tokens: int, flops: int) -> float:
        """Estimate the seconds of a prefill: by the last one, before the first one by a matrix product's speed.

        Args:
            tokens: of the prompt.
            flops: of its prefill.
        """
        if self.prefill_rate is None:
            return flops / (GUESS_SHARE * self._flops_per_second)
        return tokens / self.prefill_rate

    def run(self, work: Callable[[], T]) -> Future[T]:
        """Run other work of the model in its thread."""
        return self._pool.submit(work)

    def start(self, stream: DeltaStream) -> None:
        """Begin to generate; the ticket is given back when the thread has ended."""
        loop = asyncio.get_running_loop()

        def send(message: Message) -> None:
            with suppress(RuntimeError):  # the loop has been closed
                loop.call_soon_threadsafe(stream.messages.put_nowait, message)

        work = loop.run_in_executor(self._pool, self._generate, stream, send)
        work.add_done_callback(lambda _: stream.ticket.leave())

    def _generate(self, stream: DeltaStream, send: Callable[[Message], None]) -> None:
        if stream.cancelled.is_set():
            return
        start, first_seconds = perf_counter(), None
        last: TextDelta | None = None
        earlier = 0  # tokens of the choices before the last one

        def emit(delta: TextDelta) -> None:
            nonlocal first_seconds, last, earlier
            earlier += last.new_tokens if last is not None and last.choice < delta.choice else 0
            first_seconds, last = first_seconds or perf_counter() - start, delta
            send(delta)

        try:
            generation.generate(self.engine, stream.job, cancelled=stream.cancelled, emit=emit)
        except BaseException as error:
            send(error)
        if last is not None and first_seconds is not None:
            last = replace(last, new_tokens=earlier + last.new_tokens)
            made = stream.job.prompt_tokens + last.new_tokens
            stream.ticket.queue.record(made, perf_counter() - start, places=stream.ticket.tokens)
            self._count(stream.job, last, first_seconds)
        self._answers += 1
        if self._answers % RELEASE_EVERY == 0:
            release_free_memory()

    def _count(self, job: GenerationJob, last: TextDelta, first_seconds: float) -> None:
        if job.sampling.num_beams == 1 and not last.cached_tokens:  # with beams the first delta is the last
            self.prefill_rate = job.prompt_tokens / first_seconds
        self.metrics.first_token.observe(first_seconds)
        self.metrics.add("ixc_prompt_tokens_total", job.prompt_tokens)
        self.metrics.add("ixc_prompt_tokens_cached_total", last.cached_tokens)
        self.metrics.add("ixc_image_tokens_total", sum(job.image_tokens))
        self.metrics.add("ixc_images_total", len(job.image_tokens))
        self.metrics.add("ixc_generation_tokens_total", last.new_tokens)


@torch.inference_mode()
def _measure_flops(model: Any) -> float:
    """Return the FLOP a second of a product of the model's width and dtype, the second of two."""
    width = model.config.text_config.hidden_size
    side = torch.ones(width, 4 * width, dtype=model.dtype, device=model.device)
    rows = torch.ones(GUESS_ROWS, width, dtype=model.dtype, device=model.device)
    found = 0.0
    for _ in range(2):
        start = perf_counter()
        float((rows @ side)[0, 0])  # waits for the device
        found = 2 * rows.numel() * 4 * width / max(perf_counter() - start, 1e-9)
    return found


class DeltaStream:
    """One answer on its way to one client. Belongs to one event loop.

    Args:
        worker: generates.
        job: the request.
        ticket: its place in the queue.
    """

    def __init__(self, worker: GenerationWorker, job: GenerationJob, ticket: Ticket) -> None:
        self.worker, self.job, self.ticket = worker, job, ticket
        self.messages: asyncio.Queue[Message] = asyncio.Queue()
        self.cancelled = Event()
        """Set when nobody reads any more; the model stops at its next token."""
        self._started = False
        self._finished = False

    async def deltas(self) -> AsyncIterator[TextDelta]:
        """Wait for the model, then yield the answer's deltas.

        Raises:
            ApiError: 499, the client has left. CapacityError: too little memory.
        """
        try:
            await self.ticket.turn()
            self._started = True
            self.worker.start(self)
            while not self._finished:
                message = await self.messages.get()
                if isinstance(message, BaseException):
                    raise message
                self._finished = message.is_last
                yield message
        finally:
            self.leave()

    def leave(self) -> None:
        """Stop, because the client has left or has everything. May be called at any time and again."""
        if self.cancelled.is_set():
            return
        self.cancelled.set()
        error = ApiError("the client has left", status=499)
        if not self._finished:
            self.worker.metrics.add("ixc_cancelled_total")
        if self._started:
            self.messages.put_nowait(error)
        else:
            self.ticket.fail(error)
