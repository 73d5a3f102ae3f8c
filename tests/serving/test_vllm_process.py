"""`ixc serve --engine vllm` as a process: killed under load it starts again; SIGTERM lets answers end."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from vllm_ask import Question, own_tokens, tokens
from vllm_process import Vllm, free_port, vllm_command

pytestmark = [
    pytest.mark.slow,
    pytest.mark.vllm,
    pytest.mark.skipif(not find_spec("vllm"), reason="vLLM is not here; see dev/vllm_cpu.sh"),
]

QUESTIONS = tuple(Question(f"What is on line {n}?", ((3840, 2160 - 40 * n),), hd=55) for n in range(1, 5))
"""Four pages of 4K, none of them in another's cache."""

TAKING = 120
"""Seconds for four pages of 4K to be read and handed to the engine."""


@contextmanager
def serving(port: int) -> Iterator[Vllm]:
    command = [sys.executable, "-m", "ixc", "serve", "--engine", "vllm", "--name", "nano", "--port", str(port)]
    with vllm_command(lambda _: command, environment={}, port=port) as found:
        yield found


@contextmanager
def asked(server: Vllm) -> Iterator[list[Future[dict[str, Any]]]]:
    """Four answers under way, all of them in the engine."""
    with ThreadPoolExecutor(len(QUESTIONS)) as pool:
        answers = [pool.submit(server.post, question.body()) for question in QUESTIONS]
        end = time.monotonic() + TAKING
        while sum(server.metric(f"vllm:num_requests_{name}") for name in ("running", "waiting")) < len(QUESTIONS):
            assert time.monotonic() < end
            assert not any(answer.done() for answer in answers)
            time.sleep(0.1)
        yield answers


def living(group: int) -> list[str]:
    """Names of its processes that still run, once they had time to end."""
    for _ in range(50):
        found = []
        for stat in Path("/proc").glob("[0-9]*/stat"):
            with suppress(OSError):  # it has ended meanwhile
                name, rest = stat.read_text(errors="replace").rsplit(")", 1)
                state, _, its_group = rest.split()[:3]
                found += [name] if int(its_group) == group and state not in "ZX" else []
        if not found:
            break
        time.sleep(0.2)
    return found


def test_vllm_restarts_after_a_kill_and_sigterm_lets_answers_end() -> None:
    own, port = own_tokens(None, QUESTIONS), free_port()
    with serving(port) as server, asked(server) as answers:
        assert server.process is not None
        os.killpg(server.process.pid, signal.SIGKILL)
        assert server.process.wait(30) == -signal.SIGKILL
        assert all(isinstance(answer.exception(30), OSError) for answer in answers)
        assert not living(server.process.pid)
    with serving(port) as server, asked(server) as answers:
        assert server.process is not None
        assert not any(answer.done() for answer in answers)
        server.process.send_signal(signal.SIGTERM)
        assert [tokens(answer.result(300)) for answer in answers] == own
        assert server.process.wait(60) == 0
        assert not living(server.process.pid)
