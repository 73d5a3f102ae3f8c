"""`ChatService`: takes requests in, hands them in order to the model, and counts.

    HTTP request --body, openai--> ChatRequest --images read, opened--> GenerationJob --queue--> AnswerStream

What can be wrong with a request is found before it waits. What waits is encoded: its tokens bound its memory.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, TypeVar

from fastapi import Request

from ixc.core import chat_format
from ixc.core.tiling import RULES
from ixc.inference.cost import ModelGeometry
from ixc.inference.engine import Engine
from ixc.processing.image_formats import HEAD_BYTES, is_pdf
from ixc.serving.body import BodyReader
from ixc.serving.content import FileSource, wrong
from ixc.serving.deltas import TextDelta
from ixc.serving.errors import ApiError, quote
from ixc.serving.image_input import ImageInput
from ixc.serving.jobs import GenerationJob, JobOptions, prepare_job, question_inputs
from ixc.serving.json_plan import StructuredOutput
from ixc.serving.metrics import Metrics
from ixc.serving.openai import ChatRequest, read_chat, read_json
from ixc.serving.queue import Queue
from ixc.serving.worker import DeltaStream, GenerationWorker

if TYPE_CHECKING:
    from PIL.Image import Image

READERS = 8
"""Threads that fetch and decode images."""

QUEUE_CONTEXTS = 8
"""Where no limit of waiting tokens is given: so many times the model's positions."""

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class ServiceConfig:
    """Options of a server."""

    name: str
    """The model's name, as clients ask for it."""
    geometry: ModelGeometry
    """Sizes of the model, for cost estimates."""
    image_input: ImageInput = field(default_factory=ImageInput)
    """How images come in, and the limits of a request."""
    hd: int | None = None
    """Most tiles of an image where a request sets none; None = the folder's setting."""
    partition: str | None = None
    """Partition rule where a request sets none; None = the folder's setting."""
    api_key: str | None = None
    """Key that clients must send; None = no key."""
    hosts: tuple[str, ...] = ()
    """Names clients may call the server by; empty = any."""
    origins: tuple[str, ...] = ()
    """Origins whose pages may ask from a browser; empty = only the server's own."""


class ChatService:
    """One model behind a queue: everything the routes need, and no route.

    Args:
        engine: the loaded model.
        config: options; the folder's settings fill in `hd` and `partition`.
    """

    def __init__(self, engine: Engine, config: ServiceConfig) -> None:
        limits, processor = config.image_input.limits, engine.processor.image_processor
        self.engine, self.image_input = engine, config.image_input
        self.config = config
        self.hd: int = config.hd or processor.hd
        """Most tiles of an image where a request sets none."""
        self.partition: str = config.partition or processor.partition
        """Partition rule where a request sets none."""
        self.metrics = Metrics()
        self.bodies = BodyReader(limits)
        self.worker = GenerationWorker(engine, self.metrics)
        self.queue = Queue(
            max_tokens=limits.max_waiting_tokens or QUEUE_CONTEXTS * engine.context,
            max_requests=limits.max_waiting_requests,
            at_once=self.worker.at_once,
        )
        self.structured = StructuredOutput(engine)
        self._readers = ThreadPoolExecutor(READERS, thread_name_prefix="ixc-read")
        self._drawing = asyncio.Semaphore(1)  # one PDF at a time: each may take the whole limit of memory
        self._encoder = ThreadPoolExecutor(1, thread_name_prefix="ixc-encode")
        self._add_gauges()

    async def admit(
        self, request: Request, *, read: Callable[[Mapping[str, Any]], ChatRequest] = read_chat
    ) -> tuple[ChatRequest, GenerationJob]:
        """Read, check and encode a request.

        Args:
            request: of the client.
            read: reads the object that was sent.

        Raises:
            ApiError, IxcError: it is wrong, too large or too slow.
        """
        limits = self.image_input.limits
        try:
            async with self.bodies.read(request) as body, asyncio.timeout(limits.open_seconds):
                asked = read(await _run_in(self._encoder, lambda: read_json(body)))
                self._check(asked)
                opened = await asyncio.gather(*(self._opened(source, asked) for source in asked.sources))
                return asked, await _run_in(self._encoder, lambda: self._encode(asked, opened))
        except TimeoutError:
            raise ApiError(f"the images took longer than {limits.open_seconds:g} s; send fewer", status=408) from None

    def start_stream(self, request: Request, job: GenerationJob) -> AnswerStream:
        """Enter the queue and return the answer's stream.

        Raises:
            ApiError: the queue is full or closed.
        """
        ticket = self.queue.enter(job.tokens, joins=self.worker.joins(job))
        return AnswerStream(self, request, DeltaStream(self.worker, job, ticket))

    async def run_alone(self, tokens: int, work: Callable[[], T]) -> T:
        """Run other work of the model in its thread, in its turn like an answer.

        Args:
            tokens: most tokens it occupies, for the queue.
            work: called in the model's thread.

        Raises:
            ApiError: the queue is full or closed.
        """
        ticket = self.queue.enter(tokens)
        try:
            await ticket.turn()
            return await asyncio.wrap_future(self.worker.run(work))
        finally:
            ticket.leave()

    def _check(self, asked: ChatRequest) -> None:
        """Check everything that needs no image."""
        limits = self.image_input.limits
        if asked.model != self.config.name:
            raise ApiError(
                f"no model {quote(asked.model)} here; this server has {self.config.name}",
                status=404, code="model_not_found", param="model",
            )  # fmt: skip
        length = sum(len(part) for turn in asked.messages for part in turn.content if isinstance(part, str))
        if length > limits.max_text:
            raise ApiError(f"{length:,} characters of text, at most {limits.max_text:,} are read; send less")
        if (asked.hd or 0) > limits.max_hd:
            raise ApiError(f"hd is {quote(asked.hd)}, at most {limits.max_hd} here; use a smaller one", param="hd")
        if asked.partition is not None and asked.partition not in RULES:
            raise wrong("partition", asked.partition, f"{', '.join(RULES)} are supported")
        if limits.max_new_tokens is not None and (asked.max_tokens or 0) > limits.max_new_tokens:
            raise ApiError(
                f"max_tokens is {quote(asked.max_tokens)}, at most {limits.max_new_tokens:,} here", param="max_tokens"
            )
        self.image_input.check_count(len(asked.sources))
        self._check_ids(asked)

    def _check_ids(self, asked: ChatRequest) -> None:
        """Check that ids of tokens are some."""
        size = self.engine.model.config.text_config.vocab_size
        for name, ids in (
            ("logit_bias", [token for token, _ in asked.sampling.logit_bias]),
            ("stop_token_ids", asked.stop_token_ids),
        ):
            unknown = next((token for token in ids if not 0 <= token < size), None)
            if unknown is not None:
                raise wrong(f"{name}.{unknown}", unknown, f"the ids of this model's tokens are 0 to {size - 1:,}")

    async def _opened(self, source: FileSource, asked: ChatRequest) -> bytes | list[Image]:
        """Return the file of a picture, or the pages of a PDF.

        Raises:
            ApiError: as `ImageInput.read` and `draw`; it names the part.
        """
        try:
            file = await _run_in(self._readers, lambda: self.image_input.read(source.url))
        except ApiError as error:
            raise error.at(source.where) from None
        if not is_pdf(file[:HEAD_BYTES]):
            return file
        most = self.image_input.limits.max_images - len(asked.sources) + 1
        async with self._drawing:
            return await _run_in(self._readers, lambda: self.image_input.draw(file, name=source.where, most=most))

    def _pictures(self, asked: ChatRequest, opened: Sequence[bytes | list[Image]]) -> list[list[Image]]:
        """Open the pictures; return the pictures of every source."""
        files = [each for each in opened if isinstance(each, bytes)]
        names = [s.where for s, each in zip(asked.sources, opened, strict=True) if isinstance(each, bytes)]
        self.image_input.check_count(len(files) + sum(len(each) for each in opened if isinstance(each, list)))
        pictures = iter(self.image_input.open(files, names, published=asked.prompt_format.published))
        found = [[next(pictures)] if isinstance(each, bytes) else each for each in opened]
        self.image_input.check_pixels(sum(p.width * p.height for each in found for p in each))
        return found

    def _encode(self, asked: ChatRequest, opened: Sequence[bytes | list[Image]]) -> GenerationJob:
        """Open the images and encode the prompt."""
        pictures = iter(self._pictures(asked, opened))

        def shown(part: str | chat_format.Image) -> tuple[str | chat_format.Image, ...]:
            return tuple(map(chat_format.Image, next(pictures))) if isinstance(part, chat_format.Image) else (part,)

        messages = [
            chat_format.Message(turn.role, tuple(each for part in turn.content for each in shown(part)))
            for turn in asked.turns(tools=not self.structured.by_values)
        ]
        options = JobOptions(
            sampling=asked.sampling,
            hd=asked.hd or self.hd,
            partition=asked.partition or self.partition,
            max_new_tokens=asked.max_tokens,
            stop=asked.stop,
            stop_token_ids=asked.stop_token_ids,
            choices=asked.choices,
            top_logprobs=asked.top_logprobs,
            prompt_format=asked.prompt_format,
        )
        job = prepare_job(self.engine, messages, options)
        if asked.output is not None:
            encode = question_inputs(self.engine, messages, asked.prompt_format, job.inputs)
            plan = self.structured.plan(asked.output, total=asked.max_tokens, field_inputs=encode)
            job = replace(job, json=plan)
        most = self.image_input.limits.max_new_tokens
        return job if most is None else replace(job, max_new_tokens=min(most, job.max_new_tokens))

    def _add_gauges(self) -> None:
        add, queue = self.metrics.add_gauge, self.queue
        generator = self.engine.generator
        add("ixc_tile_cache_bytes", "Bytes of tile features kept, as allocated.", lambda: generator.tiles.bytes)
        add("ixc_prefix_cache_bytes", "Bytes of keys and values kept, as allocated.", lambda: generator.prefixes.bytes)
        add("ixc_cache_memory_bytes", "Bytes of both caches.", lambda: generator.cache_memory.bytes)
        add("ixc_cache_memory_limit_bytes", "Most bytes of both caches.", lambda: generator.cache_memory.limit)
        add("ixc_requests_inside", "Requests running and waiting.", lambda: len(queue))
        add("ixc_tokens_inside", "Tokens of prompts and answers, running and waiting.", lambda: queue.tokens)
        add("ixc_tokens_limit", "Most tokens inside.", lambda: queue.max_tokens)
        add("ixc_body_bytes_inside", "Bytes of requests being read.", lambda: self.bodies.bytes_in_flight)
        add("ixc_tokens_per_second", "Prompt and answer tokens a second, smoothed.", lambda: queue.rate)


class AnswerStream:
    """An answer's deltas, and a watch on whether its client is still connected.

    Args:
        service: for its metrics.
        request: of the client.
        stream: the deltas.
    """

    def __init__(self, service: ChatService, request: Request, stream: DeltaStream) -> None:
        self.service, self.stream, self.arrived = service, stream, time.perf_counter()
        self._watch = asyncio.ensure_future(_wait_for_disconnect(request))
        self._watch.add_done_callback(lambda _: stream.leave())

    async def deltas(self) -> AsyncIterator[TextDelta]:
        """Yield the answer's deltas; errors as of `DeltaStream.deltas`."""
        async for delta in self.stream.deltas():
            if delta.is_last:
                self.service.metrics.request.observe(time.perf_counter() - self.arrived)
            yield delta

    def close(self) -> None:
        """Stop: a waiting request leaves the queue, a running answer ends at its next token."""
        self.stream.leave()
        self._watch.cancel()


async def _run_in(pool: ThreadPoolExecutor, work: Callable[[], T]) -> T:
    return await asyncio.get_running_loop().run_in_executor(pool, work)


async def _wait_for_disconnect(request: Request) -> None:
    """Return when the client has disconnected."""
    while (await request.receive())["type"] != "http.disconnect":
        pass
