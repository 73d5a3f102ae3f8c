"""Stand-ins for the tests of runs: questions without a data set, an oracle, and a server that speaks OpenAI's words."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from ixc.core.chat_format import Message
from ixc.evals.predictions import Header
from ixc.evals.question import Question


def questions(count: int) -> list[Question]:
    return [
        Question(
            index=n * 10,
            images=(),
            messages=(Message("user", (f"question {n}",)),),
            hd=4,
            num_beams=1,
            max_new_tokens=5,
        )
        for n in range(count)
    ]


def echo(asked: Sequence[Question]) -> list[str]:
    """Answers that depend on the question alone."""
    return [f" B, says {question.text}\n" for question in asked]


def header(count: int = 10, **changes: Any) -> Header:
    values: dict[str, Any] = {
        "task": "mmstar", "dataset": "MMStar", "style": "published", "model": "fake", "version": "0",
        "questions": count, "data": "0" * 32, "settings": {"dtype": "auto"},
    }  # fmt: skip
    return Header(**{**values, **changes})


Reply = Callable[[dict[str, Any]], tuple[int, Any]]
"""Body of a request -> (status, body of the answer)."""


@contextmanager
def server(
    reply: Reply, *, models: Sequence[str] = ("stub",), headers: Mapping[str, str] | None = None
) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """Run a server on a free port; yields (address, requests received). `headers` go with every answer."""
    seen: list[dict[str, Any]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._send(200, {"data": [{"id": name} for name in models]})

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            seen.append(body | {"_path": self.path, "_key": self.headers.get("Authorization")})
            self._send(*reply(body))

        def _send(self, status: int, value: Any) -> None:
            data = value if isinstance(value, bytes) else json.dumps(value).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(data)))
            self.send_header("Content-Type", "text/html" if isinstance(value, bytes) else "application/json")
            for name, text in (headers or {}).items():
                self.send_header(name, text)
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *values: object) -> None:
            """Tests are silent."""

    there = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=there.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{there.server_port}", seen
    finally:
        there.shutdown()
        there.server_close()
        thread.join()


def said(text: str) -> tuple[int, Any]:
    return 200, {"choices": [{"message": {"role": "assistant", "content": text}}]}
