"""The runner over processes: the rows of the local one, whatever dies; and no process outlives the command."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from PIL import Image

from ixc.apps.reading.answering import Answerer, EngineSpec
from ixc.apps.reading.local import LocalRunner
from ixc.apps.reading.opening import OpenedPage
from ixc.apps.reading.processes import MakeAnswerer, ProcessRunner
from ixc.apps.reading.records import Block, BlockResult, FileRef, Page, Question, ReadSettings, Row, failed_rows
from ixc.errors import CapacityError, ImageError

SETTINGS = ReadSettings(questions=(Question(text="How wide?"), Question(text="How high?")), model="sizes")


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """Makes itself; answers with the sides of a page, and dies over a width of `deadly`, always or once."""

    deadly: int | None = None
    once: Path | None = None

    def __call__(self) -> Answerer:
        return self

    def rows(self, opened: Sequence[OpenedPage], only: Sequence[frozenset[int]] | None = None) -> list[list[Row]]:
        return [self._rows(each, None if only is None else only[at]) for at, each in enumerate(opened)]

    def _rows(self, opened: OpenedPage, only: frozenset[int] | None) -> list[Row]:
        if opened.image is None:
            found = failed_rows(opened.page, SETTINGS, opened.error)
        else:
            if opened.image.width == self.deadly and not (self.once and self.once.exists()):
                if self.once:
                    self.once.touch()
                os.kill(os.getpid(), signal.SIGKILL)
            found = [
                Row(
                    file=opened.page.file.name, page=1, question=question.text, column=question.column, answer=str(side)
                )
                for question, side in zip(SETTINGS.questions, opened.image.size, strict=True)
            ]
        return [row for at, row in enumerate(found) if only is None or at in only]


class Unloadable:
    """Makes nothing."""

    def __call__(self) -> Answerer:
        raise ImageError("no weights here")


@pytest.fixture
def blocks(tmp_path: Path) -> list[Block]:
    """Four blocks of five pages, 100 to 119 px wide; one is no picture."""
    pages = []
    for number in range(20):
        path = tmp_path / f"{number:02d}.png"
        if number == 13:
            path.write_bytes(b"no picture")
        else:
            Image.new("RGB", (100 + number, 50)).save(path)
        pages.append(Page(file=FileRef(name=path.name, container=str(path)), number=1))
    return [Block(number=at, pages=tuple(pages[5 * at : 5 * at + 5])) for at in range(4)]


def by_number(results: Iterator[BlockResult]) -> dict[int, BlockResult]:
    found: dict[int, BlockResult] = {}
    for result in results:
        assert result.number not in found, f"block {result.number} twice"
        found[result.number] = replace(result, rows=[replace(row, seconds=None) for row in result.rows])
    return found


def locally(blocks: Sequence[Block]) -> dict[int, BlockResult]:
    return by_number(LocalRunner(Sizes(), SETTINGS, together=3).run(iter(blocks)))


def test_process_runner_gives_the_rows_of_the_local_one(blocks: list[Block]) -> None:
    told: list[int] = []
    blocks[2] = replace(blocks[2], only=frozenset({(0, 1), (3, 0)}))
    runner = ProcessRunner(Sizes(), SETTINGS, workers=2, together=3, on_page=lambda: told.append(1))
    assert by_number(runner.run(iter(blocks))) == locally(blocks)
    assert len(told) == 17


def test_process_runner_fails_the_page_that_kills_its_process_twice(blocks: list[Block]) -> None:
    found = by_number(ProcessRunner(Sizes(deadly=107), SETTINGS, workers=2, together=3).run(iter(blocks)))
    lost = [row for each in found.values() for row in each.rows if "processes died over it" in (row.error or "")]
    assert [(row.file, row.question) for row in lost] == [("07.png", "How wide?"), ("07.png", "How high?")]
    for result in locally(blocks).values():
        others = [row for row in result.rows if row.file != "07.png"]
        assert [row for row in found[result.number].rows if row.file != "07.png"] == others


def test_process_runner_repeats_what_a_dead_process_had(blocks: list[Block], tmp_path: Path) -> None:
    sizes = Sizes(deadly=107, once=tmp_path / "died")
    assert by_number(ProcessRunner(sizes, SETTINGS, workers=2, together=3).run(iter(blocks))) == locally(blocks)
    assert (tmp_path / "died").exists()


def test_process_runner_tells_why_no_process_can_answer(blocks: list[Block]) -> None:
    with pytest.raises(CapacityError, match="no weights here"):
        list(ProcessRunner(Unloadable(), SETTINGS, workers=1).run(iter(blocks)))


def test_make_answerer_loads_the_model_of_the_run(blocks: list[Block]) -> None:
    settings = replace(SETTINGS, options={"hd": 1, "max_new_tokens": 2})
    make = MakeAnswerer(engine=EngineSpec(device="cpu"), settings=settings)
    (found,) = ProcessRunner(make, settings, workers=1).run([replace(blocks[0], pages=blocks[0].pages[:1])])
    assert [(row.error, bool(row.tokens)) for row in found.rows] == [(None, True)] * 2


COMMAND = """
import sys
from pathlib import Path
sys.path.insert(0, {folder!r})
from test_reading_processes import SETTINGS, Sizes
from ixc.apps.reading.processes import ProcessRunner
from ixc.apps.reading.records import Block, FileRef, Page
if __name__ == "__main__":
    page = Page(file=FileRef(name="x", container={picture!r}), number=1)
    for _ in ProcessRunner(Sizes(), SETTINGS, workers=2).run(Block(number=n, pages=(page,)) for n in range(10**9)):
        print("block", flush=True)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="kills by signals")
def test_process_runner_leaves_no_process_behind_a_killed_command(tmp_path: Path) -> None:
    psutil = pytest.importorskip("psutil", reason="psutil is not installed")
    Image.new("RGB", (20, 10)).save(tmp_path / "x.png")
    script = tmp_path / "command.py"
    script.write_text(COMMAND.format(folder=str(Path(__file__).parent), picture=str(tmp_path / "x.png")))
    with subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE) as command:
        assert command.stdout is not None
        assert command.stdout.readline() == b"block\n"
        below = psutil.Process(command.pid).children(recursive=True)
        assert len(below) >= 2
        command.kill()
        command.stdout.close()
    end = time.monotonic() + 20
    while any(each.is_running() and each.status() != psutil.STATUS_ZOMBIE for each in below):
        assert time.monotonic() < end, "a process lives on"
        time.sleep(0.1)
