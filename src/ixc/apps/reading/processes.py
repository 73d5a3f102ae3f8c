"""The runner over several processes of this machine: each has the model loaded once, and opens the pages it answers.

    blocks --groups of 8 pages--> one of N processes: PageOpener, EngineAnswerer --rows--> BlockResult

A small model gains more from a second process than from a second thread: each step of it is too short to be shared.
Where a process dies, the pages that were under way are answered one by one; over the second death a page fails.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import count
from multiprocessing import get_context, parent_process
from multiprocessing.util import Finalize

from ixc.apps.reading.answering import Answerer, EngineAnswerer, EngineSpec
from ixc.apps.reading.local import PAGES_TOGETHER, block_pages
from ixc.apps.reading.opening import PageOpener
from ixc.apps.reading.records import Block, BlockResult, Page, ReadSettings, Row, failed_rows
from ixc.cluster.tries import DIED, MOST_TRIES
from ixc.errors import CapacityError, IxcError

AHEAD = 2
"""Groups given to each process: the one under way, and the next."""


@dataclass(frozen=True, kw_only=True)
class Part:
    """Pages of one block that are answered together."""

    block: int
    """Key of the block in this run."""
    first: int
    """Position of the first page among those of the block that are asked about."""
    pages: tuple[tuple[Page, frozenset[int]], ...]
    """Pages, and the indices of the questions to ask."""

    def alone(self) -> list[Part]:
        """Return each page as a part of its own."""
        return [Part(block=self.block, first=self.first + at, pages=(page,)) for at, page in enumerate(self.pages)]


@dataclass(frozen=True, kw_only=True)
class MakeAnswerer:
    """Makes what answers, in a process of its own; it pickles."""

    engine: EngineSpec
    """The model."""
    settings: ReadSettings
    """Of the run."""
    threads: int = 1
    """Threads of a process, >= 1."""

    def __call__(self) -> Answerer:
        """Load the model. Errors as `EngineSpec.load`."""
        import torch

        torch.set_num_threads(self.threads)
        return EngineAnswerer(self.engine.load(), self.settings)


@dataclass(kw_only=True)
class _Pending:
    """A block that is under way."""

    number: int
    left: int
    """Pages without rows."""
    rows: dict[int, list[Row]] = field(default_factory=dict)
    """Position of a page -> its rows."""
    warnings: list[str] = field(default_factory=list)

    def result(self) -> BlockResult:
        rows = [row for at in sorted(self.rows) for row in self.rows[at]]
        return BlockResult(number=self.number, rows=rows, warnings=tuple(self.warnings))


Answered = tuple[list[list[Row]], list[str]]
"""Rows of each page, and warnings."""


class ProcessRunner:
    """Answers blocks in processes of this machine, several blocks at once.

    Args:
        make: makes what answers, in each process; pickles.
        settings: of the run.
        workers: processes, >= 1.
        together: pages answered together, >= 1.
        on_page: called for every page that was answered.
    """

    def __init__(
        self,
        make: Callable[[], Answerer],
        settings: ReadSettings,
        *,
        workers: int,
        together: int = PAGES_TOGETHER,
        on_page: Callable[[], None] = lambda: None,
    ) -> None:
        self._make, self.settings, self.workers, self.together = make, settings, workers, together
        self._on_page = on_page
        self._running: dict[Future[Answered], Part] = {}
        self._pool: ProcessPoolExecutor | None = None

    def run(self, blocks: Iterable[Block]) -> Iterator[BlockResult]:
        """Answer the blocks, in any order. Raises: IxcError: the model cannot be loaded."""
        pending: dict[int, _Pending] = {}
        try:
            for part in self._parts(blocks, pending):
                while len(self._running) >= AHEAD * self.workers:
                    yield from self._finished(pending)
                try:
                    self._submit(part)
                except BrokenProcessPool:
                    yield from self._after_death(pending)
                    self._submit(part)
            while self._running:
                yield from self._finished(pending)
        finally:
            self._end()

    def _parts(self, blocks: Iterable[Block], pending: dict[int, _Pending]) -> Iterator[Part]:
        for key, block in zip(count(), blocks):
            asked = tuple((block.pages[at], only) for at, only in block_pages(block, len(self.settings.questions)))
            pending[key] = _Pending(number=block.number, left=len(asked))
            for start in range(0, len(asked), self.together):
                yield Part(block=key, first=start, pages=asked[start : start + self.together])

    def _submit(self, part: Part) -> None:
        if self._pool is None:
            self._pool = ProcessPoolExecutor(
                self.workers, mp_context=get_context("spawn"), initializer=_begin, initargs=(self._make,)
            )
        self._running[self._pool.submit(_answered, part, self.settings)] = part

    def _finished(self, pending: dict[int, _Pending]) -> Iterator[BlockResult]:
        """Wait for parts, and yield the blocks that are whole with them."""
        done, _ = wait(self._running, return_when=FIRST_COMPLETED)
        if any(isinstance(future.exception(), BrokenProcessPool) for future in done):
            yield from self._after_death(pending)
            return
        for future in done:
            yield from self._take(self._running.pop(future), future.result(), pending)

    def _take(self, part: Part, answered: Answered, pending: dict[int, _Pending]) -> Iterator[BlockResult]:
        rows, warnings = answered
        block = pending[part.block]
        block.rows |= dict(enumerate(rows, start=part.first))
        block.warnings += warnings
        block.left -= len(rows)
        for _ in rows:
            self._on_page()
        if not block.left:
            yield pending.pop(part.block).result()

    def _after_death(self, pending: dict[int, _Pending]) -> Iterator[BlockResult]:
        """Answer what was under way page by page, one at a time, to find the page over which processes die."""
        wait(self._running)  # all end when one process dies
        left, self._running = self._running, {}
        self._end()
        for future, part in left.items():
            if future.exception() is None:
                yield from self._take(part, future.result(), pending)
                continue
            for single in part.alone():
                yield from self._take(single, self._alone(single), pending)

    def _alone(self, part: Part) -> Answered:
        for _ in range(MOST_TRIES):
            self._submit(part)
            try:
                return next(iter(self._running)).result()
            except BrokenProcessPool:
                self._end()
            finally:
                self._running.clear()
        error = CapacityError(f"{MOST_TRIES} processes {DIED}; use fewer --workers, or leave it out")
        (page, only), *_ = part.pages
        return [[row for at, row in enumerate(failed_rows(page, self.settings, error)) if at in only]], []

    def _end(self) -> None:
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)
            self._pool = None
        self._running.clear()


_here: list[Callable[[], Answerer] | Answerer] = []
"""In a process: what makes its answerer, and then the answerer."""


def _begin(make: Callable[[], Answerer]) -> None:
    """Begin a process: it ends with the command, whatever ends that, and leaves Ctrl-C to it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = parent_process()

    def watch() -> None:
        if parent is not None:
            with suppress(OSError):
                parent.join()
            os._exit(1)

    threading.Thread(target=watch, daemon=True, name="parent").start()
    Finalize(None, os._exit, args=(0,), exitpriority=0)  # taking torch apart takes nearly a second
    _here.append(make)


def _answered(part: Part, settings: ReadSettings) -> Answered:
    """Open and answer pages in a process. Raises: IxcError: the model cannot be loaded."""
    found = _here[0]
    if callable(found):
        try:
            _here[0] = found = found()
        except IxcError as error:
            raise CapacityError(str(error)) from None  # every one of them pickles so
    pages: Sequence[tuple[Page, frozenset[int]]] = part.pages
    with PageOpener(settings.rendering) as opener:
        opened = [opener.open(page) for page, _ in pages]
    warnings = [f"{each.page.name}: {text}" for each in opened for text in each.warnings]
    return found.rows(opened, [only for _, only in pages]), warnings
