"""vLLM as a process of a test: started on a free port, waited for, sent SIGTERM at the end."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from socket import socket
from typing import Any

STARTING = float(os.environ.get("IXC_VLLM_STARTING", "600"))
"""Seconds vLLM may take to start: most of them are imports."""

ENDING = 60
"""Seconds it may take to leave."""


@dataclass(frozen=True)
class Vllm:
    """A server, its address, and the process where a test has started one."""

    url: str
    process: subprocess.Popen[bytes] | None = None

    def post(self, body: dict[str, Any]) -> dict[str, Any]:
        """One answer."""
        request = urllib.request.Request(
            f"{self.url}/v1/chat/completions", json.dumps(body).encode(), {"Content-Type": "application/json"}
        )
        try:
            with urllib.request.urlopen(request, timeout=900) as response:
                return json.load(response)
        except urllib.error.HTTPError as error:
            error.close()
            raise

    def metric(self, name: str) -> float:
        """The sum over its labels."""
        with urllib.request.urlopen(f"{self.url}/metrics", timeout=60) as response:
            text = response.read().decode()
        return sum(float(value) for value in re.findall(rf"^{name}(?:{{.*}})? (\S+)$", text, re.M))


@contextmanager
def vllm_command(
    command: Callable[[int], Sequence[str]],
    *,
    given: str | None = None,
    environment: Mapping[str, str],
    port: int | None = None,
) -> Iterator[Vllm]:
    """The server of a command in a group of its own, or the one at a given address; on a free port if none is named."""
    if given:
        yield Vllm(given)
        return
    port = port or free_port()
    with subprocess.Popen(command(port), env={**os.environ, **environment}, start_new_session=True) as process:
        try:
            yield _ready(Vllm(f"http://127.0.0.1:{port}", process), process)
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(ENDING)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)


def free_port() -> int:
    with socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def _ready(server: Vllm, process: subprocess.Popen[bytes]) -> Vllm:
    end = time.monotonic() + STARTING
    while time.monotonic() < end:
        assert process.poll() is None, "vLLM has ended; its log says why"
        try:
            with urllib.request.urlopen(f"{server.url}/health", timeout=5):
                return server
        except OSError:
            time.sleep(1)
    raise TimeoutError(f"vLLM was not ready after {STARTING:g} s")
