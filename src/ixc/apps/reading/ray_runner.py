"""The runner on Ray: pages are opened in one pool of actors and answered in another, whose actors hold the model.

    blocks --units of 16 pages--> open --pixels--> answer --rows--> BlockResult, when all are there

The driver sees pages and rows, never pixels. A unit is answered in the groups of pages that the local runner answers
together, so that the answers are the same. Files are opened where the worker runs: paths must exist on every node.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any

from ixc.apps.reading.answering import Answerer, EngineAnswerer, EngineSpec
from ixc.apps.reading.local import PAGES_TOGETHER, block_pages
from ixc.apps.reading.opening import OpenedPage, PageOpener
from ixc.apps.reading.records import Block, BlockResult, Page, ReadSettings, Row, failed_rows
from ixc.cluster.stages import Done, Resources, Stages, run
from ixc.cluster.workers import Work
from ixc.errors import IxcError

GROUPS = 2
"""Groups of pages in a unit: Ray Data costs some 50 ms of CPU a unit (dev/LOG.md), and a dead worker its unit."""

MAX_OPENED = 128 << 20
"""Bytes of pixels that one unit sends from the opening to the answering stage; pages beyond them are opened by the
worker that answers, so that no object is larger than this and one page."""


@dataclass(frozen=True, kw_only=True)
class Asked:
    """A page on its way to the answering stage."""

    page: Page
    """The page."""
    only: frozenset[int]
    """Indices of the questions to ask."""
    opened: OpenedPage | None = None
    """Its picture; None: the answering worker opens it."""


@dataclass(frozen=True, kw_only=True)
class OpenPages:
    """Makes what opens pages."""

    settings: ReadSettings
    """Of the run."""

    def __call__(self) -> Work:
        """Return pages without pictures -> pages with pictures, up to `MAX_OPENED` bytes of them."""

        def opened(parts: Sequence[Asked]) -> list[Asked]:
            found, size = [], 0
            with PageOpener(self.settings.rendering) as opener:
                for part in parts:
                    if size < MAX_OPENED:
                        part = replace(part, opened=opener.open(part.page))
                        size += _bytes(part.opened)
                    found.append(part)
            return found

        return opened


@dataclass(frozen=True, kw_only=True)
class AnswerPages:
    """Makes what answers pages: loads the model."""

    engine: EngineSpec
    """The model; its folder is absolute."""
    settings: ReadSettings
    """Of the run."""
    threads: int = 1
    """Threads of a worker, >= 1."""
    together: int = PAGES_TOGETHER
    """Pages answered together, >= 1."""

    def __call__(self) -> Work:
        """Return pages -> (rows, warnings) of each."""
        return answering(self._answerer(), self.settings, together=self.together)

    def _answerer(self) -> Answerer:
        use_threads(self.threads)
        return EngineAnswerer(self.engine.load(), self.settings)


@dataclass(frozen=True, kw_only=True)
class ModelCheck:
    """Checks on a node that it has the model."""

    folder: str | None
    """Folder of the model, absolute; None = the embedded model."""
    fingerprint: str
    """Of the driver's."""

    def __call__(self) -> str | None:
        """Return why the node cannot answer; None where it can."""
        from ixc.inference.model_folder import find_folder, fingerprint

        if self.folder is not None and not Path(self.folder).is_dir():
            return f"no folder {self.folder} there; copy the model to that path on every node, or share it"
        try:
            theirs = fingerprint(find_folder(self.folder))
        except (IxcError, OSError) as error:
            return f"its model cannot be read ({error}); copy it again"
        if theirs != self.fingerprint:
            return (
                f"its model {self.folder or 'in the package'} is {theirs}, here it is {self.fingerprint}; copy it again"
            )
        return None


class RayRunner:
    """Answers blocks on Ray.

    Args:
        engine: how a worker loads its model.
        settings: of the run.
        resources: of one worker.
        connected: connects to Ray for a run, as `cluster.session.connect`; None = this process is connected.
        together: pages answered together, >= 1.
        on_page: called for every page that was answered, a unit at a time.
    """

    def __init__(
        self,
        engine: EngineSpec,
        settings: ReadSettings,
        resources: Resources | None = None,
        *,
        connected: Callable[[], AbstractContextManager[None]] | None = None,
        together: int = PAGES_TOGETHER,
        on_page: Callable[[], None] = lambda: None,
    ) -> None:
        self.settings, self.together, self._on_page = settings, together, on_page
        self._connected = connected or nullcontext
        self.resources = resources or Resources()
        folder = None if engine.folder is None else str(Path(engine.folder).resolve())
        self.stages = Stages(
            prepare=OpenPages(settings=settings),
            finish=AnswerPages(
                engine=replace(engine, folder=folder),
                settings=settings,
                threads=max(1, int(self.resources.cpus)),
                together=together,
            ),
        )

    def run(self, blocks: Iterable[Block]) -> Iterator[BlockResult]:
        """Answer the blocks in any order; without any, nothing is connected. Errors as of `cluster.stages.run`."""
        blocks = iter(blocks)
        if (first := next(blocks, None)) is None:
            return
        pending = _Pending()
        with self._connected():
            for done in run(self._units(chain((first,), blocks), pending), self.stages, self.resources):
                for _ in done.parts:
                    self._on_page()
                if (result := pending.take(done, self.settings)) is not None:
                    yield result

    def _units(self, blocks: Iterable[Block], pending: _Pending) -> Iterator[list[Asked]]:
        for block in blocks:
            asked = [
                Asked(page=_absolute(block.pages[at]), only=only)
                for at, only in block_pages(block, len(self.settings.questions))
            ]
            size = GROUPS * self.together
            units = [asked[start : start + size] for start in range(0, len(asked), size)]
            pending.expect(block.number, len(units))
            yield from units


class _Pending:
    """Puts the units of a block together again."""

    def __init__(self) -> None:
        self._block_of: dict[int, tuple[int, int]] = {}
        self._found: dict[int, list[Done | None]] = {}
        self._next = 0

    def expect(self, block: int, units: int) -> None:
        """Announce the next units of the run: those of a block."""
        self._found[block] = [None] * units
        for position in range(units):
            self._block_of[self._next] = block, position
            self._next += 1

    def take(self, done: Done, settings: ReadSettings) -> BlockResult | None:
        """Return the result of the unit's block where this was its last unit."""
        block, position = self._block_of.pop(done.number)
        self._found[block][position] = done
        units = [each for each in self._found[block] if each is not None]
        if len(units) < len(self._found[block]):
            return None
        del self._found[block]
        rows: list[Row] = []
        warnings: list[str] = []
        for part, outcome in ((p, o) for each in units for p, o in zip(each.parts, each.outcomes, strict=True)):
            own, told = _lost(part, outcome, settings) if isinstance(outcome, IxcError) else outcome
            rows += own
            warnings += told
        return BlockResult(number=block, rows=rows, warnings=tuple(warnings))


def answering(answerer: Answerer, settings: ReadSettings, *, together: int = PAGES_TOGETHER) -> Work:
    """Return pages -> (rows, warnings) of each; pages that came unopened are opened here.

    Args:
        answerer: answers opened pages.
        settings: of the run.
        together: pages answered together, >= 1.
    """

    def answered(parts: Sequence[Asked]) -> list[tuple[list[Row], list[str]]]:
        groups = (parts[start : start + together] for start in range(0, len(parts), together))
        return [result for group in groups for result in answered_together(group)]

    def answered_together(parts: Sequence[Asked]) -> list[tuple[list[Row], list[str]]]:
        with PageOpener(settings.rendering) as opener:
            opened = [part.opened or opener.open(part.page) for part in parts]
        rows = answerer.rows(opened, [part.only for part in parts])
        warnings = [[f"{each.page.name}: {text}" for text in each.warnings] for each in opened]
        return list(zip(rows, warnings, strict=True))

    return answered


def use_threads(count: int) -> None:
    """Let torch use so many threads; Ray sets OMP_NUM_THREADS to the whole cores of an actor, 1 of 1.75."""
    os.environ["OMP_NUM_THREADS"] = str(count)
    import torch

    torch.set_num_threads(count)


def _lost(part: Asked, error: IxcError, settings: ReadSettings) -> tuple[list[Row], list[str]]:
    rows = failed_rows(part.page, settings, error)
    return [row for index, row in enumerate(rows) if index in part.only], []


def _absolute(page: Page) -> Page:
    """A worker has another working folder; the name in the results stays."""
    if "://" in page.file.container:
        return page
    return replace(page, file=replace(page.file, container=str(Path(page.file.container).absolute())))


def _bytes(opened: OpenedPage | None) -> int:
    image: Any = None if opened is None else opened.image
    return 0 if image is None else image.width * image.height * 3
