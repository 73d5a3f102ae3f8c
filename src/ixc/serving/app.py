"""The application: its routes, and nothing else.

/v1/chat/completions  /v1/responses  /v1/models      OpenAI's
/health  /ready  /metrics                            for machines
/  /page/...  and what they ask                      for people: `web_ui`
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Mapping
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.exceptions import HTTPException

from ixc.core.tiling import RULES
from ixc.errors import IxcError
from ixc.inference import attention_maps
from ixc.serving import responses, routes
from ixc.serving.errors import ApiError, quote
from ixc.serving.metrics import CONTENT_TYPE
from ixc.serving.middleware import SecurityMiddleware
from ixc.serving.openai import ChatRequest
from ixc.serving.responses import ChatResponse, describe_error
from ixc.serving.responses_answer import ResponseWriter
from ixc.serving.responses_request import ResponseRequest, read_response, renamed
from ixc.serving.service import AnswerStream, ChatService
from ixc.serving.web_ui import add_web_ui


def create_app(service: ChatService) -> SecurityMiddleware:
    """Build the ASGI application around one loaded model."""
    config = service.config
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    _add_chat(app, service)
    _add_responses(app, service)
    _add_models(app, service)
    _add_operations(app, service)
    add_web_ui(app, service)
    for kind in (Exception, IxcError, HTTPException):
        app.add_exception_handler(kind, _respond_to_error)
    return SecurityMiddleware(
        app,
        count_response=service.metrics.count_response,
        api_key=config.api_key,
        hosts=config.hosts,
        origins=config.origins,
    )


def _add_chat(app: FastAPI, service: ChatService) -> None:
    @app.post(routes.CHAT)
    async def complete(request: Request) -> Response:
        asked, job = await service.admit(request)
        stream = service.start_stream(request, job)
        response = ChatResponse.to(job, model=service.config.name)
        if asked.stream:
            events = responses.events(response, stream.deltas(), include_usage=asked.include_usage)
            return EventResponse(stream, responses.with_error_event(events))
        try:
            return JSONResponse(response.completion([delta async for delta in stream.deltas()]))
        finally:
            stream.close()


def _add_responses(app: FastAPI, service: ChatService) -> None:
    @app.post(routes.RESPONSES)
    async def respond(request: Request) -> Response:
        read: list[ResponseRequest] = []

        def chat_of(body: Mapping[str, Any]) -> ChatRequest:
            read.append(read_response(body))
            return read[0].chat

        try:
            asked, job = await service.admit(request, read=chat_of)
        except ApiError as error:
            raise renamed(error) from None
        stream = service.start_stream(request, job)
        writer = ResponseWriter(model=service.config.name, job=job, echo=read[0].echo)
        if asked.stream:
            return EventResponse(stream, writer.events(stream.deltas()))
        try:
            return JSONResponse(writer.response([delta async for delta in stream.deltas()]))
        finally:
            stream.close()


def _add_models(app: FastAPI, service: ChatService) -> None:
    started, name = int(time.time()), service.config.name

    def model() -> dict[str, Any]:
        return {
            "id": name, "object": "model", "created": started, "owned_by": "ixc",
            "max_model_len": service.engine.context, "max_hd": service.image_input.limits.max_hd,
            "hd": service.hd, "partition": service.partition, "rules": list(RULES),
            "attention": attention_maps.is_supported(service.engine),
        }  # fmt: skip

    @app.get("/v1/models")
    async def models() -> Response:
        return JSONResponse({"object": "list", "data": [model()]})

    @app.get("/v1/models/{wanted:path}")
    async def one_model(wanted: str) -> Response:
        if wanted != name:
            raise ApiError(f"no model {quote(wanted)} here; this server has {name}", status=404, code="model_not_found")
        return JSONResponse(model())


def _add_operations(app: FastAPI, service: ChatService) -> None:
    @app.get("/health")
    async def health() -> Response:
        return JSONResponse({"status": "ok"})

    @app.get("/ready")
    async def ready() -> Response:
        if service.queue.closed:
            raise ApiError("the server is shutting down; ask another one", status=503, code="shutting_down")
        return JSONResponse({"status": "ready"})

    @app.get("/metrics")
    async def metrics() -> Response:
        return PlainTextResponse(service.metrics.text(), media_type=CONTENT_TYPE)


class EventResponse(StreamingResponse):
    """Server-sent events of an answer; its stream is closed even where the first event was never sent.

    Args:
        stream: closed at the end.
        events: to send; an error in them is their last event.
    """

    def __init__(self, stream: AnswerStream, events: AsyncIterator[bytes]) -> None:
        super().__init__(events, media_type="text/event-stream")
        self.stream = stream

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self.stream.close()


async def _respond_to_error(request: Request, error: Exception) -> Response:
    if isinstance(error, HTTPException) and error.status_code == 404:
        error = ApiError(f"nothing is served here; {routes.hint(request.url.path)}", status=404, code="not_found")
    status, body, headers = describe_error(error)
    return JSONResponse(body, status_code=status, headers=headers)
