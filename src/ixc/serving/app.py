"""The application: its routes, and the way of one request through them.

/v1/chat/completions  /v1/models      OpenAI's
/health  /ready  /metrics             for machines
/  /page/...  and what they ask       for people: `window`
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.exceptions import HTTPException

from ixc.core import chat_format
from ixc.core.tiling import RULES
from ixc.errors import CapacityError, ContextError, ImageError, IxcError, UsageError
from ixc.inference import attention_maps
from ixc.inference.cost import ModelGeometry
from ixc.inference.engine import Engine
from ixc.serving import jobs, metrics, responses
from ixc.serving.body import BodyReader
from ixc.serving.image_input import ImageInput
from ixc.serving.jobs import GenerationJob, TextDelta
from ixc.serving.middleware import SecurityMiddleware
from ixc.serving.openai import ApiError, ChatRequest, error_body, quote, read_chat, read_json
from ixc.serving.queue import Queue
from ixc.serving.web_ui import add_web_ui
from ixc.serving.worker import DeltaStream, GenerationWorker

READERS = 8
"""Threads that read images' addresses."""

QUEUE_CONTEXTS = 8
"""Where no limit of waiting tokens is given: so many times the model's positions."""

log = logging.getLogger(__name__)
T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What a server is started with."""

    name: str
    """Of the model, as clients ask for it."""
    geometry: ModelGeometry
    """Of the model, for plans."""
    image_input: ImageInput = field(default_factory=ImageInput)
    """How images come in, and the limits of a request."""
    hd: int | None = None
    """Most tiles of an image where a request says nothing; None = the folder's setting."""
    partition: str | None = None
    """Partition rule where a request says nothing; None = the folder's setting."""
    api_key: str | None = None
    """What clients must send; None = nothing."""
    hosts: tuple[str, ...] = ()
    """Names clients may call the server by; empty = any."""


class ChatService:
    """Takes requests in, one after the other to the model, and counts."""

    def __init__(self, engine: Engine, settings: Settings) -> None:
        limits, looks = settings.image_input.limits, engine.processor.image_processor
        self.engine, self.image_input = engine, settings.image_input
        self.settings = replace(settings, hd=settings.hd or looks.hd, partition=settings.partition or looks.partition)
        self.metrics = metrics.Metrics()
        self.bodies = BodyReader(limits)
        self.queue = Queue(
            max_tokens=limits.max_waiting_tokens or QUEUE_CONTEXTS * engine.context,
            max_requests=limits.max_waiting_requests,
        )
        self.worker = GenerationWorker(engine, self.metrics)
        self._readers = ThreadPoolExecutor(READERS, thread_name_prefix="ixc-read")
        self._encoder = ThreadPoolExecutor(1, thread_name_prefix="ixc-encode")

    async def admit(self, request: Request) -> tuple[ChatRequest, GenerationJob]:
        """A request read, checked and encoded.

        Raises:
            ApiError, IxcError: it is wrong, too large or too slow.
        """
        limits = self.image_input.limits
        try:
            async with self.bodies.read(request) as body, asyncio.timeout(limits.open_seconds):
                asked = read_chat(await self._in(self._encoder, read_json, body))
                self._check(asked)
                reading = [self._in(self._readers, self.image_input.read, url) for url in asked.images]
                files = await asyncio.gather(*reading)
                return asked, await self._in(self._encoder, self._encode, asked, files)
        except TimeoutError:
            raise ApiError(f"the images took longer than {limits.open_seconds:g} s; send fewer", status=408) from None

    async def _in(self, pool: ThreadPoolExecutor, work: Callable[..., T], *values: Any) -> T:
        return await asyncio.get_running_loop().run_in_executor(pool, work, *values)

    def _check(self, asked: ChatRequest) -> None:
        """What needs no picture."""
        limits = self.image_input.limits
        if asked.model != self.settings.name:
            raise ApiError(
                f"no model {quote(asked.model)} here; this server has {self.settings.name}",
                status=404, code="model_not_found", param="model",
            )  # fmt: skip
        letters = sum(len(part) for turn in asked.messages for part in turn.content if isinstance(part, str))
        if letters > limits.max_text:
            raise ApiError(f"{letters:,} characters of text, at most {limits.max_text:,} are read; send less")
        if (asked.hd or 0) > limits.max_hd:
            raise ApiError(f"hd is {quote(asked.hd)}, at most {limits.max_hd} here; use a smaller one", param="hd")
        if asked.partition is not None and asked.partition not in RULES:
            raise ApiError(f"no partition rule {quote(asked.partition)}; use {', '.join(RULES)}", param="partition")
        if limits.max_new_tokens is not None and (asked.max_tokens or 0) > limits.max_new_tokens:
            raise ApiError(
                f"max_tokens is {quote(asked.max_tokens)}, at most {limits.max_new_tokens:,} here", param="max_tokens"
            )
        self.image_input.check_count(asked.images)

    def _encode(self, asked: ChatRequest, files: list[bytes]) -> GenerationJob:
        pictures = iter(self.image_input.open(files))
        messages = [
            chat_format.Message(
                turn.role,
                tuple(
                    chat_format.Image(next(pictures)) if isinstance(part, chat_format.Image) else part
                    for part in turn.content
                ),
            )
            for turn in asked.messages
        ]
        job = jobs.prepare(
            self.engine,
            messages,
            sampling=asked.sampling,
            hd=asked.hd or self.settings.hd or 1,
            partition=asked.partition or self.settings.partition or "",
            max_tokens=asked.max_tokens,
            stop=asked.stop,
            top_logprobs=asked.top_logprobs,
            prompt_format=asked.prompt_format,
        )
        most = self.image_input.limits.max_new_tokens
        return job if most is None else replace(job, max_new_tokens=min(most, job.max_new_tokens))

    def open(self, request: Request, job: GenerationJob) -> AnswerStream:
        """A place in the queue, and what comes from it.

        Raises:
            ApiError: the queue is full or closed.
        """
        return AnswerStream(self, request, DeltaStream(self.worker, job, self.queue.enter(job.tokens)))

    def gauges(self) -> list[tuple[str, str, float]]:
        """What is so now."""
        return [
            ("ixc_requests_inside", "Requests running and waiting.", len(self.queue)),
            ("ixc_tokens_inside", "Tokens of prompts and answers, running and waiting.", self.queue.tokens),
            ("ixc_tokens_limit", "Most tokens inside.", self.queue.max_tokens),
            ("ixc_body_bytes_inside", "Bytes of requests being read.", self.bodies.bytes_in_flight),
            ("ixc_tokens_per_second", "Prompt and answer tokens a second, smoothed.", self.queue.rate),
        ]


class AnswerStream:
    """An answer, and an eye on whether its reader is still there."""

    def __init__(self, service: ChatService, request: Request, stream: DeltaStream) -> None:
        self.service, self.stream, self.arrived = service, stream, time.perf_counter()
        self._watch = asyncio.ensure_future(_left(request))
        self._watch.add_done_callback(lambda _: stream.leave())

    async def pieces(self) -> AsyncIterator[TextDelta]:
        """The answer in pieces; errors as of `DeltaStream.pieces`."""
        async for piece in self.stream.pieces():
            if piece.finish is not None:
                self.service.metrics.request.observe(time.perf_counter() - self.arrived)
            yield piece

    def close(self) -> None:
        """Nobody reads any more; a waiting place is free, a running answer ends at its next token."""
        self.stream.leave()
        self._watch.cancel()


class _Events(StreamingResponse):
    """Server-sent events; the reading is closed even where its first piece was never asked for."""

    def __init__(self, reading: AnswerStream, events: AsyncIterator[bytes]) -> None:
        super().__init__(_with_error_event(events), media_type="text/event-stream")
        self.reading = reading

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self.reading.close()


async def _left(request: Request) -> None:
    """Returns when the client has cancelled."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


def create_app(service: ChatService) -> SecurityMiddleware:
    """The application around one loaded model."""
    settings = service.settings
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    _add_api(app, service)
    _add_machines(app, service)
    add_web_ui(app, service)
    app.add_exception_handler(Exception, _refused)
    for kind in (IxcError, HTTPException):
        app.add_exception_handler(kind, _refused)
    return SecurityMiddleware(app, metrics=service.metrics, api_key=settings.api_key, hosts=settings.hosts)


def _add_api(app: FastAPI, service: ChatService) -> None:
    started, name = int(time.time()), service.settings.name

    @app.post("/v1/chat/completions")
    async def complete(request: Request) -> Response:
        asked, job = await service.admit(request)
        reading, envelope = service.open(request, job), responses.ChatResponse.to(job, model=name)
        if asked.stream:
            return _Events(reading, responses.events(envelope, reading.pieces(), include_usage=asked.include_usage))
        try:
            return JSONResponse(envelope.whole([piece async for piece in reading.pieces()]))
        finally:
            reading.close()

    def model() -> dict[str, Any]:
        about = {"hd": service.settings.hd, "partition": service.settings.partition, "rules": list(RULES)}
        about["attention"] = attention_maps.possible(service.engine)
        limits = {"max_model_len": service.engine.context, "max_hd": service.image_input.limits.max_hd}
        return {"id": name, "object": "model", "created": started, "owned_by": "ixc", **limits, **about}

    @app.get("/v1/models")
    async def models() -> Response:
        return JSONResponse({"object": "list", "data": [model()]})

    @app.get("/v1/models/{wanted:path}")
    async def one_model(wanted: str) -> Response:
        if wanted != name:
            raise ApiError(f"no model {quote(wanted)} here; this server has {name}", status=404, code="model_not_found")
        return JSONResponse(model())


def _add_machines(app: FastAPI, service: ChatService) -> None:
    @app.get("/health")
    async def health() -> Response:
        return JSONResponse({"status": "ok"})

    @app.get("/ready")
    async def ready() -> Response:
        if service.queue.closed:
            raise ApiError("the server is shutting down; ask another one", status=503, code="shutting_down")
        return JSONResponse({"status": "ready"})

    @app.get("/metrics")
    async def numbers() -> Response:
        return PlainTextResponse(service.metrics.text(service.gauges()), media_type=metrics.CONTENT_TYPE)


async def _with_error_event(events: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Events whose status is already sent: an error becomes the last of them."""
    try:
        async for event in events:
            yield event
    except Exception as error:
        status, body, _ = _error(error)
        if status != 499:
            yield responses.event(body)


async def _refused(request: Request, error: Exception) -> Response:
    status, body, headers = _error(error)
    return JSONResponse(body, status_code=status, headers=headers)


def _error(error: Exception) -> tuple[int, dict[str, Any], dict[str, str]]:
    """Status, body and headers; what is not ours goes to the log and not to a stranger."""
    headers: dict[str, str] = {}
    status, code, param, message = 500, None, None, "something went wrong in the server; its log says what"
    if isinstance(error, ApiError):
        status, code, param, message = error.status, error.code, error.param, str(error)
        headers = {"Retry-After": str(error.retry_after)} if error.retry_after else {}
    elif isinstance(error, HTTPException):
        status, message = error.status_code, f"{error.detail}; see / for what is served here"
    elif isinstance(error, ContextError):
        status, code, message = 400, "context_length_exceeded", str(error)
    elif isinstance(error, ImageError):
        status, code, message = 400, "invalid_image", str(error)
    elif isinstance(error, UsageError):
        status, message = 400, str(error)
    elif isinstance(error, CapacityError):
        status, code, message = 503, "out_of_memory", str(error)
    else:
        log.error("a request failed", exc_info=error)
    return status, error_body(message, status=status, code=code, param=param), headers
