"""The queue of requests: in order of arrival, bounded in tokens and in requests.

enter(tokens) -> Ticket --await turn()--> this request has the model --leave()--> the next one's turn

Requests that join others have the model together, so many at once; every other request has it alone.
"""

from __future__ import annotations

import asyncio
import math
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
        joins: whether it may have the model together with others that do.
    """

    def __init__(self, queue: Queue, tokens: int, *, joins: bool = False) -> None:
        self.queue, self.tokens, self.joins = queue, tokens, joins
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
    """Tickets in order of arrival; the first ones have the model. Belongs to one event loop."""

    def __init__(self, *, max_tokens: int, max_requests: int, at_once: int = 1) -> None:
        """
        Args:
            max_tokens: most tokens of prompts and answers, running and waiting; one request alone may have more.
            max_requests: most requests, running and waiting, >= 1.
            at_once: most requests that have the model together, of those that join others, >= 1.
        """
        self.max_tokens, self.max_requests, self.at_once = max_tokens, max_requests, at_once
        self.rate = FIRST_GUESS
        """Tokens of prompts and answers a second."""
        # Decaying sums over the last answers: tokens of their tickets, more than were generated, and seconds.
        self._places, self._seconds = FIRST_GUESS, 1.0
        self._tickets: deque[Ticket] = deque()
        self.closed = False

    @property
    def tokens(self) -> int:
        """Tokens of prompts and answers, running and waiting."""
        return sum(ticket.tokens for ticket in self._tickets)

    def __len__(self) -> int:
        return len(self._tickets)

    def enter(self, tokens: int, *, joins: bool = False) -> Ticket:
        """Return a place at the end.

        Args:
            tokens: most tokens of prompt and answer.
            joins: whether it may have the model together with others that do.

        Raises:
            ApiError: 429 when full, with the seconds until there is room for this request; 503 when closing.
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
                retry_after=self.retry_after(tokens),
            )
        ticket = Ticket(self, tokens, joins=joins)
        self._tickets.append(ticket)
        self._call()
        return ticket

    def _call(self) -> None:
        """Call the first ticket, and those behind it that join it."""
        for place, ticket in enumerate(self._tickets):
            if place and (place >= self.at_once or not (ticket.joins and self._tickets[0].joins)):
                return
            ticket.call()

    def retry_after(self, tokens: int) -> int:
        """Return the seconds until so many tokens find room, by the measured rate: whole ones, rounded up, 1 to 30."""
        inside, requests, waited = self.tokens, len(self), 0
        for ticket in self._tickets:
            if requests < self.max_requests and (inside + tokens <= self.max_tokens or not requests):
                break
            inside, requests, waited = inside - ticket.tokens, requests - 1, waited + ticket.tokens
        return min(LONGEST_WAIT, max(1, math.ceil(waited * self._seconds / self._places)))

    def remove(self, ticket: Ticket) -> None:
        """Take a ticket out, wherever it stands, and call those whose turn it is."""
        if ticket in self._tickets:
            self._tickets.remove(ticket)
            self._call()

    def record(self, tokens: int, seconds: float, *, places: int) -> None:
        """Record an answer for the rates.

        Args:
            tokens: of prompt and answer.
            seconds: that it took.
            places: tokens of its ticket.
        """
        if tokens > 0 and seconds > 0:
            self.rate = RATE_DECAY * self.rate + (1 - RATE_DECAY) * tokens / seconds
            self._places = RATE_DECAY * self._places + places
            self._seconds = RATE_DECAY * self._seconds + seconds

    def close(self) -> None:
        """Refuse every further request."""
        self.closed = True
