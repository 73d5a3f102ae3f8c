"""The runner on Ray: the rows of the local runner, whatever dies. One Ray of two cores; what answers needs no model."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from PIL import Image

pytest.importorskip("ray", reason="needs the extra ray")

from ixc.apps.reading import ray_runner
from ixc.apps.reading.answering import Answerer, EngineSpec
from ixc.apps.reading.local import LocalRunner
from ixc.apps.reading.opening import OpenedPage
from ixc.apps.reading.ray_runner import AnswerPages, ModelCheck, RayRunner
from ixc.apps.reading.records import Block, BlockResult, FileRef, Page, Question, ReadSettings, Row, failed_rows
from ixc.cluster import session
from ixc.errors import CapacityError
from ixc.inference.model_folder import EMBEDDED, fingerprint

pytestmark = pytest.mark.slow
"""A cluster of its own takes tens of seconds, and two at once on two cores starve each other's nodes."""

SETTINGS = ReadSettings(questions=(Question(text="How wide?"), Question(text="How high?")), model="sizes")


class Sizes:
    """Answers with the sides of the page; over a picture of `deadly` pixels its process ends, as without memory."""

    def __init__(self, deadly: int | None = None) -> None:
        self.deadly = deadly

    def rows(self, opened: Sequence[OpenedPage], only: Sequence[frozenset[int]] | None = None) -> list[list[Row]]:
        return [self._rows(each, None if only is None else only[number]) for number, each in enumerate(opened)]

    def _rows(self, opened: OpenedPage, only: frozenset[int] | None) -> list[Row]:
        if opened.image is None:
            found = failed_rows(opened.page, SETTINGS, opened.error)
        elif opened.image.width * opened.image.height == self.deadly:
            os.kill(os.getpid(), signal.SIGKILL)
        else:
            name, page = opened.page.file.name, opened.page.number
            found = [
                Row(file=name, page=page, question=question.text, column=question.column, answer=str(side))
                for question, side in zip(SETTINGS.questions, opened.image.size, strict=True)
            ]
        return [row for at, row in enumerate(found) if only is None or at in only]


@dataclass(frozen=True, kw_only=True)
class SizePages(AnswerPages):
    """Makes `Sizes` in a worker."""

    deadly: int | None = None

    def _answerer(self) -> Answerer:
        return Sizes(self.deadly)


@pytest.fixture(scope="module", autouse=True)
def _ray() -> Iterator[None]:
    with session.connect("local", cpus=2, object_store=100 << 20):
        import ray

        ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])  # workers do not find modules of tests
        yield


@pytest.fixture(scope="module")
def blocks(tmp_path_factory: pytest.TempPathFactory) -> list[Block]:
    """Five blocks of ten pages, 100 to 149 px wide; one of them is no picture, one is not there."""
    folder = tmp_path_factory.mktemp("pages")
    pages = []
    for number in range(50):
        path = folder / f"{number:02d}.png"
        if number == 13:
            path.write_bytes(b"no picture")
        elif number != 31:
            Image.new("RGB", (100 + number, 50)).save(path)
        pages.append(Page(file=FileRef(name=path.name, container=str(path)), number=1))
    return [Block(number=at, pages=tuple(pages[10 * at : 10 * at + 10])) for at in range(5)]


def on_ray(blocks: Sequence[Block], deadly: int | None = None) -> dict[int, BlockResult]:
    runner = RayRunner(EngineSpec(), SETTINGS, together=4)
    runner.stages = replace(runner.stages, finish=SizePages(engine=EngineSpec(), settings=SETTINGS, deadly=deadly))
    return by_number(runner.run(iter(blocks)))


def by_number(results: Iterator[BlockResult]) -> dict[int, BlockResult]:
    """The results, each block once, without times."""
    found: dict[int, BlockResult] = {}
    for result in results:
        assert result.number not in found, f"block {result.number} twice"
        found[result.number] = replace(result, rows=[replace(row, seconds=None) for row in result.rows])
    return found


def locally(blocks: Sequence[Block]) -> dict[int, BlockResult]:
    return by_number(LocalRunner(Sizes, SETTINGS, together=4).run(iter(blocks)))


def test_ray_runner_gives_the_rows_of_the_local_one(blocks: list[Block]) -> None:
    found = on_ray(blocks)
    assert found == locally(blocks)
    assert sum(row.error is not None for each in found.values() for row in each.rows) == 4  # of two pages


def test_ray_runner_asks_only_what_a_block_names(blocks: list[Block]) -> None:
    some = [replace(blocks[2], only=frozenset({(0, 1), (7, 0), (7, 1)}))]
    found = on_ray(some)
    assert found == locally(some)
    assert len(found[2].rows) == 3


def test_ray_runner_fails_the_page_that_kills_its_worker_twice(blocks: list[Block]) -> None:
    found, expected = on_ray(blocks, deadly=122 * 50), locally(blocks)
    lost = [row for each in found.values() for row in each.rows if "workers died" in (row.error or "")]
    assert [(row.file, row.question) for row in lost] == [("22.png", "How wide?"), ("22.png", "How high?")]
    for result in expected.values():
        others = [row for row in result.rows if row.file != "22.png"]
        assert [row for row in found[result.number].rows if row.file != "22.png"] == others


def test_ray_runner_opens_large_pages_where_they_are_answered(
    blocks: list[Block], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ray_runner, "MAX_OPENED", 100 * 50 * 3)
    parts = [ray_runner.Asked(page=page, only=frozenset({0, 1})) for page in blocks[0].pages[:3]]
    opened = ray_runner.OpenPages(settings=SETTINGS)()(parts)
    assert [each.opened is not None for each in opened] == [True, False, False]
    answered = ray_runner.answering(Sizes(), SETTINGS)(opened)
    assert [rows[0].answer for rows, _ in answered] == ["100", "101", "102"]


def test_ray_runner_without_a_block_connects_to_nothing() -> None:
    def connected() -> None:
        raise AssertionError("connected")

    runner = RayRunner(EngineSpec(), SETTINGS, connected=connected)  # pyright: ignore[reportArgumentType]
    assert list(runner.run(iter(()))) == []


def test_ray_runner_sends_absolute_paths_and_keeps_names(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    page = Page(file=FileRef(name="a.png", container="a.png"), number=1)
    found = ray_runner._absolute(page)
    assert (found.file.name, found.file.container) == ("a.png", str(tmp_path / "a.png"))
    remote = Page(file=FileRef(name="s3://b/a.png", container="s3://b/a.png"), number=1)
    assert ray_runner._absolute(remote) == remote


def test_model_check_tells_what_a_node_lacks(tmp_path: Path) -> None:
    right = fingerprint(EMBEDDED)
    assert ModelCheck(folder=None, fingerprint=right)() is None
    assert "no folder /nowhere/model there; copy" in str(ModelCheck(folder="/nowhere/model", fingerprint=right)())
    assert "cannot be read" in str(ModelCheck(folder=str(tmp_path), fingerprint=right)())
    assert f"{right}, here it is other; copy" in str(ModelCheck(folder=None, fingerprint="other")())


def test_connect_names_the_node_that_lacks_the_model() -> None:
    with (
        pytest.raises(CapacityError, match=r"1 of 1 node cannot do the work; .*: no folder /nowhere/model there"),
        session.connect("local", check=ModelCheck(folder="/nowhere/model", fingerprint="")),
    ):
        raise AssertionError("connected")
