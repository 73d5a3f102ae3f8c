"""The runner in this process: pages are drawn in one thread while the model answers in another.

blocks --thread: PageOpener--> OpenedPage, a few at a time --this thread: Answerer--> BlockResult
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

from ixc.apps.reading.answering import Answerer
from ixc.apps.reading.opening import OpenedPage, PageOpener
from ixc.apps.reading.records import Block, BlockResult, ReadSettings, Row

PAGES_TOGETHER = 8
"""Pages whose questions are answered together."""


class LocalRunner:
    """Answers blocks in this process, one after the other.

    Args:
        answerer: makes what answers; called at the first page.
        settings: of the run.
        together: pages answered together, >= 1.
    """

    def __init__(
        self, answerer: Callable[[], Answerer], settings: ReadSettings, *, together: int = PAGES_TOGETHER
    ) -> None:
        self._make, self.settings, self.together = answerer, settings, together
        self._answerer: Answerer | None = None

    def run(self, blocks: Iterable[Block]) -> Iterator[BlockResult]:
        """Answer the blocks in their order."""
        with PageOpener(self.settings.rendering) as opener:
            for block in blocks:
                yield self._run_block(block, opener)

    def _run_block(self, block: Block, opener: PageOpener) -> BlockResult:
        rows: list[Row] = []
        warnings: list[str] = []
        asked = block_pages(block, len(self.settings.questions))
        for start in range(0, len(asked), self.together):
            part = asked[start : start + self.together]
            opened = [opener.open(block.pages[at]) for at, _ in part]
            warnings += [f"{each.page.name}: {text}" for each in opened for text in each.warnings]
            rows += self._answer(opened, [questions for _, questions in part])
        return BlockResult(number=block.number, rows=rows, warnings=tuple(warnings))

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
