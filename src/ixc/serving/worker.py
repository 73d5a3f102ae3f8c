"""From a place in the queue to pieces in the event loop: the model works in one thread, its readers wait outside.

    Stream.pieces: ticket.turn() -> thread: jobs.pieces --call_soon_threadsafe--> asyncio.Queue --> async iterator

The place is given up when the thread has really ended, whoever has left before.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, suppress
from threading import Event
from time import perf_counter
from typing import Any, TypeVar

import torch

from ixc.inference.engine import Engine
from ixc.serving import jobs
from ixc.serving.jobs import GenerationJob, TextDelta
from ixc.serving.metrics import Metrics
from ixc.serving.openai import ApiError
from ixc.serving.queue import Ticket

T = TypeVar("T")


GUESS_ROWS = 256
"""Rows of the product the first guess is timed on."""

GUESS_SHARE = 0.5
"""Share of that product's speed that reading a prompt reaches, until the first one has been timed."""


class GenerationWorker:
    """The one thread in which the model works."""

    def __init__(self, engine: Engine, metrics: Metrics) -> None:
        self.engine, self.metrics = engine, metrics
        self.prefill_rate: float | None = None
        """Tokens of a prompt a second, last measured where all of it was read; None = not yet."""
        self._speed = _speed(engine.model)
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="ixc-answer")

    def seconds(self, tokens: int, flops: int) -> float:
        """How long a prompt will take to read: by the last one, before the first one by a product's speed.

        Args:
            tokens: of the prompt.
            flops: of reading it.
        """
        return flops / (GUESS_SHARE * self._speed) if self.prefill_rate is None else tokens / self.prefill_rate

    def alone(self, work: Callable[[], T]) -> Future[T]:
        """Something else for the model to do, between answers."""
        return self._pool.submit(work)

    def start(self, stream: DeltaStream) -> None:
        """The model begins; the place in the queue is free when its thread has ended."""
        loop = asyncio.get_running_loop()

        def put(message: TextDelta | BaseException) -> None:
            with suppress(RuntimeError):  # the loop has been closed
                loop.call_soon_threadsafe(stream.out.put_nowait, message)

        work = loop.run_in_executor(self._pool, self._work, stream.job, stream.ticket, stream.cancelled, put)
        work.add_done_callback(lambda _: stream.ticket.leave())

    def _work(self, job: GenerationJob, ticket: Ticket, cancelled: Event, put: Any) -> None:
        if cancelled.is_set():
            return
        start, first = perf_counter(), None
        piece: TextDelta | None = None
        try:
            with closing(jobs.pieces(self.engine, job, cancelled=cancelled)) as found:
                for piece in found:
                    first = first or perf_counter() - start
                    put(piece)
                    if cancelled.is_set():
                        break
        except BaseException as error:
            put(error)
        if piece is not None and first is not None:
            self._count(job, piece, ticket, first=first, seconds=perf_counter() - start)

    def _count(self, job: GenerationJob, last: TextDelta, ticket: Ticket, *, first: float, seconds: float) -> None:
        if job.sampling.num_beams == 1 and not last.cached_tokens:  # with beams the first piece is the last
            self.prefill_rate = job.prompt_tokens / first
        ticket.queue.measured(job.prompt_tokens + last.new_tokens, seconds)
        self.metrics.first_token.observe(first)
        self.metrics.add("ixc_prompt_tokens_total", job.prompt_tokens)
        self.metrics.add("ixc_prompt_tokens_cached_total", last.cached_tokens)
        self.metrics.add("ixc_image_tokens_total", sum(job.image_tokens))
        self.metrics.add("ixc_images_total", len(job.image_tokens))
        self.metrics.add("ixc_generation_tokens_total", last.new_tokens)


@torch.inference_mode()
def _speed(model: Any) -> float:
    """FLOP a second of a product of the model's own width and numbers, the second of two."""
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
    """One answer on its way to one reader."""

    def __init__(self, worker: GenerationWorker, job: GenerationJob, ticket: Ticket) -> None:
        self.worker, self.job, self.ticket = worker, job, ticket
        self.out: asyncio.Queue[TextDelta | BaseException] = asyncio.Queue()
        self.cancelled = Event()
        self._started = False
        self._over = False

    async def pieces(self) -> AsyncIterator[TextDelta]:
        """The answer in pieces.

        Raises:
            ApiError: 499, the reader has left. CapacityError: too little memory.
        """
        try:
            await self.ticket.turn()
            self._started = True
            self.worker.start(self)
            while not self._over:
                message = await self.out.get()
                if isinstance(message, BaseException):
                    raise message
                self._over = message.finish is not None
                yield message
        finally:
            self.leave()

    def leave(self) -> None:
        """The reader has cancelled, or has read everything. May be called at any time, and again."""
        if self.cancelled.is_set():
            return
        self.cancelled.set()
        error = ApiError("the client has left", status=499)
        if not self._over:
            self.worker.metrics.add("ixc_cancelled_total")
        if self._started:
            self.out.put_nowait(error)
        else:
            self.ticket.fail(error)
