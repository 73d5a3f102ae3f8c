"""Security middleware: what every request passes before a route sees it, and every response on its way out.

host name -> origin of a page elsewhere (CORS) -> API key -> route -> security headers -> counted
"""

from __future__ import annotations

import hmac
import json
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from starlette.middleware.cors import CORSMiddleware

from ixc.serving.errors import error_body
from ixc.serving.routes import API

Scope = MutableMapping[str, Any]
Event = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Event]]
Send = Callable[[Event], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

OPEN_ROUTES = ("/", "/health", "/ready")
"""Routes without a key: the page asks for the key itself, and its files hold nothing but the page."""

ROUTES = ("/", "/health", "/ready", "/metrics", "/plan", "/pdf", "/attention", *API)
"""Routes that the metrics tell apart."""

PAGE_FILES = "/page/"
"""Prefix of the routes of the page's files."""

LOOPBACK = ("127.0.0.1", "localhost", "::1")
"""Names under which only this machine reaches the server."""

METHODS = ("GET", "POST")
"""Methods that pages of an allowed origin may use."""

EXPOSED = ("Allow", "Retry-After")
"""Headers of a response that such a page may read, besides those that every page may."""

PREFLIGHT_SECONDS = 600
"""How long a browser may keep the answer to its question whether it may ask."""

SECURITY_HEADERS = (
    (
        b"content-security-policy",
        b"default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; connect-src 'self'; "
        b"base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    ),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cache-control", b"no-store"),
)
"""Set on every response."""


class SecurityMiddleware:
    """ASGI middleware around the application.

    Args:
        app: the application.
        api_key: the bearer token clients must send; None = none is asked for.
        hosts: names the Host header may hold; empty = any. Without the check, a page elsewhere could point its own
            name at this machine (DNS rebinding) and read the answers.
        origins: origins whose pages may ask and read the answers (CORS); empty = none but the server's own. A browser
            asks first (preflight), without the key.
        count_response: takes the route and the status of every response; None = nobody counts.
    """

    def __init__(
        self,
        app: App,
        *,
        api_key: str | None,
        hosts: tuple[str, ...],
        origins: tuple[str, ...] = (),
        count_response: Callable[[str, int], None] | None = None,
    ) -> None:
        self.app, self.hosts, self._count_response = app, hosts, count_response
        self._key = None if api_key is None else f"Bearer {api_key}".encode()
        self._inside: Any = self._with_key
        if origins:
            self._inside = CORSMiddleware(
                self._with_key,
                allow_origins=origins,
                allow_methods=METHODS,
                allow_headers=("*",),  # clients send headers of their own, such as openai-node's x-stainless-os
                expose_headers=EXPOSED,
                max_age=PREFLIGHT_SECONDS,
            )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        if scope["type"] != "http":  # no route here speaks WebSocket
            await send({"type": "websocket.close", "code": 1000})
            return
        headers, send = dict(scope["headers"]), self._wrap(scope["path"], send)
        if self.hosts and host_name(headers.get(b"host", b"")) not in self.hosts:
            await _refuse(send, 421, "this server does not answer under that name; use the address it printed")
        else:
            await self._inside(scope, receive, send)

    async def _with_key(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self._key is not None and not self._is_allowed(scope["path"], dict(scope["headers"])):
            await _refuse(send, 401, "wrong or missing API key; send Authorization: Bearer KEY", "invalid_api_key")
        else:
            await self.app(scope, receive, send)

    def _wrap(self, path: str, send: Send) -> Send:
        """Return a `send` that counts the response and adds the security headers."""
        route = path if path in ROUTES else "/page" if path.startswith(PAGE_FILES) else "other"

        async def wrapped(event: Event) -> None:
            if event["type"] == "http.response.start":
                if self._count_response is not None:
                    self._count_response(route, event["status"])
                event = {**event, "headers": [*event.get("headers", []), *SECURITY_HEADERS]}
            await send(event)

        return wrapped

    def _is_allowed(self, path: str, headers: dict[bytes, bytes]) -> bool:
        if path in OPEN_ROUTES or path.startswith(PAGE_FILES):
            return True
        return hmac.compare_digest(headers.get(b"authorization", b""), self._key or b"")


# Not Starlette's TrustedHostMiddleware: it answers a wrong host with 400 and the plain text "Invalid host header",
# which gives no OpenAI client an error with a remedy. In 0.46, which fastapi 0.130 may bring, it also splits the
# header at the first colon, which refuses [::1]:8000, and refuses a name in capitals; 1.10 keeps the brackets of [::1].
def host_name(header: bytes) -> str:
    """Return the name in a Host header in lower case, without port and brackets."""
    name = header.decode("latin-1").lower()
    if name.startswith("["):
        return name[1:].partition("]")[0]
    return name.partition(":")[0]


async def _refuse(send: Send, status: int, message: str, code: str | None = None) -> None:
    body = json.dumps(error_body(message, status=status, code=code)).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
