"""The folder of a run over many pages: log, result files, manifest; the same command goes on in it.

    OUT/log.jsonl     settings, planned blocks, done blocks (`run_log.py`)
    OUT/rows/             block-000000.parquet, ...: one file a block, nothing else
    OUT/manifest.json     settings, result files with their checksums, totals; written when a run ends

    list_files --thread: plan--> log --blocks--> Runner --write--> rows/ --> log

Listing runs in a thread ahead of the answers, so that the number of pages is known early; what it finds is on the disk.
"""

from __future__ import annotations

import json
import queue
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import Any

from ixc.apps.reading import mending, result_files
from ixc.apps.reading.listing import blocks_of
from ixc.apps.reading.records import Block, BlockResult, Page, ReadSettings, Row
from ixc.apps.reading.run_log import DoneBlock, RunLog, full
from ixc.errors import UsageError
from ixc.inference.sampling import GREEDY
from ixc.utils.counted import counted
from ixc.utils.files import atomic_write

MANIFEST_VERSION = 1
"""Version of manifest.json."""

BLOCK_PAGES = 32
"""Pages of a block where the caller says nothing: what a kill may cost to answer again."""


@dataclass(frozen=True, kw_only=True)
class Totals:
    """How far a run is."""

    pages: int
    """Pages planned so far."""
    listed: bool
    """Whether these are all."""
    done_pages: int
    """Pages in result files."""
    rows: int
    """Rows in result files."""
    failed: int
    """Rows with an error."""


class RunFolder:
    """An open run.

    Args:
        folder: made if missing.
        settings: of the run.
        form: format of the result files, one of `result_files.FORMATS`.
        sources: what was named, for JSON: another list is another run.
        block_pages: pages of a block, >= 1.

    Raises:
        UsageError: it holds another run, something else, or is in use.
    """

    def __init__(
        self,
        folder: Path,
        settings: ReadSettings,
        *,
        form: str = "parquet",
        sources: Mapping[str, Any] | None = None,
        block_pages: int = BLOCK_PAGES,
    ) -> None:
        self.folder, self.settings, self.form, self.block_pages = folder, settings, form, block_pages
        self.rows_folder = folder / "rows"
        self._described = {**_described(settings), "format": form, "block_pages": block_pages, **(sources or {})}
        _make(folder, self.rows_folder)
        self.log = RunLog(folder / "log.jsonl", self._described)
        try:
            self._drop_damaged()
        except BaseException:
            self.log.close()
            raise

    # -- pages ---------------------------------------------------------------------------------------------------------

    def blocks(
        self,
        pages: Callable[[], Iterable[Page]],
        *,
        retry_failed: bool = False,
        numbers: tuple[int, ...] | None = None,
    ) -> Iterator[Block]:
        """Yield the blocks that are not done: those planned earlier, then those planned now in a thread.

        Args:
            pages: lists all pages anew, in the same order; called only where an earlier run had not listed them all.
            retry_failed: behind them also the blocks that an earlier run left with failed rows, those rows alone. A
                document that could not be opened and now can gets all its pages: what its block does not hold stands
                in blocks of its own.
            numbers: pages of documents that are read, as `listing.pages_of`.

        Raises:
            UsageError: 0 pages, or the last page listed earlier is gone.
        """
        earlier = range(self.log.blocks)
        failed = [at for at in earlier if retry_failed and at in self.log.done and self.log.done[at].failed]
        yield from (self.log.block(at) for at in earlier if at not in self.log.done)
        if not self.log.listed:
            yield from self._planned(pages)
        if failed:
            behind = self.log.blocks
            yield from (self._failed_part(at, numbers) for at in failed)
            yield from (self.log.block(at) for at in range(behind, self.log.blocks))

    def _planned(self, pages: Callable[[], Iterable[Page]]) -> Iterator[Block]:
        """Plan the blocks of the pages not planned yet, in a thread ahead of the answers."""
        planned: queue.SimpleQueue[int | BaseException | None] = queue.SimpleQueue()
        ended = threading.Event()
        thread = threading.Thread(target=self._plan, args=(pages, planned, ended), daemon=True)
        thread.start()
        try:
            while (found := planned.get()) is not None:
                if isinstance(found, BaseException):
                    raise found
                yield self.log.block(found)
        finally:
            ended.set()
            thread.join()

    def _plan(
        self,
        pages: Callable[[], Iterable[Page]],
        planned: queue.SimpleQueue[int | BaseException | None],
        ended: threading.Event,
    ) -> None:
        try:
            for block in blocks_of(self._rest(pages()), size=self.block_pages, first=self.log.blocks):
                if ended.is_set():
                    return
                self.log.add_block(block)
                planned.put(block.number)
            if not self.log.pages:
                raise UsageError("0 pages found; name PDFs, pictures, folders or archives that hold some")
            self.log.add_listed()
            planned.put(None)
        except BaseException as error:
            planned.put(error)

    def _rest(self, pages: Iterable[Page]) -> Iterator[Page]:
        """Pass over the pages that were planned earlier, up to the last one."""
        last, found = self.log.last, False
        for page in pages:
            if last is None or found:
                yield page
            elif (page.file.name, page.number) == (last.file.name, last.number):
                found = True
        if last is not None and not found:
            raise UsageError(f"{last.name}, the last page listed before, is gone; put it back, or choose another --out")

    def _failed_part(self, number: int, numbers: tuple[int, ...] | None) -> Block:
        """Return the block with its failed questions alone, and plan the pages of documents that were mended."""
        block = self._mended(self.log.block(number), numbers)
        answered = {row.key for row in self.read_rows(number) if row.error is None}
        only = {
            (at, index)
            for at, page in enumerate(block.pages)
            for index, question in enumerate(self.settings.questions)
            if (page.file.name, page.number, question.text) not in answered
        }
        pages = tuple(replace(page, error=None) if mending.is_document(page) else page for page in block.pages)
        return Block(number=number, pages=pages, only=frozenset(only))

    def _mended(self, block: Block, numbers: tuple[int, ...] | None) -> Block:
        """Return the block with the first pages of the documents that can be opened now; plan the others behind."""
        following = self.log.block(block.number + 1).pages[:1] if block.number + 1 < self.log.blocks else ()
        pages, further = mending.mended(block.pages, following, numbers=numbers)
        if pages == block.pages:
            return block
        found = Block(number=block.number, pages=pages)
        self.log.replace_block(found, [each.pages for each in blocks_of(further, size=self.block_pages)])
        return found

    # -- rows ----------------------------------------------------------------------------------------------------------

    def write(self, result: BlockResult) -> list[Row]:
        """Write the rows of a block; they count when this returns. Return all rows of the block.

        Raises:
            DataError: they cannot be written; nothing of them is left. ValueError: rows missing or double.
        """
        rows = self._whole(result)
        path = self.rows_folder / self._name(result.number)
        try:
            checksum = result_files.write_file(path, result_files.encode(rows, self.form))
        except OSError as error:
            raise full(path, error) from error
        failed = sum(row.error is not None for row in rows)
        done = DoneBlock(file=path.name, sha256=checksum, rows=len(rows), failed=failed)
        self.log.add_done(result.number, done)
        return rows

    def _whole(self, result: BlockResult) -> list[Row]:
        """Return exactly one row for every page and question of the block, in order."""
        block = self.log.block(result.number)
        keys = [(page.file.name, page.number, q.text) for page in block.pages for q in self.settings.questions]
        found = {row.key: row for row in result.rows}
        if len(found) != len(result.rows):
            raise ValueError(f"block {result.number}: {len(result.rows) - len(found)} rows are double")
        if result.number in self.log.done:
            found = {row.key: row for row in self.read_rows(result.number)} | found
            found = {key: found[key] for key in keys if key in found}  # a document mended has other pages
        if set(keys) != set(found):
            raise ValueError(f"block {result.number} has {len(found)} of {len(keys)} rows")
        return [found[key] for key in keys]

    def read_rows(self, number: int) -> list[Row]:
        """Return the rows of a done block."""
        return result_files.decode((self.rows_folder / self._name(number)).read_bytes(), self.form)

    def all_rows(self) -> Iterator[list[Row]]:
        """Yield the rows of the done blocks, in order."""
        for number in sorted(self.log.done):
            yield self.read_rows(number)

    def first_failure(self) -> Row:
        """Return the first row with an error; there must be one."""
        number = min(number for number, done in self.log.done.items() if done.failed)
        return next(row for row in self.read_rows(number) if row.error is not None)

    def _name(self, number: int) -> str:
        return f"block-{number:06d}.{self.form}"

    def _drop_damaged(self) -> None:
        """Forget blocks whose file is not the one that was written, and delete files that count for nothing."""
        for number, done in list(self.log.done.items()):
            path = self.rows_folder / done.file
            if not path.is_file() or _checksum(path) != done.sha256:
                del self.log.done[number]
        kept = {done.file for done in self.log.done.values()}
        for path in self.rows_folder.iterdir():
            if path.name not in kept and (path.name.startswith("block-") or path.name.endswith(".partial")):
                path.unlink()

    # -- totals --------------------------------------------------------------------------------------------------------

    def totals(self) -> Totals:
        """Return how far the run is."""
        done, questions = self.log.done.values(), len(self.settings.questions)
        rows = sum(each.rows for each in done)
        return Totals(
            pages=self.log.pages,
            listed=self.log.listed,
            done_pages=rows // questions,
            rows=rows,
            failed=sum(each.failed for each in done),
        )

    def write_manifest(self) -> None:
        """Write manifest.json from the log. Raises: DataError: it cannot be written."""
        totals, path = self.totals(), self.folder / "manifest.json"
        complete = totals.listed and len(self.log.done) == self.log.blocks
        manifest = {
            "version": MANIFEST_VERSION,
            "complete": complete,
            **{name: value for name, value in asdict(totals).items() if name != "listed"},
            "settings": self._described,
            "columns": {name: kind for name, (kind, _) in result_files.SCHEMA.items()},
            "files": [
                {"block": number, **asdict(done), "file": f"rows/{done.file}"}
                for number, done in sorted(self.log.done.items())
            ],
        }
        try:
            atomic_write(path, json.dumps(manifest, ensure_ascii=False, indent=1) + "\n")
        except OSError as error:
            raise full(path, error) from error

    def close(self) -> None:
        """Let another process have the folder."""
        self.log.close()

    def __enter__(self) -> RunFolder:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _make(folder: Path, rows: Path) -> None:
    if folder.is_dir() and any(folder.iterdir()) and not (folder / "log.jsonl").exists():
        raise UsageError(
            f"{folder} holds {counted(len(list(folder.iterdir())), 'entry', 'entries')} and no run of ixc read; "
            "choose a new folder for --out"
        )
    try:
        rows.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"{folder} cannot be made ({error.strerror}); choose another --out") from error


def _described(settings: ReadSettings) -> dict[str, Any]:
    """Return the settings for JSON: what was not chosen is left out."""
    options = {name: value for name, value in settings.options.items() if value not in (None, (), "")}
    if (sampling := options.pop("sampling", GREEDY)) != GREEDY:
        options["sampling"] = asdict(sampling)
    questions = [
        {name: value for name, value in asdict(each).items() if value not in (None, "")} for each in settings.questions
    ]
    return {
        "questions": questions,
        "model": settings.model,
        "dpi": settings.rendering.dpi,
        "scan_pixels": settings.rendering.scan_pixels,
        **options,
    }


def _checksum(path: Path) -> str:
    with path.open("rb") as file:
        seen = sha256()
        while part := file.read(1 << 20):
            seen.update(part)
    return seen.hexdigest()
