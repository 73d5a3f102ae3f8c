"""The queue and the way out: order, bounds, readers that leave, and the drain."""

from __future__ import annotations

import asyncio
import json
import math
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from talk import Gate, Running, running, wait

from ixc.inference.engine import Engine
from ixc.serving import generation
from ixc.serving.errors import ApiError
from ixc.serving.image_input import ImageInput, Limits
from ixc.serving.queue import Queue


def test_queue_one_at_a_time_in_order() -> None:
    async def play() -> list[str]:
        queue, seen = Queue(max_tokens=100, max_requests=9), []

        async def guest(name: str) -> None:
            ticket = queue.enter(10)
            await ticket.turn()
            seen.append(f"{name} in")
            await asyncio.sleep(0)
            seen.append(f"{name} out")
            ticket.leave()
            ticket.leave()

        await asyncio.gather(*map(guest, "abc"))
        assert (len(queue), queue.tokens) == (0, 0)
        return seen

    assert asyncio.run(play()) == ["a in", "a out", "b in", "b out", "c in", "c out"]


def test_queue_requests_that_join_have_the_model_together() -> None:
    """Two at once; one that does not join waits for them, and nobody overtakes it."""

    async def play() -> None:
        queue = Queue(max_tokens=100, max_requests=9, at_once=2)
        one, two, three = (queue.enter(5, joins=True) for _ in range(3))
        alone, last = queue.enter(5), queue.enter(5, joins=True)
        called = [each for each in (one, two, three, alone, last) if each._turn.done()]
        assert called == [one, two]
        one.leave()
        await three.turn()
        two.leave()
        assert not alone._turn.done()
        three.leave()
        await alone.turn()
        assert not last._turn.done()
        alone.leave()
        await last.turn()

    asyncio.run(play())


def test_queue_bounds_and_retry_after() -> None:
    async def play() -> None:
        queue = Queue(max_tokens=100, max_requests=3)
        large = queue.enter(5000)  # alone it may have more
        with pytest.raises(ApiError, match="waiting") as caught:
            queue.enter(1)
        assert (caught.value.status, caught.value.retry_after) == (429, 25)  # 5,000 at 200 a second
        large.leave()
        tickets = [queue.enter(10) for _ in range(3)]
        with pytest.raises(ApiError, match="3 requests of 30 tokens"):
            queue.enter(10)
        tickets[1].leave()  # cancelled while waiting: the others move up
        tickets[0].leave()
        await tickets[2].turn()
        queue.close()
        with pytest.raises(ApiError, match="shutting down"):
            queue.enter(1)
        assert (len(queue), queue.tokens) == (1, 10)
        tickets[2].leave()
        assert (len(queue), queue.tokens) == (0, 0)

    asyncio.run(play())


def test_queue_rate_follows_what_is_measured() -> None:
    async def play() -> float:
        queue = Queue(max_tokens=100, max_requests=3)
        for _ in range(50):
            queue.record(1000, 1.0, places=2000)
        queue.record(0, 0.0, places=1)
        return queue.rate

    assert asyncio.run(play()) == pytest.approx(1000, rel=1e-3)


@pytest.mark.parametrize(
    ("wanted", "requests", "room_behind"),
    [
        (10, 9, 1),  # the first answer leaves enough room
        (80, 9, 3),  # three of 30, 30 and 20 tokens have to go
        (500, 9, 4),  # more than all tokens that are allowed: alone
        (1, 4, 1),  # too many requests, not tokens
    ],
)
@pytest.mark.parametrize("seconds_a_place", [0.02, 0.11, 5.0])
def test_queue_retry_after_is_when_there_is_room(
    wanted: int, requests: int, room_behind: int, seconds_a_place: float
) -> None:
    """Answers take a time in proportion to their places, which are twice the tokens that come."""

    async def play() -> int:
        queue = Queue(max_tokens=100, max_requests=requests)
        for _ in range(60):
            queue.record(50, 100 * seconds_a_place, places=100)
        for places in (30, 30, 20, 15):
            queue.enter(places)
        with pytest.raises(ApiError) as caught:
            queue.enter(wanted)
        return caught.value.retry_after or 0

    true = sum((30, 30, 20, 15)[:room_behind]) * seconds_a_place
    assert asyncio.run(play()) == min(30, max(1, math.ceil(round(true, 3))))


@pytest.fixture
def small(engine: Engine, tiny_folder: Path) -> Iterator[Running]:
    """Room for two text requests of 12 tokens of answer."""
    limits = Limits(max_waiting_requests=2, max_waiting_tokens=10_000)
    with running(engine, tiny_folder, image_input=ImageInput(limits=limits)) as found:
        yield found


class Caller:
    """A request in a thread of its own."""

    def __init__(self, server: Running, **fields: Any) -> None:
        self.result: tuple[int, Any] | None = None
        self._thread = threading.Thread(target=self._call, args=(server, fields), daemon=True)
        self._thread.start()

    def _call(self, server: Running, fields: dict[str, Any]) -> None:
        self.result = server.ask("x", **fields)

    def join(self) -> tuple[int, Any]:
        self._thread.join(20)
        assert self.result is not None
        return self.result


def test_queue_full_says_retry_after(small: Running, gate: Gate) -> None:
    inside = [Caller(small), Caller(small)]
    wait(lambda: len(small.service.queue) == 2 and gate.started == 1)
    body = {"model": "tiny", "messages": [{"role": "user", "content": "x"}]}
    status, error, headers = small.call("POST", "/v1/chat/completions", body)
    assert (status, error["error"]["code"]) == (429, "queue_full")
    assert 1 <= int(headers["retry-after"]) <= 30
    assert "ixc_requests_inside 2" in small.call("GET", "/metrics")[1]
    assert gate.started == 1, "two answers at one time"
    gate.open.set()
    answers = [caller.join() for caller in inside]
    assert [(status, found["choices"][0]["message"]["content"]) for status, found in answers] == [(200, "ab")] * 2
    wait(lambda: len(small.service.queue) == 0)
    numbers = small.call("GET", "/metrics")[1]
    assert 'ixc_requests_total{route="/v1/chat/completions",status="429"} 1' in numbers
    assert "ixc_generation_tokens_total 4" in numbers


def leaving(server: Running, *, stream: bool) -> socket.socket:
    """A request on a bare connection that can be cut."""
    body = json.dumps({"model": "tiny", "messages": [{"role": "user", "content": "x"}], "stream": stream}).encode()
    line = socket.create_connection(("127.0.0.1", server.port), timeout=10)
    head = "POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
    line.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
    return line


@pytest.mark.parametrize("stream", [False, True])
def test_queue_closed_connection_ends_its_answer(small: Running, gate: Gate, stream: bool) -> None:
    with leaving(small, stream=stream):
        wait(lambda: gate.started == 1)
    wait(lambda: gate.ended == 1)
    wait(lambda: len(small.service.queue) == 0)
    assert "ixc_cancelled_total 1" in small.call("GET", "/metrics")[1]


@pytest.mark.parametrize("stream", [False, True])
def test_queue_closed_connection_gives_its_place_up(small: Running, gate: Gate, stream: bool) -> None:
    first = Caller(small)
    wait(lambda: gate.started == 1)
    with leaving(small, stream=stream):
        wait(lambda: len(small.service.queue) == 2)
    wait(lambda: len(small.service.queue) == 1)
    gate.open.set()
    assert first.join()[0] == 200
    wait(lambda: len(small.service.queue) == 0)
    assert gate.started == 1


def test_queue_drain_finishes_what_runs_and_what_waits(engine: Engine, tiny_folder: Path, gate: Gate) -> None:
    with running(engine, tiny_folder) as found:
        inside = [Caller(found), Caller(found, stream=True)]
        wait(lambda: len(found.service.queue) == 2)
        found.server.should_exit = True  # what uvicorn's handler of SIGTERM does
        wait(lambda: found.service.queue.closed)
        with pytest.raises(OSError, match="refused"):
            found.call("GET", "/health")
        gate.open.set()
        (status, whole), (streamed, events) = (caller.join() for caller in inside)
    assert (status, whole["choices"][0]["message"]["content"]) == (200, "ab")
    assert streamed == 200
    assert events.endswith("data: [DONE]\n\n")


@pytest.mark.parametrize("stream", [False, True])
def test_service_internal_error_has_no_details(
    small: Running, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, stream: bool
) -> None:
    def broken(*_: Any, **__: Any) -> None:
        raise RuntimeError("secret")

    with monkeypatch.context() as patch:
        patch.setattr(generation.AnswerStreamer, "add", broken)
        status, found = small.ask("x", stream=stream)
    assert status == (200 if stream else 500)
    assert "something went wrong" in str(found)
    assert "secret" not in str(found)
    assert "secret" in caplog.text
    assert small.ask("x")[0] == 200
