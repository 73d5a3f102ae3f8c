"""The command as a process: it says when it is ready, SIGTERM under load finishes the answers and leaves with 0."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from time import sleep
from typing import Any

import pytest
from talk import data_url
from typer.testing import CliRunner

from ixc.cli.main import app
from ixc.errors import UsageError


@contextmanager
def process(*arguments: str, port: int = 0, folder: Path | None = None) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A server as users start it; (process, address).

    Args:
        folder: where it is to put temporary files.
    """
    command = [sys.executable, "-m", "ixc", "serve", "--port", str(port), *arguments]
    environment = {key: value for key, value in os.environ.items() if key != "IXC_API_KEY"}
    environment |= {} if folder is None else {"TMPDIR": str(folder)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment) as found:
        try:
            assert found.stdout is not None
            line = found.stdout.readline()
            address = re.fullmatch(r"ready: (http://\S+)\n", line)
            assert address, line or (found.stderr.read() if found.stderr else "")
            yield found, address[1]
        finally:
            if found.poll() is None:
                found.kill()


@pytest.mark.slow
def test_serve_sigterm_under_load(tiny_folder: Path) -> None:
    body = b'{"model":"tiny","messages":[{"role":"user","content":"x"}],"max_tokens":600,"temperature":2,"stream":true}'
    answers: list[str] = []

    def ask(address: str, running: threading.Event) -> None:
        request = urllib.request.Request(f"{address}/v1/chat/completions", body, {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=120) as response:
            start = response.readline().decode()
            running.set()
            answers.append(start + response.read().decode())

    with process("--model", str(tiny_folder)) as (server, address):
        events = [threading.Event() for _ in range(4)]
        threads = [threading.Thread(target=ask, args=(address, event)) for event in events]
        for thread in threads:
            thread.start()
        assert all(event.wait(60) for event in events)
        server.send_signal(signal.SIGTERM)
        for thread in threads:
            thread.join(120)
        assert server.wait(60) == 0
        assert server.stderr is not None
        assert server.stderr.read() == ""
    assert len(answers) == 4
    assert all(text.endswith("data: [DONE]\n\n") and '"error"' not in text for text in answers)


@pytest.mark.slow
def test_serve_kill_and_restart(tiny_folder: Path, page: Path, tmp_path: Path) -> None:
    """SIGKILL in the middle of an answer about an image: the port is free at once, and no file is left behind."""
    part = {"type": "image_url", "image_url": {"url": data_url(page.read_bytes())}}
    content = [part, {"type": "text", "text": "What is the title?"}]
    asked = {"model": "tiny", "messages": [{"role": "user", "content": content}]}
    folders = [tiny_folder, tmp_path]

    def post(address: str, **fields: object) -> Any:
        body = json.dumps({**asked, **fields}).encode()
        return urllib.request.Request(f"{address}/v1/chat/completions", body, {"Content-Type": "application/json"})

    before = [sorted(path.name for path in folder.rglob("*")) for folder in folders]
    with process("--model", str(tiny_folder), folder=tmp_path) as (server, address):
        with urllib.request.urlopen(post(address, max_tokens=4), timeout=60) as response:
            first = json.load(response)["choices"][0]["message"]["content"]
        running = urllib.request.urlopen(post(address, max_tokens=900, temperature=2, stream=True), timeout=60)
        with running:
            running.readline()
            server.send_signal(signal.SIGKILL)
            assert server.wait(10) == -signal.SIGKILL
    port = int(address.rpartition(":")[2])
    with process("--model", str(tiny_folder), port=port, folder=tmp_path) as (_, again):
        assert again == address
        with urllib.request.urlopen(post(again, max_tokens=4), timeout=60) as response:
            assert json.load(response)["choices"][0]["message"]["content"] == first
    assert [sorted(path.name for path in folder.rglob("*")) for folder in folders] == before


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--fetch-from", "http://example.org"], "is no host"),
        (["--allow-origin", "*"], "is no origin; write https://app.example.org"),
        (["--allow-origin", "https://app.example.org/"], "is no origin"),
        (["--allow-origin", "app.example.org"], "is no origin"),
        (["--allow-origin", "https://App.example.org"], "is no origin"),
        (["--allow-origin", "https://app.example.org:443"], "is no origin"),
        (["--allow-origin", "http://localhost:3000", "--allow-origin", "null"], "'null' is no origin"),
        (["--allow-origin", "http://[::1]:3000", "--partition", "x"], "no partition rule"),
        (["--partition", "x"], "no partition rule"),
        (["--hd", "0"], "at least 1"),
        (["--host", "203.0.113.7"], "cannot be listened on"),
    ],
)
def test_serve_wrong_options_before_a_model_is_loaded(arguments: list[str], words: str) -> None:
    result = CliRunner().invoke(app, ["serve", "--port", "0", *arguments])
    assert isinstance(result.exception, UsageError)
    assert words in str(result.exception)


def memory(server: subprocess.Popen[str]) -> int:
    """Resident bytes of the process."""
    text = Path(f"/proc/{server.pid}/status").read_text(encoding="utf-8")
    return 1024 * int(re.search(r"VmRSS:\s+(\d+)", text)[1])  # type: ignore[index]


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").is_file(), reason="memory is read from /proc")
def test_serve_200_requests_16_at_a_time(tiny_folder: Path, page: Path) -> None:
    """No error but 429 with Retry-After, every answer the same as alone, memory flat."""
    part = {"type": "image_url", "image_url": {"url": data_url(page.read_bytes())}}
    contents = ["x", "How much is Tea?", [part, {"type": "text", "text": "What is the title?"}]]
    busy: list[str] = []

    def ask(address: str, content: object) -> str:
        body = {"model": "tiny", "messages": [{"role": "user", "content": content}], "max_tokens": 4}
        request = urllib.request.Request(
            f"{address}/v1/chat/completions", json.dumps(body).encode(), {"Content-Type": "application/json"}
        )
        while True:
            try:
                with urllib.request.urlopen(request, timeout=120) as response:
                    return json.load(response)["choices"][0]["message"]["content"]
            except urllib.error.HTTPError as error:
                with error:
                    if error.code != 429:
                        raise
                    busy.append(error.headers["Retry-After"])
                sleep(0.2)

    with process("--model", str(tiny_folder), "--max-waiting", "8") as (server, address):
        alone = [ask(address, content) for content in contents]
        with ThreadPoolExecutor(16) as pool:
            first = list(pool.map(lambda i: ask(address, contents[i % 3]), range(100)))
            before = memory(server)
            second = list(pool.map(lambda i: ask(address, contents[i % 3]), range(100)))
        grown = memory(server) - before
    assert first == second == [alone[i % 3] for i in range(100)]
    assert busy
    assert all(int(seconds) >= 1 for seconds in busy)
    assert grown < 50_000_000, f"{grown:,} bytes more after the second hundred"
