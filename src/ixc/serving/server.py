"""The process around the application: listens, answers, and on SIGTERM finishes what it has taken in.

SIGTERM --> no new request --> running and waiting answers end --> exit code 0
"""

from __future__ import annotations

import signal
import socket
from collections.abc import Callable

import uvicorn

from ixc.errors import UsageError
from ixc.serving.app import ChatService, create_app

BACKLOG = 128
"""Connections the system keeps before they are accepted."""

MAX_CONNECTIONS = 256
"""Connections at one time; more get 503 at once."""

KEEP_ALIVE = 15
"""Seconds an idle connection stays open."""


class Server(uvicorn.Server):
    """Closes its queue when it is told to leave."""

    def __init__(self, service: ChatService, *, drain_seconds: int) -> None:
        """
        Args:
            drain_seconds: longest time for answers to end after the signal.
        """
        self.service = service
        super().__init__(
            uvicorn.Config(
                create_app(service),
                lifespan="off",
                log_level="warning",
                access_log=False,
                server_header=False,
                proxy_headers=False,
                ws="none",
                limit_concurrency=MAX_CONNECTIONS,
                timeout_keep_alive=KEEP_ALIVE,
                timeout_graceful_shutdown=drain_seconds,
            )
        )

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self.service.queue.close()
        await super().shutdown(sockets)


def listen(host: str, port: int) -> socket.socket:
    """A listening socket; port 0 takes a free one.

    Raises:
        UsageError: the address cannot be had.
    """
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        found = socket.create_server(address[:2], family=family, backlog=BACKLOG)
    except (OSError, OverflowError) as error:
        raise UsageError(f"{host}:{port} cannot be listened on ({error}); choose another --host or --port") from error
    return found


def run(service: ChatService, *, listening: socket.socket, drain_seconds: int, ready: Callable[[], None]) -> None:
    """Serves until SIGTERM or Ctrl-C, then drains.

    Args:
        ready: called before the first request is accepted.
    """
    # uvicorn raises the signal again when it has drained; without handlers of our own it would end us badly.
    for name in (signal.SIGTERM, signal.SIGINT):
        signal.signal(name, lambda *_: None)
    ready()
    Server(service, drain_seconds=drain_seconds).run(sockets=[listening])
