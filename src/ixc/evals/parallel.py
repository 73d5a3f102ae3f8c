"""Ask the synthetic pages in several processes, each with its own copy of the model; results keep the input order.

    page indices -> one pipe per process -> model -> `synthetic.ask` -> cases, reordered to the order of the indices

The embedded model is too small for intra-op parallelism: its matrix products leave most cores idle. Processes share
nothing, so N of them answer nearly N times as many pages per second, with the same answers.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterable, Iterator
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess

from ixc.errors import DataError, IxcError, UsageError
from ixc.evals.synthetic import Answers, SyntheticCase, ask
from ixc.utils.threads import available_cores


def ask_in_parallel(
    load: Callable[[], Answers],
    indices: Iterable[int],
    *,
    processes: int,
    kind: str | None = None,
    hd: int | None = None,
) -> Iterator[list[SyntheticCase]]:
    """Yield the cases of each page, in the order of `indices`.

    Args:
        load: builds the model inside a worker process; must be picklable.
        indices: page indices, as for `synthetic.ask`.
        processes: number of worker processes, >= 1; the CPU cores are divided among them.
        kind: page kind, as for `synthetic.ask`.
        hd: HD-n the pages are drawn for, as for `synthetic.ask`.

    Raises:
        UsageError: fewer than one process. DataError: a worker died. IxcError: raised by `load` or by the model.
    """
    if processes < 1:
        raise UsageError(f"{processes} processes asked for, at least 1 needed; leave --processes out for one")
    todo = list(indices)
    workers = _Workers(load, min(processes, len(todo)), threads=max(1, available_cores() // processes))
    finished: dict[int, list[SyntheticCase]] = {}
    unsent, unyielded = iter(todo), iter(todo)
    try:
        workers.start(kind, hd)
        for connection in workers.connections:
            workers.send(connection, next(unsent))
        for expected in unyielded:
            while expected not in finished:
                for connection, index, cases in workers.receive():
                    finished[index] = cases
                    if (following := next(unsent, None)) is not None:
                        workers.send(connection, following)
            yield finished.pop(expected)
    except (EOFError, ConnectionError) as error:
        raise DataError(
            "a worker process has ended (killed, or out of memory); run again with fewer --processes"
        ) from error
    finally:
        workers.stop()


class _Workers:
    """Worker processes, their pipes, and the page each of them is answering."""

    def __init__(self, load: Callable[[], Answers], count: int, *, threads: int) -> None:
        self._load, self._count, self._threads = load, count, threads
        self._processes: list[SpawnProcess] = []
        self._asked: dict[Connection, int] = {}
        self.connections: list[Connection] = []

    def start(self, kind: str | None, hd: int | None) -> None:
        # spawn, not fork: a forked child inherits torch's thread pool in an unusable state
        context = get_context("spawn")
        for _ in range(self._count):
            parent, child = context.Pipe()
            process = context.Process(target=_work, args=(self._load, child, self._threads, kind, hd), daemon=True)
            process.start()
            child.close()
            self._processes.append(process)
            self.connections.append(parent)

    def send(self, connection: Connection, index: int) -> None:
        self._asked[connection] = index
        connection.send(index)

    def receive(self) -> Iterator[tuple[Connection, int, list[SyntheticCase]]]:
        """Wait for at least one worker; yield (connection, page index, cases) of each that is ready."""
        for connection in wait(list(self._asked)):
            assert isinstance(connection, Connection)
            reply = connection.recv()
            if isinstance(reply, Exception):
                raise reply
            yield connection, self._asked.pop(connection), reply

    def stop(self) -> None:
        for process in self._processes:
            process.kill()
            process.join()


def _work(load: Callable[[], Answers], connection: Connection, threads: int, kind: str | None, hd: int | None) -> None:
    """Answer the page indices that arrive until the parent closes the pipe."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # on Ctrl-C the parent stops its workers
    import torch

    torch.set_num_threads(threads)
    try:
        answers = load()
        while True:
            connection.send(ask(answers, connection.recv(), kind=kind, hd=hd))
    except (EOFError, BrokenPipeError):
        return
    except IxcError as error:
        connection.send(error)
