"""Pages asked in several processes, each with a model of its own, and told in their order.

    indices -> one pipe a process -> model -> ask -> cases, in the order of the indices

A small model leaves cores idle: its products are too small to share. Processes share nothing, so that N of them answer
nearly N times as much, with the same answers.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterable, Iterator
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait

from ixc.errors import DataError, IxcError, UsageError
from ixc.evals.synthetic import Answers, SyntheticCase, ask


def ask_side_by_side(
    load: Callable[[], Answers],
    indices: Iterable[int],
    *,
    processes: int,
    kind: str | None = None,
    hd: int | None = None,
) -> Iterator[list[SyntheticCase]]:
    """The cases of each page, in the order of `indices`.

    Args:
        load: makes the model that a process answers with, there; must pickle.
        indices, kind, hd: as of `synth.ask`.
        processes: at least 1; the cores are shared out among them.

    Raises:
        UsageError: fewer than one process. DataError: a process ended by itself. What `load` and the model refuse.
    """
    if processes < 1:
        raise UsageError(f"{processes} processes asked for, at least 1 needed; leave --processes out for one")
    context, jobs, busy = get_context("spawn"), {}, {}
    todo, done, told = list(indices), {}, 0
    sent = iter(todo)
    try:
        for _ in range(min(processes, len(todo))):
            mine, theirs = context.Pipe()
            threads = max(1, (os.cpu_count() or 1) // processes)
            jobs[mine] = context.Process(target=_answer, args=(load, theirs, threads, kind, hd), daemon=True)
            jobs[mine].start()
            theirs.close()
            busy[mine] = next(sent)
            mine.send(busy[mine])
        while told < len(todo):
            for end in wait(list(busy)):
                assert isinstance(end, Connection)
                said = end.recv()
                if isinstance(said, Exception):
                    raise said
                done[busy.pop(end)] = said
                if (index := next(sent, None)) is not None:
                    busy[end] = index
                    end.send(index)
            while told < len(todo) and todo[told] in done:
                yield done.pop(todo[told])
                told += 1
    except (EOFError, ConnectionError) as error:
        raise DataError(
            "a process that answered has ended (killed, or out of memory); run again with fewer --processes"
        ) from error
    finally:
        for job in jobs.values():
            job.kill()
            job.join()


def _answer(load: Callable[[], Answers], end: Connection, threads: int, kind: str | None, hd: int | None) -> None:
    """Answer the pages whose numbers come, until who asks has gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # who asks ends it
    import torch

    torch.set_num_threads(threads)
    try:
        answers = load()
        while True:
            end.send(ask(answers, end.recv(), kind=kind, hd=hd))
    except (EOFError, BrokenPipeError):
        return
    except IxcError as error:
        end.send(error)
