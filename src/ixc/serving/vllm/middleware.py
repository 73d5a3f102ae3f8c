"""ASGI middleware in front of vLLM's server: `--middleware ixc.serving.vllm.middleware.VllmMiddleware`.

    host name, API key --SecurityMiddleware--> route --body--> bounded JSON --images as data URLs--> vLLM

vLLM 0.32's server checks its API key under /v1 only, fetches images itself, lets a request choose templates, media
options and cache names, and has many more routes. Here the rules are those of the light server: every route but
health needs the key, only `ROUTES` exist, and every image is read, measured and passed on as a data URL, so vLLM never
fetches. vLLM constructs the middleware itself, so its settings come from an environment variable.
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from threading import Lock
from typing import Any

from PIL.Image import Image as Picture
from starlette.requests import Request

from ixc.core.chat_format import Image
from ixc.errors import ImageError
from ixc.processing.image_formats import HEAD_BYTES, is_pdf
from ixc.serving.body import BodyReader
from ixc.serving.content import FileSource, read_content
from ixc.serving.errors import ApiError, error_body, quote
from ixc.serving.fetch import Fetcher
from ixc.serving.fields import check_extras
from ixc.serving.image_input import ImageInput, Limits
from ixc.serving.middleware import Receive, Scope, SecurityMiddleware, Send
from ixc.serving.openai import MAX_STOPS, TemplateOptions, read_json
from ixc.serving.routes import CHAT, hint
from ixc.serving.vllm.settings import KEY, SETTINGS

ROUTES = {"/health": "GET", "/ready": "GET", "/metrics": "GET", "/v1/models": "GET", CHAT: "POST"}
"""All routes that exist, each with its method. vLLM 0.32 leaves Allow out of its own 405."""

FIELDS = {
    *("model", "messages", "max_tokens", "max_completion_tokens", "temperature", "top_p", "top_k", "min_p", "seed"),
    *("stop", "stream", "stream_options", "logprobs", "top_logprobs", "n", "frequency_penalty", "presence_penalty"),
    *("repetition_penalty", "response_format", "structured_outputs", "logit_bias", "use_beam_search", "length_penalty"),
    *("add_generation_prompt", "continue_final_message", "mm_processor_kwargs", "hd", "partition", "priority", "user"),
    *("metadata", "store", "service_tier", "safety_identifier", "prompt_cache_key", "parallel_tool_calls", "tools"),
    *("tool_choice", "ignore_eos", "min_tokens", "stop_token_ids", "include_stop_str_in_output", "return_token_ids"),
    "chat_template_kwargs",
}
"""Fields passed on to vLLM; none of them loads a template, sets media options or cache names, or names a processor."""

MAX_N = 8
"""Most answers of a request."""

READERS = 4
"""Threads that read images."""


class VllmMiddleware:
    """Everything in front of vLLM's application; vLLM makes it, so its settings come from the environment."""

    def __init__(self, app: Any) -> None:
        given = json.loads(os.environ.get(SETTINGS, "{}"))
        limits = Limits(**given.get("limits", {}))
        self.app = SecurityMiddleware(
            _Requests(app, ImageInput(limits=limits, fetcher=Fetcher(hosts=tuple(given.get("fetch_from", ()))))),
            api_key=os.environ.get(KEY) or None,
            hosts=tuple(given.get("hosts", ())),
            origins=tuple(given.get("origins", ())),
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self.app(scope, receive, send)


class _Requests:
    """Checks routes, bodies and images, and passes the request on."""

    def __init__(self, app: Any, image_input: ImageInput) -> None:
        self.app, self.image_input, self.bodies = app, image_input, BodyReader(image_input.limits)
        self.inside = 0
        self._readers = ThreadPoolExecutor(READERS, thread_name_prefix="ixc-read")
        self._drawing = Lock()  # one PDF at a time: each may take the whole limit of memory

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = scope.get("path", "")
        if scope["type"] != "http":
            await self.app(scope, receive, send)
        elif path not in ROUTES:
            await _refuse(
                send, ApiError(f"nothing is served at {quote(path)}; {hint(path, tuple(ROUTES))}", status=404)
            )
        elif scope["method"] != (method := ROUTES[path]):
            error = ApiError(f"{quote(scope['method'])} is not served at {path}; use {method}", status=405)
            await _refuse(send, error, ((b"allow", method.encode()),))
        elif path == CHAT:
            await self._chat(scope, receive, send)
        elif path == "/ready":
            await self.app({**scope, "path": "/health", "raw_path": b"/health"}, receive, send)
        else:
            await self.app(scope, receive, send)

    async def _chat(self, scope: Scope, receive: Receive, send: Send) -> None:
        most = self.image_input.limits.max_waiting_requests
        if self.inside >= most:
            await _refuse(send, ApiError(f"{most} requests are inside; try again", status=429, retry_after=2))
            return
        self.inside += 1
        try:
            await self._admitted(scope, receive, send)
        finally:
            self.inside -= 1

    async def _admitted(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            async with self.bodies.read(Request(scope, receive)) as body:
                async with asyncio.timeout(self.image_input.limits.open_seconds):
                    loop = asyncio.get_running_loop()
                    checked = await loop.run_in_executor(self._readers, self._checked, body)
        except ApiError as error:
            await _refuse(send, error)
            return
        except TimeoutError:
            await _refuse(send, ApiError("the images took too long to read; send fewer", status=408))
            return
        await self.app(_with_length(scope, len(checked)), _replay(checked, receive), send)

    def _checked(self, body: bytes) -> bytes:
        """Return the body for vLLM.

        Raises:
            ApiError: a field, an image or a limit.
        """
        try:
            return json.dumps(self._object(dict(read_json(body)))).encode()
        except ImageError as error:
            raise ApiError(str(error), code="invalid_image") from None
        except RecursionError:
            raise ApiError("the body is nested too deeply; a request needs about 5 levels") from None

    def _object(self, asked: dict[str, Any]) -> dict[str, Any]:
        check_extras({name: value for name, value in asked.items() if name not in FIELDS})
        asked = {name: value for name, value in asked.items() if name in FIELDS}  # the others have no effect
        self._numbers(asked)
        asked["mm_processor_kwargs"] = self._tiling(asked)
        if asked.get("tools"):
            asked["parallel_tool_calls"] = False  # one call, as in the light server; a list of calls may never end
        _check_template(asked.get("chat_template_kwargs"))
        if not isinstance(asked.get("messages"), list):
            raise ApiError("messages is no list; send at least one message", param="messages")
        lists = [
            (message, read_content(message["content"], f"messages.{place}.content"))
            for place, message in enumerate(asked["messages"])
            if isinstance(message, dict) and isinstance(message.get("content"), list)
        ]
        self._texts(asked["messages"], [part for _, parts in lists for part in parts])
        template = asked.get("chat_template_kwargs") or {}
        self._images(lists, published=template.get("published") is True)
        return asked

    def _numbers(self, asked: Mapping[str, Any]) -> None:
        limits = self.image_input.limits
        for name, most in (("n", MAX_N), ("max_tokens", limits.max_new_tokens),
                           ("max_completion_tokens", limits.max_new_tokens)):  # fmt: skip
            value = asked.get(name)
            if value is not None and most is not None and not (type(value) is int and value <= most):
                raise ApiError(f"{name} is {quote(value)}, at most {most:,} here", param=name)
        if isinstance(asked.get("stop"), list) and len(asked["stop"]) > MAX_STOPS:
            raise ApiError(f"{len(asked['stop'])} stop texts, at most {MAX_STOPS} are read", param="stop")

    def _tiling(self, asked: dict[str, Any]) -> dict[str, Any]:
        """Return hd and partition, from either place a request may set them."""
        given = asked.get("mm_processor_kwargs") or {}
        if not isinstance(given, dict) or set(given) - {"hd", "partition"}:
            raise ApiError("mm_processor_kwargs takes hd and partition", param="mm_processor_kwargs")
        top_level = {name: asked.pop(name, None) for name in ("hd", "partition")}
        tiling = {**given, **{name: value for name, value in top_level.items() if value is not None}}
        tiling = {name: value for name, value in tiling.items() if value is not None}
        hd, most = tiling.get("hd"), self.image_input.limits.max_hd
        if hd is not None and not (type(hd) is int and 1 <= hd <= most):
            raise ApiError(f"hd is {quote(hd)}; a whole number from 1 to {most} is needed", param="hd")
        return tiling

    def _texts(self, messages: list[Any], parts: Sequence[Any]) -> None:
        texts = [message.get("content") for message in messages if isinstance(message, dict)]
        texts += parts
        letters = sum(len(text) for text in texts if isinstance(text, str))
        if letters > self.image_input.limits.max_text:
            raise ApiError(
                f"{letters:,} characters of text, at most {self.image_input.limits.max_text:,} are read; send less"
            )

    def _images(self, lists: list[tuple[dict[str, Any], tuple[str | Image, ...]]], *, published: bool) -> None:
        """Write the parts of messages anew, every image and every page of a PDF as a data URL: vLLM fetches nothing.

        The pictures of a published prompt are decoded here as the original does (`open_image(published=True)`): the
        model's own processor, which decodes the others, does not know the prompt.
        """
        sources = [part.source for _, parts in lists for part in parts if isinstance(part, Image)]
        self.image_input.check_count(len(sources))
        files = {source: self._files(source, most=self.image_input.limits.max_images - len(sources) + 1)
                 for source in sources}  # fmt: skip
        every = [(source.where, file) for source in sources for file in files[source]]
        self.image_input.check_count(len(every))
        self.image_input.check([file for _, file in every], [where for where, _ in every])
        if published:
            files = {source: self._published(files[source], source.where) for source in sources}
        for message, parts in lists:
            written: list[dict[str, Any]] = []
            for part in parts:
                written += [{"type": "text", "text": part}] if isinstance(part, str) else map(_part, files[part.source])
            message["content"] = written

    def _published(self, files: list[bytes], where: str) -> list[bytes]:
        """Return the original's pixels of pictures as PNG."""
        return [_png(each) for each in self.image_input.open(files, [where] * len(files), published=True)]

    def _files(self, source: FileSource, *, most: int) -> list[bytes]:
        """Return the file of a picture, or the pages of a PDF as PNG."""
        try:
            file = self.image_input.read(source.url)
        except ApiError as error:
            raise error.at(source.where) from None
        if not is_pdf(file[:HEAD_BYTES]):
            return [file]
        with self._drawing:
            return [_png(page) for page in self.image_input.draw(file, name=source.where, most=most)]


def _png(page: Picture) -> bytes:
    out = BytesIO()
    page.save(out, "PNG", compress_level=1)
    return out.getvalue()


def _part(file: bytes) -> dict[str, Any]:
    url = "data:image/png;base64," + base64.b64encode(file).decode()
    return {"type": "image_url", "image_url": {"url": url}}


def _check_template(given: Any) -> None:
    """Accept this package's options only; their values are checked by `serving.vllm.prompt`."""
    known = set(TemplateOptions.model_fields)
    if given is not None and not (isinstance(given, dict) and set(given) <= known):
        raise ApiError(f"chat_template_kwargs takes {' and '.join(sorted(known))}", param="chat_template_kwargs")


def _with_length(scope: Scope, length: int) -> Scope:
    dropped = (b"content-length", b"transfer-encoding")
    headers = [(name, value) for name, value in scope["headers"] if name not in dropped]
    return {**scope, "headers": [*headers, (b"content-length", str(length).encode())]}


def _replay(body: bytes, receive: Receive) -> Receive:
    """Receive the checked body once, then the connection's events, so that a disconnect is still seen."""
    sent = False

    async def again() -> Any:
        nonlocal sent
        if sent:
            return await receive()
        sent = True
        return {"type": "http.request", "body": body, "more_body": False}

    return again


async def _refuse(send: Send, error: ApiError, more: Sequence[tuple[bytes, bytes]] = ()) -> None:
    body = json.dumps(error_body(str(error), status=error.status, code=error.code, param=error.param)).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode()), *more]
    if error.retry_after:
        headers.append((b"retry-after", str(error.retry_after).encode()))
    await send({"type": "http.response.start", "status": error.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
