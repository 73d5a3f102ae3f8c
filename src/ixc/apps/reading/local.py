"""The runner in this process: pages are drawn in one thread while the model answers in another.

    blocks --thread: PageOpener--> OpenedPage, at most AHEAD waiting --this thread: Answerer--> BlockResult

Blocks come back in their order.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field

from ixc.apps.reading.answering import Answerer
from ixc.apps.reading.opening import OpenedPage, PageOpener
from ixc.apps.reading.records import Block, BlockResult, ReadSettings, Row

PAGES_TOGETHER = 8
"""Pages whose questions are answered together."""

AHEAD = 2
"""Groups of pages drawn ahead of the model: an A4 page at 200 dpi has 11.6 MB."""

WAIT_SECONDS = 0.5
"""How often a waiting thread looks whether the run was ended."""


@dataclass(kw_only=True)
class _Part:
    """Pages of one block that are answered together."""

    block: Block
    opened: list[OpenedPage] = field(default_factory=list)
    only: list[frozenset[int]] = field(default_factory=list)
    """For every page the indices of the questions to ask."""
    last: bool = False
    """Whether the block ends with these pages."""


class LocalRunner:
    """Answers blocks in this process, one after the other.

    Args:
        answerer: makes what answers; called at the first page.
        settings: of the run.
        together: pages answered together, >= 1.
        on_page: called for every page that was answered.
    """

    def __init__(
        self,
        answerer: Callable[[], Answerer],
        settings: ReadSettings,
        *,
        together: int = PAGES_TOGETHER,
        on_page: Callable[[], None] = lambda: None,
    ) -> None:
        self._make, self.settings, self.together, self._on_page = answerer, settings, together, on_page
        self._answerer: Answerer | None = None

    def run(self, blocks: Iterable[Block]) -> Iterator[BlockResult]:
        """Answer the blocks in their order."""
        rows: list[Row] = []
        warnings: list[str] = []
        with closing(self._parts_ahead(blocks)) as parts:
            for part in parts:
                rows += self._answer(part.opened, part.only)
                warnings += [f"{each.page.name}: {text}" for each in part.opened for text in each.warnings]
                for _ in part.opened:
                    self._on_page()
                if part.last:
                    yield BlockResult(number=part.block.number, rows=rows, warnings=tuple(warnings))
                    rows, warnings = [], []

    def _parts_ahead(self, blocks: Iterable[Block]) -> Generator[_Part]:
        """Draw parts in a thread; an error there is raised here."""
        ready: queue.Queue[_Part | BaseException | None] = queue.Queue(maxsize=AHEAD)
        ended = threading.Event()

        def put(part: _Part | BaseException | None) -> None:
            while not ended.is_set():
                try:
                    return ready.put(part, timeout=WAIT_SECONDS)
                except queue.Full:
                    continue

        def draw() -> None:
            try:
                for part in self._parts(blocks):
                    put(part)
                    if ended.is_set():
                        return
                put(None)
            except BaseException as error:
                put(error)
            finally:
                if isinstance(blocks, Generator):
                    blocks.close()  # in this thread, which runs it

        thread = threading.Thread(target=draw, daemon=True, name="pages")
        thread.start()
        try:
            while (part := ready.get()) is not None:
                if isinstance(part, BaseException):
                    raise part
                yield part
        finally:
            ended.set()
            thread.join()

    def _parts(self, blocks: Iterable[Block]) -> Iterator[_Part]:
        with PageOpener(self.settings.rendering) as opener:
            for block in blocks:
                asked = block_pages(block, len(self.settings.questions))
                for start in range(0, len(asked), self.together):
                    group = asked[start : start + self.together]
                    yield _Part(
                        block=block,
                        opened=[opener.open(block.pages[at]) for at, _ in group],
                        only=[questions for _, questions in group],
                        last=start + self.together >= len(asked),
                    )

    def _answer(self, opened: Sequence[OpenedPage], only: Sequence[frozenset[int]]) -> list[Row]:
        if self._answerer is None:
            self._answerer = self._make()
        return [row for rows in self._answerer.rows(opened, only) for row in rows]


def block_pages(block: Block, questions: int) -> list[tuple[int, frozenset[int]]]:
    """Return the pages of a block that are asked about: (index of the page, indices of its questions).

    Args:
        block: the block.
        questions: of the run, how many.
    """
    if block.only is None:
        return [(at, frozenset(range(questions))) for at in range(len(block.pages))]
    found = [(at, frozenset(q for p, q in block.only if p == at)) for at in range(len(block.pages))]
    return [each for each in found if each[1]]
