"""The middleware in front of vLLM: what it passes on and what it refuses. A fake application stands in for vLLM."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Callable
from io import BytesIO
from typing import Any

import pytest
from PIL import Image
from talk import data_url, picture

from ixc.processing.image_io import open_image
from ixc.serving.image_input import Limits
from ixc.serving.vllm.middleware import CHAT, ROUTES, VllmMiddleware
from ixc.serving.vllm.settings import KEY, SETTINGS, settings_text

Call = Callable[..., tuple[int, Any]]


@pytest.fixture
def reached() -> list[Any]:
    """What vLLM got: (path, object)."""
    return []


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, reached: list[Any]) -> Call:
    limits = Limits(max_body_bytes=200_000, max_images=2, max_pixels=10_000, max_hd=9, max_text=500, max_new_tokens=50)
    monkeypatch.setenv(SETTINGS, settings_text(limits, fetch_from=(), hosts=("127.0.0.1",)))
    monkeypatch.setenv(KEY, "secret")

    async def behind(scope: Any, receive: Any, send: Any) -> None:
        body = (await receive())["body"] if scope["method"] == "POST" else b""
        assert dict(scope["headers"]).get(b"content-length", b"0") == str(len(body)).encode()
        reached.append((scope["path"], json.loads(body) if body else None))
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"{}"})

    middleware = VllmMiddleware(behind)

    def ask(
        path: str,
        body: Any = None,
        *,
        key: str | None = "secret",
        host: str = "127.0.0.1",
        method: str | None = None,
        found: dict[bytes, bytes] | None = None,
    ) -> tuple[int, Any]:
        sent: list[Any] = []
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        headers = [(b"host", host.encode()), (b"content-type", b"application/json")]
        headers += [(b"authorization", f"Bearer {key}".encode())] if key else []
        headers += [(b"content-length", str(len(raw)).encode())] if body is not None else []
        method = method or ("GET" if body is None else "POST")
        scope = {"type": "http", "method": method, "path": path, "headers": headers, "query_string": b""}

        async def receive() -> Any:
            return {"type": "http.request", "body": raw if body is not None else b"", "more_body": False}

        async def send(event: Any) -> None:
            sent.append(event)

        asyncio.run(middleware(scope, receive, send))
        if found is not None:
            found.update(sent[0]["headers"])
        return sent[0]["status"], json.loads(sent[1]["body"] or b"null")

    return ask


def chat(*parts: Any, **fields: Any) -> dict[str, Any]:
    return {"model": "m", "messages": [{"role": "user", "content": list(parts)}], **fields}


def image(url: str, **more: Any) -> dict[str, Any]:
    return {"type": "image_url", "image_url": {"url": url}, **more}


def test_vllm_middleware_passes_image_and_hd_on(call: Call, reached: list[Any]) -> None:
    url = data_url(picture())
    body = chat(image(url), {"type": "text", "text": "?"}, hd=4, response_format={"type": "json_object"})
    assert call(CHAT, body) == (200, {})
    path, found = reached[0]
    assert (path, found["mm_processor_kwargs"], "hd" in found) == (CHAT, {"hd": 4}, False)
    assert found["messages"][0]["content"][0]["image_url"]["url"] == url
    assert found["response_format"] == {"type": "json_object"}


def test_vllm_middleware_asks_for_one_call_of_a_tool(call: Call, reached: list[Any]) -> None:
    tools = [{"type": "function", "function": {"name": "book", "parameters": {"type": "object"}}}]
    assert call(CHAT, chat("?", tools=tools, tool_choice="required", parallel_tool_calls=True)) == (200, {})
    assert (reached[0][1]["parallel_tool_calls"], reached[0][1]["tools"]) == (False, tools)


@pytest.mark.parametrize("path", ["/v1/models", "/metrics", CHAT])
def test_vllm_middleware_needs_the_key(call: Call, reached: list[Any], path: str) -> None:
    for key in (None, "wrong"):
        assert call(path, key=key)[0] == 401
    assert call("/ready", key=None)[0] == call("/health", key=None)[0] == 200
    assert {path for path, _ in reached} == {"/health"}


@pytest.mark.parametrize(
    "path", ["/tokenize", "/v1/completions", "/v1/embeddings", "/reset_prefix_cache", "/docs", "/"]
)
def test_vllm_middleware_hides_other_routes(call: Call, reached: list[Any], path: str) -> None:
    status, body = call(path, {})
    assert (status, body["error"]["type"]) == (404, "not_found_error")
    assert not reached


@pytest.mark.parametrize("path", ROUTES)
@pytest.mark.parametrize("method", ["GET", "POST", "DELETE", "HEAD", "OPTIONS"])
def test_vllm_middleware_names_the_method_that_is_allowed(
    call: Call, reached: list[Any], path: str, method: str
) -> None:
    headers: dict[bytes, bytes] = {}
    body = chat("?") if method == "POST" else None
    status, answer = call(path, body, method=method, found=headers)
    if method == ROUTES[path]:
        assert (status, len(reached)) == (200, 1)
        return
    assert (status, headers[b"allow"].decode(), reached) == (405, ROUTES[path], [])
    assert answer["error"]["message"] == f"{method} is not served at {path}; use {ROUTES[path]}"


def test_vllm_middleware_names_its_routes_only(call: Call) -> None:
    for path in ("/v1/embeddings", "/v1/responses"):
        message = call(path, {})[1]["error"]["message"]
        assert message.endswith("; there are /health, /ready, /metrics, /v1/models, /v1/chat/completions")
    assert "the address is /v1/models" in call("/models")[1]["error"]["message"]


def test_vllm_middleware_refuses_another_host(call: Call, reached: list[Any]) -> None:
    assert call("/health", host="evil.example.org")[0] == 421
    assert not reached


BAD = {
    "address": (chat(image("http://127.0.0.1/x.png")), 403),
    "file": (chat(image("file:///etc/passwd")), 400),
    "too many images": (chat(*[image(data_url(picture()))] * 3), 400),
    "pixels": (chat(image(data_url(picture(300, 300)))), 400),
    "no image": (chat(image("data:image/png;base64,AAAA")), 400),
    "cache name": (chat(image(data_url(picture()), uuid="a")), 400),
    "embeddings": (chat({"type": "image_embeds", "image_embeds": "x"}), 400),
    "audio": (chat({"type": "input_audio", "input_audio": {}}), 400),
    "prompt embeddings": (chat({"type": "prompt_embeds", "data": "x"}), 400),
    "template": (chat("?", chat_template="{{ 1 }}"), 400),
    "template words": (chat("?", chat_template_kwargs={"published": True, "x": 1}), 400),
    "media options": (chat("?", media_io_kwargs={"image": {}}), 400),
    "transfer": (chat("?", kv_transfer_params={}), 400),
    "hd": (chat("?", hd=10), 400),
    "processor": (chat("?", mm_processor_kwargs={"max_hd": 99}), 400),
    "n": (chat("?", n=100), 400),
    "length": (chat("?", max_tokens=51), 400),
    "text": (chat({"type": "text", "text": "x" * 501}), 400),
    "body": (b'{"a": "' + b"x" * 300_000 + b'"}', 413),
    "deep": (b"[" * 100_000, 400),
    "no object": (b"[]", 400),
    "messages": ({"model": "m", "messages": {}}, 400),
}


@pytest.mark.parametrize("name", BAD)
def test_vllm_middleware_refusals(call: Call, reached: list[Any], name: str) -> None:
    body, wanted = BAD[name]
    status, answer = call(CHAT, body)
    assert status == wanted, answer
    assert answer["error"]["message"]
    assert "\n" not in answer["error"]["message"]
    assert not reached


def test_vllm_middleware_decodes_the_pictures_of_a_published_prompt_as_the_original(
    call: Call, reached: list[Any]
) -> None:
    """A picture with orientation 6: passed on as it is stored, without the tag, and otherwise as the file it is."""
    stored, out, block = Image.effect_noise((60, 20), 90).convert("RGB"), BytesIO(), Image.Exif()
    block[0x0112] = 6
    stored.save(out, "PNG", exif=block)
    url = "data:image/png;base64," + base64.b64encode(out.getvalue()).decode()
    for published in (True, False):
        body = chat(image(url), {"type": "text", "text": "a"}, chat_template_kwargs={"published": published})
        assert call(CHAT, body)[0] == 200
    passed = [
        base64.b64decode(seen["messages"][0]["content"][0]["image_url"]["url"].partition(",")[2]) for _, seen in reached
    ]
    assert passed[1] == out.getvalue()
    shown = open_image(passed[0])
    assert (shown.size, shown.tobytes()) == ((60, 20), stored.tobytes())
    assert open_image(passed[1]).size == (20, 60)
