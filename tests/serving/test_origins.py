"""Pages of other origins (CORS), methods that a route does not have, and when to try again."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from talk import Running, running

from ixc.inference.engine import Engine
from ixc.serving.image_input import Limits
from ixc.serving.vllm.middleware import VllmMiddleware
from ixc.serving.vllm.settings import KEY, SETTINGS, settings_text

CHAT = "/v1/chat/completions"
OURS, OTHER = "https://app.example.org", "https://evil.example.org"
ASKED = {"model": "tiny", "max_tokens": 1, "messages": [{"role": "user", "content": "x"}]}
PREFLIGHT = {
    "Access-Control-Request-Method": "POST",
    "Access-Control-Request-Headers": "authorization,content-type,x-stainless-os",
}
RIGHT = {"Authorization": "Bearer secret"}


@pytest.fixture(scope="module")
def open_server(engine_of_tiny: Engine, tiny_folder: Path) -> Iterator[Running]:
    """A server with a key that pages of two origins may ask."""
    with running(
        engine_of_tiny, tiny_folder, api_key="secret", hosts=("127.0.0.1",), origins=(OURS, "http://localhost:3000")
    ) as found:
        yield found


@pytest.mark.parametrize("origin", [OURS, "http://localhost:3000"])
def test_security_middleware_preflight_of_a_listed_origin_needs_no_key(open_server: Running, origin: str) -> None:
    status, _, headers = open_server.call("OPTIONS", CHAT, headers={"Origin": origin, **PREFLIGHT})
    assert status == 200
    assert headers["access-control-allow-origin"] == origin
    assert {"GET", "POST"} <= {name.strip() for name in headers["access-control-allow-methods"].split(",")}
    assert set(PREFLIGHT["Access-Control-Request-Headers"].split(",")) <= set(
        headers["access-control-allow-headers"].lower().replace(" ", "").split(",")
    )
    assert int(headers["access-control-max-age"]) == 600
    assert "origin" in headers["vary"].lower()
    assert "access-control-allow-credentials" not in headers


def test_security_middleware_preflight_of_another_origin_is_refused(open_server: Running) -> None:
    status, _, headers = open_server.call("OPTIONS", CHAT, headers={"Origin": OTHER, **PREFLIGHT})
    assert (status, "access-control-allow-origin" in headers) == (400, False)


@pytest.mark.parametrize(
    ("path", "body", "more", "wanted"),
    [
        (CHAT, ASKED, RIGHT, 200),
        (CHAT, {**ASKED, "stream": True}, RIGHT, 200),
        (CHAT, {**ASKED, "n": 9}, RIGHT, 400),
        (CHAT, ASKED, {}, 401),
        ("/v1/embeddings", ASKED, RIGHT, 404),
    ],
)
def test_security_middleware_answers_and_errors_may_be_read_by_a_listed_origin_only(
    open_server: Running, path: str, body: Any, more: dict[str, str], wanted: int
) -> None:
    status, _, headers = open_server.call("POST", path, body, headers={"Origin": OURS, **more})
    assert (status, headers["access-control-allow-origin"]) == (wanted, OURS)
    assert {name.strip() for name in headers["access-control-expose-headers"].split(",")} == {"Allow", "Retry-After"}
    assert "origin" in headers["vary"].lower()
    for origin in (OTHER, "null", f"{OURS}.evil.org", "http://app.example.org"):
        _, _, headers = open_server.call("POST", path, body, headers={"Origin": origin, **more})
        assert "access-control-allow-origin" not in headers
    _, _, headers = open_server.call("POST", path, body, headers=more)  # no page of another origin
    assert "access-control-allow-origin" not in headers


def test_security_middleware_other_hosts_are_refused_before(open_server: Running) -> None:
    status, _, headers = open_server.call("OPTIONS", CHAT, headers={"Origin": OURS, "Host": "evil.org", **PREFLIGHT})
    assert (status, "access-control-allow-origin" in headers) == (421, False)


def test_security_middleware_origins_are_off_by_default(server: Running) -> None:
    status, _, headers = server.call("OPTIONS", CHAT, headers={"Origin": OURS, **PREFLIGHT})
    assert (status, headers["allow"]) == (405, "POST")
    found = server.call("POST", CHAT, ASKED, headers={"Origin": OURS})[2]
    assert not [name for name in {**headers, **found} if name.startswith("access-control")]


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("GET", CHAT, {"POST"}), ("PUT", CHAT, {"POST"}), ("DELETE", CHAT, {"POST"}), ("OPTIONS", CHAT, {"POST"}),
        ("GET", "/v1/responses", {"POST"}), ("POST", "/v1/models", {"GET"}), ("POST", "/v1/models/tiny", {"GET"}),
        ("POST", "/health", {"GET"}), ("POST", "/ready", {"GET"}), ("POST", "/metrics", {"GET"}),
        ("POST", "/", {"GET"}),
        ("POST", "/plan", {"GET"}), ("GET", "/attention", {"POST"}), ("GET", "/pdf", {"POST"}),
    ],
)  # fmt: skip
def test_describe_error_allow_names_the_methods(server: Running, method: str, path: str, allowed: set[str]) -> None:
    status, found, headers = server.call(method, path, {})
    assert status == 405
    assert {name.strip() for name in headers["allow"].split(",")} - {"HEAD"} == allowed
    assert found["error"]["message"]


def test_vllm_middleware_origins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(SETTINGS, settings_text(Limits(), fetch_from=(), hosts=(), origins=(OURS,)))
    monkeypatch.setenv(KEY, "secret")

    async def behind(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"{}"})

    def ask(method: str, origin: str, **more: str) -> tuple[int, dict[str, str]]:
        sent: list[Any] = []
        given = {"host": "x", "origin": origin, **{name.replace("_", "-"): value for name, value in more.items()}}
        headers = [(name.encode(), value.encode()) for name, value in given.items()]
        scope = {"type": "http", "method": method, "path": "/v1/models", "headers": headers, "query_string": b""}

        async def send(event: Any) -> None:
            sent.append(event)

        async def receive() -> Any:
            return {"type": "http.request", "body": b"", "more_body": False}

        asyncio.run(VllmMiddleware(behind)(scope, receive, send))
        return sent[0]["status"], {name.decode().lower(): value.decode() for name, value in sent[0]["headers"]}

    status, headers = ask("OPTIONS", OURS, access_control_request_method="GET")
    assert (status, headers["access-control-allow-origin"]) == (200, OURS)
    status, headers = ask("GET", OURS, authorization="Bearer secret")
    assert (status, headers["access-control-allow-origin"]) == (200, OURS)
    assert "access-control-allow-origin" not in ask("GET", OTHER, authorization="Bearer secret")[1]
    assert ask("GET", OURS)[0] == 401
    assert json.loads(settings_text(Limits(), fetch_from=(), hosts=()))["origins"] == []
