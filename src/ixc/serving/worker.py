"""The thread of the model, and the way of an answer from it to the event loop: one thread and one queue.

    DeltaStream.deltas: ticket.turn() -> thread: generation.generate --call_soon_threadsafe--> asyncio.Queue --> client
                                         or RowBatch, beside others

Plain greedy answers of a small model on the CPU are generated side by side (`inference/row_batch.py`); every other one
has the model alone.
A request keeps its place in the queue until its generation has really ended, even if the client has left before.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from threading import Event
from time import perf_counter
from typing import Any, TypeVar

import torch

from ixc.inference.engine import Engine
from ixc.inference.request import lower_hd
from ixc.inference.row_batch import Row, RowBatch, usable
from ixc.inference.sampling import GREEDY
from ixc.serving import generation
from ixc.serving.deltas import TextDelta
from ixc.serving.errors import ApiError
from ixc.serving.jobs import GenerationJob
from ixc.serving.metrics import Metrics
from ixc.serving.queue import Ticket
from ixc.utils.allocator import release_free_memory
from ixc.utils.device import explain_out_of_memory

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
        self._answers, self._last_end = 0, 0.0
        self._batch = RowBatch(engine) if usable(engine) else None
        self._waiting: deque[_Work] = deque()
        self._rows: dict[Row, _Work] = {}

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

    def joins(self, job: GenerationJob) -> bool:
        """Return True if a job may be generated beside others: one greedy answer of a small model, nothing more."""
        plain = job.sampling == GREEDY and job.choices == 1 and job.top_logprobs is None and job.json is None
        return self._batch is not None and plain

    @property
    def at_once(self) -> int:
        """Answers that are generated side by side, at most."""
        return 1 if self._batch is None else self._batch.max_rows

    def start(self, stream: DeltaStream) -> None:
        """Begin to generate; the ticket is given back when the thread has ended."""
        self._waiting.append(_Work(stream, asyncio.get_running_loop()))
        self._pool.submit(self._work)

    def _work(self) -> None:
        """Generate what waits, and what comes meanwhile."""
        while self._waiting or (self._batch is not None and self._batch.rows):
            while self._waiting and self._may_begin(self._waiting[0].stream.job):
                self._begin(self._waiting.popleft())
            if self._batch is not None and self._batch.rows:
                self._step(self._batch)

    def _may_begin(self, job: GenerationJob) -> bool:
        return self._batch is None or not self._batch.rows or (self.joins(job) and self._batch.has_room(job.tokens))

    def _begin(self, work: _Work) -> None:
        """Generate an answer, or let it join the others."""
        if work.stream.cancelled.is_set():
            work.end()
            return
        if self._batch is not None and self.joins(work.stream.job):
            self._join(work, self._batch)
            return
        try:
            generation.generate(self.engine, work.stream.job, cancelled=work.stream.cancelled, emit=work.emit)
        except BaseException as error:
            work.send(error)
        self._ended(work)

    def _join(self, work: _Work, batch: RowBatch) -> None:
        """Prefill an answer that is then generated beside the others."""
        job, cancelled = work.stream.job, work.stream.cancelled
        streamer = generation.AnswerStreamer(self.engine, job, work.emit)

        def take(token: int, logprob: float) -> bool:
            """Take a token; an error ends this answer and no other."""
            try:
                streamer.add(token, logprob)
                if streamer.finish is None and not cancelled.is_set() and len(tokens) + 1 < job.max_new_tokens:
                    tokens.append(token)
                    return False
                streamer.emit_last()
            except BaseException as error:
                work.send(error)
            return True

        tokens: list[int] = []
        try:
            what = f"{job.prompt_tokens:,} tokens of prompt and up to {job.max_new_tokens:,} of answer"
            model = self.engine.model
            with explain_out_of_memory(what, model.device, model.dtype, lower_hd(job.hd)):
                row = batch.add(job.inputs, max_new_tokens=job.max_new_tokens, take=take)
            streamer.cached_tokens = row.cached_tokens
            self._rows[row] = work
        except BaseException as error:
            work.send(error)
            self._ended(work)

    def _step(self, batch: RowBatch) -> None:
        """Generate a token of each answer."""
        try:
            ended = batch.step()
        except BaseException as error:
            ended = list(batch.rows)
            for row in ended:
                self._rows[row].send(error)
            batch.abandon()
        for row in ended:
            self._ended(self._rows.pop(row))

    def _ended(self, work: _Work) -> None:
        """Count an answer, and give its place in the queue back."""
        now, last, ticket = perf_counter(), work.last, work.stream.ticket
        if last is not None and work.first_seconds is not None:
            last = replace(last, new_tokens=work.earlier + last.new_tokens)
            made = work.stream.job.prompt_tokens + last.new_tokens
            # of answers side by side each is charged with the time since the one before it ended
            seconds = now - max(work.started, self._last_end)
            work.call(lambda: ticket.queue.record(made, seconds, places=ticket.tokens))
            self._count(work.stream.job, last, work.first_seconds)
        self._last_end = now
        work.end()
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


class _Work:
    """An answer in the thread of the model: where its deltas go, and what is counted of it.

    Args:
        stream: of the answer.
        loop: of its client.
    """

    def __init__(self, stream: DeltaStream, loop: asyncio.AbstractEventLoop) -> None:
        self.stream, self._loop, self.started = stream, loop, perf_counter()
        self.first_seconds: float | None = None
        """Seconds to the first delta."""
        self.last: TextDelta | None = None
        """The last delta so far."""
        self.earlier = 0
        """Tokens of the choices before the last one."""

    def call(self, function: Callable[..., object], *arguments: object) -> None:
        """Call a function in the event loop, if it is still there."""
        with suppress(RuntimeError):  # the loop has been closed
            self._loop.call_soon_threadsafe(function, *arguments)

    def send(self, message: Message) -> None:
        """Send a delta, or the error that ended the answer, to the client."""
        self.call(self.stream.messages.put_nowait, message)

    def emit(self, delta: TextDelta) -> None:
        """Send a delta and keep count."""
        last = self.last
        self.earlier += last.new_tokens if last is not None and last.choice < delta.choice else 0
        self.first_seconds, self.last = self.first_seconds or perf_counter() - self.started, delta
        self.send(delta)

    def end(self) -> None:
        """Give the place in the queue back."""
        self.call(self.stream.ticket.leave)


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
