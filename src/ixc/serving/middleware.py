"""What every request passes before a route sees it, and every response on its way out.

host's name -> key -> route -> headers that keep a browser in bounds -> counted
"""

from __future__ import annotations

import hmac
import json
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from ixc.serving.metrics import Metrics
from ixc.serving.openai import error_body

Scope = MutableMapping[str, Any]
Event = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Event]]
Send = Callable[[Event], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

OPEN = ("/", "/health", "/ready")
"""Routes without a key: the page asks for the key itself, and its files hold nothing but the page."""

ROUTES = ("/", "/health", "/ready", "/metrics", "/plan", "/pdf", "/attention", "/v1/models", "/v1/chat/completions")
"""What the metrics tell apart."""

PAGE_FILES = "/page/"
"""Beginning of the addresses of the page's files."""

LOOPBACK = ("127.0.0.1", "localhost", "::1")
"""Names under which only this machine reaches the server."""

HEADERS = (
    (
        b"content-security-policy",
        b"default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; connect-src 'self'; "
        b"base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    ),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cache-control", b"no-store"),
)
"""On every response."""


class SecurityMiddleware:
    """ASGI around the application."""

    def __init__(self, app: App, *, metrics: Metrics, api_key: str | None, hosts: tuple[str, ...]) -> None:
        """
        Args:
            api_key: what clients send as a bearer; None = no key.
            hosts: names the Host header may hold; empty = any. A page elsewhere may point its own name at us.
        """
        self.app, self.metrics, self.hosts = app, metrics, hosts
        self._key = None if api_key is None else f"Bearer {api_key}".encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        if scope["type"] != "http":  # a web socket: nothing here speaks it
            await send({"type": "websocket.close", "code": 1000})
            return
        path = scope["path"]
        route = path if path in ROUTES else "/page" if path.startswith(PAGE_FILES) else "other"

        async def out(event: Event) -> None:
            if event["type"] == "http.response.start":
                self.metrics.count_response(route, event["status"])
                event = {**event, "headers": [*event.get("headers", []), *HEADERS]}
            await send(event)

        headers = dict(scope["headers"])
        if self.hosts and _host(headers.get(b"host", b"")) not in self.hosts:
            await _refuse(out, 421, "this server does not answer under that name; use the address it printed")
        elif self._key is not None and not self._may_pass(path, headers):
            await _refuse(out, 401, "wrong or missing API key; send Authorization: Bearer KEY", "invalid_api_key")
        else:
            await self.app(scope, receive, out)

    def _may_pass(self, path: str, headers: dict[bytes, bytes]) -> bool:
        if path in OPEN or path.startswith(PAGE_FILES):
            return True
        return hmac.compare_digest(headers.get(b"authorization", b""), self._key or b"")


def _host(header: bytes) -> str:
    """The name in a Host header, without port and brackets."""
    name = header.decode("latin-1").lower()
    if name.startswith("["):
        return name[1:].partition("]")[0]
    return name.partition(":")[0]


async def _refuse(send: Send, status: int, message: str, code: str | None = None) -> None:
    body = json.dumps(error_body(message, status=status, code=code)).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
