"""The runner against servers: which server a page goes to, what is sent, servers that are busy, die or are all gone."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from ixc.apps.reading import listing
from ixc.apps.reading.endpoints import EndpointRunner, connect_any
from ixc.apps.reading.records import Block, Page, Question, ReadSettings, Row
from ixc.apps.reading.run_folder import RunFolder
from ixc.apps.reading.sources import list_files
from ixc.errors import EndpointError, UnreachableError, UsageError
from ixc.utils.chat_client import Endpoint

pytest.importorskip("openai", reason="the extra eval is not installed")

SETTINGS = ReadSettings(
    questions=(Question(text="Size?"), Question(text="Items?", name="items", schema={"type": "object"})),
    options={"hd": 4, "max_new_tokens": 9, "stop": ("\n",)},
    model="stub",
)


class Server:
    """A stub of a server: answers with the width of the picture, and keeps what it was sent."""

    def __init__(self) -> None:
        self.requests: list[tuple[dict[str, str], dict[str, Any]]] = []
        self.refusals: list[tuple[int, dict[str, str]]] = []
        """(status, headers) of the next answers."""
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_: object) -> None:
                pass

            def do_GET(self) -> None:
                self._send(200, {"data": [{"id": "stub"}]})

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                outer.requests.append(({k.lower(): v for k, v in self.headers.items()}, body))
                if outer.refusals:
                    status, headers = outer.refusals.pop(0)
                    return self._send(status, {"error": {"message": "not now"}}, headers)
                data = base64.b64decode(body["messages"][-1]["content"][0]["image_url"]["url"].partition(",")[2])
                text = str(Image.open(io.BytesIO(data)).width)
                self._send(200, {"choices": [{"message": {"content": text}}], "usage": {"total_tokens": 7}})

            def _send(self, status: int, found: Any, headers: dict[str, str] | None = None) -> None:
                data = json.dumps(found).encode()
                self.send_response(status)
                for name, value in {"content-type": "application/json", **(headers or {})}.items():
                    self.send_header(name, value)
                self.send_header("content-length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/v1"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@contextmanager
def servers(count: int) -> Iterator[list[Server]]:
    found = [Server() for _ in range(count)]
    try:
        yield found
    finally:
        for each in found:
            each.close()


def gone() -> str:
    """Address at which nothing listens."""
    server = Server()
    server.close()
    return server.url


def endpoint(url: str, **options: Any) -> Endpoint:
    return Endpoint(url=url, model="stub", **{"attempts": 1, **options})


def source(folder: Path, count: int = 6) -> Path:
    folder.mkdir()
    for number in range(count):
        Image.new("L", (20 + number, 10)).save(folder / f"{number}.png")
    Image.new("L", (50, 10)).save(folder / "z.bmp")
    return folder


def pages(folder: Path) -> Iterator[Page]:
    return listing.pages_of(list_files([str(folder)]))


def read(tmp_path: Path, folder: Path, endpoints: list[Endpoint], *, concurrency: int = 3) -> list[Row]:
    with RunFolder(tmp_path / "out", SETTINGS, form="jsonl", block_pages=2) as run:
        runner = EndpointRunner(endpoints, SETTINGS, concurrency=concurrency)
        for result in runner.run(run.blocks(lambda: pages(folder))):
            run.write(result)
        return [row for rows in run.all_rows() for row in rows]


def test_endpoint_runner_rows_and_requests(tmp_path: Path) -> None:
    folder = source(tmp_path / "in")
    (folder / "y.png").write_bytes(b"no picture")
    with servers(2) as found:
        rows = read(tmp_path, folder, [endpoint(each.url) for each in found])
        seen = [each.requests for each in found]
    assert [row.answer for row in rows[::2]] == ["20", "21", "22", "23", "24", "25", None, "50"]
    assert [row.column for row in rows[:2]] == ["Size?", "items"]
    assert rows[12].error is not None
    assert (rows[0].tokens, rows[0].hd, rows[0].model) == (7, 4, "stub")
    assert all(len(each) >= 2 for each in seen)  # both have work
    by_image = [{headers["x-ixc-image"] for headers, _ in each} for each in seen]
    assert not by_image[0] & by_image[1]  # all questions about a page at one server
    headers, body = seen[0][0]
    url = body["messages"][0]["content"][0]["image_url"]["url"]
    data = base64.b64decode(url.partition(",")[2])
    assert headers["x-ixc-image"] == hashlib.sha256(data).hexdigest()
    assert "authorization" not in headers
    assert body["mm_processor_kwargs"] == {"hd": 4}
    assert (body["max_tokens"], body["stop"], body["temperature"]) == (9, ["\n"], 0)
    formats = [each.get("response_format") for requests in seen for _, each in requests]
    assert {"type": "json_schema", "json_schema": {"name": "answer", "schema": {"type": "object"}}} in formats
    sent = {body["messages"][0]["content"][0]["image_url"]["url"][:15] for requests in seen for _, body in requests}
    assert sent == {"data:image/png;"}  # the bitmap too


def test_endpoint_runner_tells_every_page(tmp_path: Path) -> None:
    folder = source(tmp_path / "in")
    told: list[int] = []
    with servers(1) as found:
        runner = EndpointRunner([endpoint(found[0].url)], SETTINGS, concurrency=1, on_page=lambda: told.append(1))
        block = Block(number=0, pages=tuple(pages(folder)))
        results = runner.run([block, replace(block, number=1)])
        assert next(iter(results)).number == 0
        assert len(told) >= 7
        assert [each.number for each in results] == [1]
    assert len(told) == 14


def test_endpoint_runner_sends_the_files_of_pictures_unchanged(tmp_path: Path) -> None:
    folder = source(tmp_path / "in", 1)
    with servers(1) as (server,):
        read(tmp_path, folder, [endpoint(server.url)])
        sent = {headers["x-ixc-image"] for headers, _ in server.requests}
    assert hashlib.sha256((folder / "0.png").read_bytes()).hexdigest() in sent


def test_endpoint_runner_waits_as_a_busy_server_says(tmp_path: Path) -> None:
    folder = source(tmp_path / "in", 1)
    with servers(1) as (server,):
        server.refusals = [(429, {"retry-after-ms": "20"}), (503, {"retry-after-ms": "20"})]
        rows = read(tmp_path, folder, [endpoint(server.url, attempts=3)], concurrency=1)
        assert len(server.requests) == 6
    assert [row.error for row in rows] == [None] * 4


def test_endpoint_runner_a_refused_request_is_a_row(tmp_path: Path) -> None:
    folder = source(tmp_path / "in", 1)
    with servers(1) as (server,):
        server.refusals = [(400, {})]
        rows = read(tmp_path, folder, [endpoint(server.url)], concurrency=1)
    assert "refused, HTTP 400: not now" in str(rows[0].error)
    assert [row.error for row in rows[1:]] == [None] * 3


def test_endpoint_runner_goes_on_without_a_dead_server(tmp_path: Path) -> None:
    folder = source(tmp_path / "in")
    with servers(1) as (server,):
        rows = read(tmp_path, folder, [endpoint(gone()), endpoint(server.url)])
    assert [row.error for row in rows] == [None] * 14


def test_endpoint_runner_ends_where_all_are_dead_and_goes_on_later(tmp_path: Path) -> None:
    folder = source(tmp_path / "in")
    with pytest.raises(UnreachableError, match="0 of 2 servers can be reached; the last one: ") as found:
        read(tmp_path, folder, [endpoint(gone()), endpoint(gone())])
    assert "\n" not in str(found.value)
    with servers(1) as (server,):
        rows = read(tmp_path, folder, [endpoint(server.url)])
    assert [row.error for row in rows] == [None] * 14


def test_endpoint_runner_server_dies_and_comes_back(tmp_path: Path) -> None:
    """The one server goes after some pages: blocks that are whole stay, the same run then asks about the others."""
    folder = source(tmp_path / "in")
    with servers(1) as (server,):
        server.refusals = []
        with RunFolder(tmp_path / "out", SETTINGS, form="jsonl", block_pages=2) as run:
            results = EndpointRunner([endpoint(server.url)], SETTINGS, concurrency=1).run(
                run.blocks(lambda: pages(folder))
            )
            run.write(next(results))
            server.refusals = [(401, {})] * 20  # any request would be refused
            with pytest.raises(UnreachableError, match="0 of 1 servers"):
                list(results)
    with servers(1) as (server,):
        rows = read(tmp_path, folder, [endpoint(server.url)], concurrency=1)
        assert len(server.requests) <= 10
    assert [row.error for row in rows] == [None] * 14


def test_connect_any_leaves_out_what_is_gone() -> None:
    dead = gone()
    with servers(1) as (server,):
        found, notes = connect_any([dead, server.url], model=None, attempts=1)
        assert [each.url for each in found] == [server.url]
        assert len(notes) == 1
        assert dead in notes[0]
    with pytest.raises(EndpointError, match="gave no answer in 1 attempts"):
        connect_any([dead], model=None, attempts=1)


def test_endpoint_runner_refuses_a_partition() -> None:
    settings = ReadSettings(questions=SETTINGS.questions, options={"partition": "fit"})
    with pytest.raises(UsageError, match="--partition is a setting of the server"):
        EndpointRunner([], settings, concurrency=1)
