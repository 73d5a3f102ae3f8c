"""The log of a run: its settings, the blocks that were planned and those whose result file is whole.

    {"ixc read": 3, "settings": {...}}                                       first line
    {"block": 7, "pages": [[file, first, last, ...], ...]}                   planned: its pages never change again
    {"done": 7, "file": "block-000007.parquet", "sha256": "...", ...}        written behind the renamed result file
    {"listed": 40, "pages": 1279}                                            every page is planned
    {"again": 7, "pages": [...], "further": [[...], ...]}                    other pages of a block, and blocks behind

A block counts once its line "done" is here and its file has the checksum told there. What a kill left besides, a torn
last line or a result file without its line, is dropped and that block answered again: so every block is there exactly
once. The log alone grows with the run; of a planned block the process holds one number.
"""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import groupby
from pathlib import Path
from typing import Any, BinaryIO

from ixc.apps.reading.records import Block, FileRef, Page
from ixc.errors import DataError, UsageError

try:
    import fcntl
except ImportError:  # Windows: two drivers of one folder are not told apart there
    fcntl = None

VERSION = 3
"""Version of the log; a `.state` file of `--out FILE` has version 2."""


@dataclass(frozen=True, kw_only=True)
class DoneBlock:
    """A block whose result file is whole."""

    file: str
    """Name of the result file."""
    sha256: str
    """Of its bytes."""
    rows: int
    """Rows in it."""
    failed: int
    """Rows with an error."""


class RunLog:
    """An open log; one process at a time has it. `add_...` may be called from several threads.

    Args:
        path: of the file; created if missing.
        settings: what the results depend on, for JSON.

    Raises:
        UsageError: it was written with other settings, is none, is in use, or cannot be written.
    """

    def __init__(self, path: Path, settings: Mapping[str, Any]) -> None:
        self.path = path
        self.done: dict[int, DoneBlock] = {}
        self.listed = False
        self.pages = 0
        self.last: Page | None = None
        """The last page that was planned."""
        self._places: list[int] = []
        self._further: dict[int, int] = {}
        self._lock = threading.Lock()
        self._settings = json.loads(json.dumps({"ixc read": VERSION, "settings": settings}))
        try:
            self._file: BinaryIO = path.open("a+b", buffering=0)
        except OSError as error:
            raise UsageError(f"{path} cannot be written ({error.strerror}); choose another --out") from error
        self._end = 0
        try:
            self._take()
            self._read()
        except BaseException:
            self._file.close()
            raise

    @property
    def blocks(self) -> int:
        """Blocks planned so far."""
        return len(self._places)

    def block(self, number: int) -> Block:
        """Return a planned block, read from the file."""
        line = b""
        place = self._places[number]
        while not line.endswith(b"\n"):
            line += os.pread(self._file.fileno(), 1 << 16, place + len(line))
            if (end := line.find(b"\n")) >= 0:
                line = line[: end + 1]
        found, place = json.loads(line), self._further.get(number)
        return Block(number=number, pages=tuple(_pages(found["pages"] if place is None else found["further"][place])))

    def add_block(self, block: Block) -> None:
        """Plan a block; it must be the next number."""
        assert block.number == len(self._places), "blocks are planned in order"
        place = self._write({"block": block.number, "pages": _runs(block.pages)})
        self._places.append(place)
        self.pages += len(block.pages)

    def add_listed(self) -> None:
        """Note that every page is planned."""
        self._write({"listed": len(self._places), "pages": self.pages})
        self.listed = True

    def replace_block(self, block: Block, further: Sequence[Sequence[Page]]) -> None:
        """Give a planned block other pages, and plan blocks behind the last one, in one line: a kill parts nothing.

        Args:
            block: with its new pages.
            further: pages of each further block. Every page must be listed.
        """
        before = len(self.block(block.number).pages)
        line = {"again": block.number, "pages": _runs(block.pages), "further": [_runs(pages) for pages in further]}
        self._place_again(block.number, self._write(line, sync=True), len(further))
        self.pages += len(block.pages) - before + sum(map(len, further))

    def _place_again(self, number: int, place: int, further: int) -> None:
        self._places[number] = place
        self._further.pop(number, None)
        for part in range(further):
            self._further[len(self._places)] = part
            self._places.append(place)

    def add_done(self, number: int, done: DoneBlock) -> None:
        """Note a block whose file is whole; the line is on the disk when this returns."""
        self._write({"done": number, **asdict(done)}, sync=True)
        self.done[number] = done

    def close(self) -> None:
        """Close the file, and let another process have it."""
        self._file.close()

    def _take(self) -> None:
        if fcntl is None:
            return
        try:
            fcntl.flock(self._file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise UsageError(
                f"{self.path.parent} is in use by another ixc read; wait for it, or choose another --out"
            ) from error

    def _write(self, line: Mapping[str, Any], *, sync: bool = False) -> int:
        """Append a line; return where it begins. Raises: DataError: no space; nothing of it is left."""
        data = json.dumps(line, ensure_ascii=False).encode("utf-8", "surrogateescape") + b"\n"
        with self._lock:
            place = self._end
            try:
                written = 0
                while written < len(data):
                    written += self._file.write(data[written:]) or 0
                if sync:
                    os.fsync(self._file.fileno())
            except OSError as error:
                os.ftruncate(self._file.fileno(), place)
                raise full(self.path, error) from error
            self._end = place + len(data)
            return place

    def _read(self) -> None:
        """Read what an earlier run left; a last line cut off by a kill is dropped."""
        self._file.seek(0)
        with open(self._file.fileno(), "rb", closefd=False) as stream:
            for raw in stream:
                if not raw.endswith(b"\n"):
                    break
                try:
                    line = json.loads(raw.decode("utf-8", "surrogateescape"))
                    self._take_line(line)
                except (ValueError, TypeError, KeyError, IndexError):
                    raise UsageError(
                        f"{self.path} is no log of ixc read; move it away or choose another --out"
                    ) from None
                self._end += len(raw)
        os.ftruncate(self._file.fileno(), self._end)
        if self._end == 0:
            self._write(self._settings, sync=True)
        elif self._places:
            self.last = self.block(len(self._places) - 1).pages[-1]

    def _take_line(self, line: dict[str, Any]) -> None:
        if self._end == 0:
            self._check_settings(line)
        elif "block" in line:
            self._places.append(self._end)
            self.pages += _count(line["pages"])
        elif "again" in line:
            number, further = line["again"], line["further"]
            self.pages += _count(line["pages"]) - len(self.block(number).pages) + sum(map(_count, further))
            self._place_again(number, self._end, len(further))
        elif "done" in line:
            number = line.pop("done")
            self.done[number] = DoneBlock(**line)
        elif "listed" in line:
            self.listed = True

    def _check_settings(self, found: dict[str, Any]) -> None:
        if found["ixc read"] != VERSION:
            raise UsageError(f"{self.path} has version {found['ixc read']}, {VERSION} needed; choose another --out")
        ours, theirs = self._settings["settings"], found["settings"]
        for key in {**ours, **theirs}:
            if ours.get(key) != theirs.get(key):
                raise UsageError(
                    f"{self.path.parent} was begun with another {key} ({_short(theirs.get(key))}, now "
                    f"{_short(ours.get(key))}); use the same, or choose another --out"
                )


def full(path: Path, error: OSError) -> DataError:
    """Return the error for a file that cannot be written."""
    return DataError(
        f"{path} cannot be written ({error.strerror or error}); make space and run the same command again, it goes on"
    )


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 80 else f"{text[:77]}..."


def _runs(pages: Sequence[Page]) -> list[list[Any]]:
    """Return runs of pages of one file as lists for JSON: [file fields, first, last, paged, error]."""
    found: list[list[Any]] = []
    for _, group in groupby(pages, key=lambda page: (page.file, page.paged, page.error)):
        run = list(group)
        file = list(asdict(run[0].file).values())
        for page in run:
            if found and found[-1][0] == file and found[-1][2] + 1 == page.number and page is not run[0]:
                found[-1][2] = page.number
            else:
                found.append([file, page.number, page.number, page.paged, page.error])
    return found


def _count(runs: Sequence[Sequence[Any]]) -> int:
    return sum(last - first + 1 for _, first, last, *_ in runs)


def _pages(runs: Sequence[Sequence[Any]]) -> Iterator[Page]:
    for file, first, last, paged, error in runs:
        ref = FileRef(**dict(zip(FileRef.__dataclass_fields__, file, strict=True)))
        for number in range(first, last + 1):
            yield Page(file=ref, number=number, paged=paged, error=error)
