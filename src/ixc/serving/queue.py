"""Who is next: one answer at a time, in order of arrival; what waits is bounded in tokens and in requests.

enter(tokens) -> Ticket --await turn()--> the model is yours --leave()--> the next one's turn
"""

from __future__ import annotations

import asyncio
from collections import deque

from ixc.serving.openai import ApiError

FIRST_GUESS = 200.0
"""Tokens a second, prompt and answer together, until the first answer has been measured."""

LONGEST_WAIT = 120
"""Most seconds a Retry-After says."""

MEMORY = 0.8
"""Share of the old rate in the new one after each answer."""


class Ticket:
    """A place in the queue."""

    def __init__(self, queue: Queue, tokens: int) -> None:
        self.queue, self.tokens = queue, tokens
        self._called: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def turn(self) -> None:
        """Returns when the model is free for this ticket."""
        await self._called

    def call(self) -> None:
        """It is this ticket's turn."""
        if not self._called.done():
            self._called.set_result(None)

    def fail(self, error: Exception) -> None:
        """It will never be this ticket's turn: `turn` raises."""
        if not self._called.done():
            self._called.set_exception(error)
            self._called.exception()  # seen: nobody may be waiting any more
        self.leave()

    def leave(self) -> None:
        """Answered, failed or cancelled, waiting or running; a second call does nothing."""
        self.queue.remove(self)


class Queue:
    """Tickets in order; the first one runs. Belongs to one event loop."""

    def __init__(self, *, max_tokens: int, max_requests: int) -> None:
        """
        Args:
            max_tokens: most tokens of prompts and answers, running and waiting; one request alone may have more.
            max_requests: most requests, running and waiting, >= 1.
        """
        self.max_tokens, self.max_requests = max_tokens, max_requests
        self.rate = FIRST_GUESS
        self._tickets: deque[Ticket] = deque()
        self._empty = asyncio.Event()
        self._empty.set()
        self.closed = False

    @property
    def tokens(self) -> int:
        """Tokens of prompts and answers inside."""
        return sum(ticket.tokens for ticket in self._tickets)

    def __len__(self) -> int:
        return len(self._tickets)

    def enter(self, tokens: int) -> Ticket:
        """A place at the end.

        Raises:
            ApiError: 429 when full, with the seconds until half of it is answered; 503 when closing.
        """
        if self.closed:
            raise ApiError("the server is shutting down; ask another one", status=503, code="shutting_down")
        inside = self.tokens
        if self._tickets and (inside + tokens > self.max_tokens or len(self) >= self.max_requests):
            raise ApiError(
                f"{len(self)} requests of {inside:,} tokens are waiting, {self.max_requests} of {self.max_tokens:,} "
                "are allowed; try again later",
                status=429,
                code="queue_full",
                retry_after=self.retry_after,
            )
        ticket = Ticket(self, tokens)
        self._tickets.append(ticket)
        self._empty.clear()
        self._tickets[0].call()
        return ticket

    @property
    def retry_after(self) -> int:
        """Seconds until half of the tokens inside are answered, 1 .. 120."""
        return int(min(LONGEST_WAIT, max(1, self.tokens / 2 / self.rate)))

    def remove(self, ticket: Ticket) -> None:
        """Takes a ticket out wherever it stands, and calls the next."""
        if ticket not in self._tickets:
            return
        self._tickets.remove(ticket)
        if self._tickets:
            self._tickets[0].call()
        else:
            self._empty.set()

    def measured(self, tokens: int, seconds: float) -> None:
        """An answer of so many tokens, prompt included, took so long."""
        if tokens > 0 and seconds > 0:
            self.rate = MEMORY * self.rate + (1 - MEMORY) * tokens / seconds

    def close(self) -> None:
        """Nobody enters any more."""
        self.closed = True

    async def drained(self) -> None:
        """Returns when everybody has left."""
        await self._empty.wait()
