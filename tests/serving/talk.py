"""A server in a thread, on a free port, plain ways to talk to it, and a model that waits for its test."""

from __future__ import annotations

import base64
import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection
from io import BytesIO
from pathlib import Path
from typing import Any

from PIL import Image

from ixc.inference.cost import read_geometry
from ixc.inference.engine import Engine
from ixc.serving.deltas import TextDelta
from ixc.serving.jobs import GenerationJob
from ixc.serving.server import Server, listen
from ixc.serving.service import ChatService, ServiceConfig


@dataclass(frozen=True, kw_only=True)
class Running:
    """A server and its address."""

    service: ChatService
    server: Server
    port: int
    thread: threading.Thread

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def call(
        self, method: str, path: str, body: Any = None, *, headers: dict[str, str] | None = None
    ) -> tuple[int, Any, dict[str, str]]:
        """(status, JSON or text, headers in lower case)."""
        raw = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        http = HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            http.request(method, path, raw, {"Content-Type": "application/json", **(headers or {})})
            response = http.getresponse()
            text, found = response.read(), {key.lower(): value for key, value in response.getheaders()}
        finally:
            http.close()
        return response.status, json.loads(text) if "json" in found.get("content-type", "") else text.decode(), found

    def ask(self, content: Any, **fields: Any) -> tuple[int, Any]:
        """One question; (status, object)."""
        body = {"model": "tiny", "messages": [{"role": "user", "content": content}], **fields}
        return self.call("POST", "/v1/chat/completions", body)[:2]


@contextmanager
def running(engine: Engine, folder: Path, **settings: Any) -> Iterator[Running]:
    """A server for the length of a block; leaving it drains."""
    service = ChatService(engine, ServiceConfig(**{"name": "tiny", "geometry": read_geometry(folder), **settings}))
    listening = listen("127.0.0.1", 0)
    server = Server(service, drain_seconds=10)
    thread = threading.Thread(target=server.run, args=([listening],), daemon=True)
    thread.start()
    try:
        wait(lambda: server.started)
        yield Running(service=service, server=server, port=listening.getsockname()[1], thread=thread)
    finally:
        server.should_exit = True
        thread.join(20)
        listening.close()
        assert not thread.is_alive(), "the server did not end"


def wait(reached: Callable[[], bool], *, seconds: float = 20) -> None:
    """Until it is so."""
    end = time.monotonic() + seconds
    while not reached():
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.01)


class Gate:
    """Stands in for the model: it emits "a", waits to be opened or cancelled, and ends with "b"."""

    def __init__(self) -> None:
        self.open, self.started, self.ended = threading.Event(), 0, 0

    def generate(
        self, engine: Engine, job: GenerationJob, *, cancelled: threading.Event, emit: Callable[[TextDelta], None]
    ) -> None:
        self.started += 1
        try:
            emit(TextDelta(text="a", new_tokens=1))
            while not self.open.wait(0.01):
                if cancelled.is_set():
                    return
            emit(TextDelta(text="b", new_tokens=2, finish="stop"))
        finally:
            self.ended += 1


def picture(width: int = 40, height: int = 30, *, kind: str = "PNG", **options: Any) -> bytes:
    """A white image as a file."""
    out = BytesIO()
    Image.new("RGB", (width, height), "white").save(out, kind, **options)
    return out.getvalue()


def data_url(file: bytes, kind: str = "image/png") -> str:
    return f"data:{kind};base64,{base64.b64encode(file).decode()}"


def image_part(url: str, **more: Any) -> dict[str, Any]:
    return {"type": "image_url", "image_url": {"url": url, **more}}


def text_part(text: str = "What is the title?") -> dict[str, Any]:
    return {"type": "text", "text": text}
