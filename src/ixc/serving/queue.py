"""The queue of requests: one answer at a time, in order of arrival, bounded in tokens and in requests.

enter(tokens) -> Ticket --await turn()--> this request has the model --leave()--> the next one's turn
"""

from __future__ import annotations

import asyncio
from collections import deque

from ixc.serving.errors import ApiError

FIRST_GUESS = 200.0
"""Tokens a second, prompt and answer together, assumed until the first answer has been measured."""

LONGEST_WAIT = 30
"""Most seconds of a Retry-After."""

RATE_DECAY = 0.8
"""Weight of the old rate in the moving average after each answer."""


class Ticket:
    """A place in the queue.

    Args:
        queue: the queue.
        tokens: most tokens of prompt and answer.
    """

    def __init__(self, queue: Queue, tokens: int) -> None:
        self.queue, self.tokens = queue, tokens
        self._turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def turn(self) -> None:
        """Wait until it is this ticket's turn. Raises: the error given to `fail`."""
        await self._turn

    def call(self) -> None:
        """Make it this ticket's turn."""
        if not self._turn.done():
            self._turn.set_result(None)

    def fail(self, error: Exception) -> None:
        """Leave the queue and make `turn` raise an error."""
        if not self._turn.done():
            self._turn.set_exception(error)
            self._turn.exception()  # marks it as retrieved: nobody may be awaiting it any more
        self.leave()

    def leave(self) -> None:
        """Leave the queue, waiting or running; a second call does nothing."""
        self.queue.remove(self)


class Queue:
    """Tickets in order of arrival; the first one has the model. Belongs to one event loop."""

    def __init__(self, *, max_tokens: int, max_requests: int) -> None:
        """
        Args:
            max_tokens: most tokens of prompts and answers, running and waiting; one request alone may have more.
            max_requests: most requests, running and waiting, >= 1.
        """
        self.max_tokens, self.max_requests = max_tokens, max_requests
        self.rate = FIRST_GUESS
        self._tickets: deque[Ticket] = deque()
        self.closed = False

    @property
    def tokens(self) -> int:
        """Tokens of prompts and answers, running and waiting."""
        return sum(ticket.tokens for ticket in self._tickets)

    def __len__(self) -> int:
        return len(self._tickets)

    def enter(self, tokens: int) -> Ticket:
        """Return a place at the end.

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
        self._tickets[0].call()
        return ticket

    @property
    def retry_after(self) -> int:
        """Seconds until half of the tokens are answered by the measured rate, 1 to 30."""
        return int(min(LONGEST_WAIT, max(1, self.tokens / 2 / self.rate)))

    def remove(self, ticket: Ticket) -> None:
        """Take a ticket out, wherever it stands, and call the first one."""
        if ticket not in self._tickets:
            return
        self._tickets.remove(ticket)
        if self._tickets:
            self._tickets[0].call()

    def record(self, tokens: int, seconds: float) -> None:
        """Record the tokens, prompt included, and the seconds of an answer for the rate."""
        if tokens > 0 and seconds > 0:
            self.rate = RATE_DECAY * self.rate + (1 - RATE_DECAY) * tokens / seconds

    def close(self) -> None:
        """Refuse every further request."""
        self.closed = True
