"""A run over many pages: exactly one row a question and page, whatever died; bad input is a row, not the end."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from ixc.apps.reading import listing, result_files
from ixc.apps.reading.local import LocalRunner
from ixc.apps.reading.opening import OpenedPage, PageOpener
from ixc.apps.reading.records import Block, BlockResult, Page, Question, ReadSettings, Row, failed_row
from ixc.apps.reading.report import write_report
from ixc.apps.reading.run_folder import RunFolder
from ixc.apps.reading.run_log import RunLog
from ixc.apps.reading.sources import list_files
from ixc.apps.reading.wide import write_wide
from ixc.cluster.tries import DIED
from ixc.errors import DataError, UsageError

SETTINGS = ReadSettings(questions=(Question(text="How wide?", name="width"), Question(text="How high?")), model="stub")


class StubAnswerer:
    """Answers with the sizes of pages; a page of 13 px fails."""

    def __init__(self, seconds: float = 0.0) -> None:
        self.seconds, self.asked = seconds, 0

    def rows(self, opened: Sequence[OpenedPage], only: Sequence[frozenset[int]] | None = None) -> list[list[Row]]:
        time.sleep(self.seconds * len(opened))
        return [self._rows(each, None if only is None else only[at]) for at, each in enumerate(opened)]

    def _rows(self, opened: OpenedPage, only: frozenset[int] | None) -> list[Row]:
        found = []
        for index, question in enumerate(SETTINGS.questions):
            if only is not None and index not in only:
                continue
            self.asked += 1
            if opened.image is None:
                found.append(failed_row(opened.page, question, SETTINGS, opened.error))
                continue
            failed = opened.image.width == 13
            found.append(
                Row(
                    file=opened.page.file.name,
                    page=opened.page.number,
                    question=question.text,
                    column=question.column,
                    answer=None if failed else str(opened.image.size[index]),
                    error="13 px" if failed else None,
                    model="stub",
                    seconds=0.5,
                )
            )
        return found


def pictures(folder: Path, count: int) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        Image.new("1", (20 + number, 10)).save(folder / f"{number:05d}.png")
    return folder


def pages(*names: Path | str) -> Iterator[Page]:
    return listing.pages_of(list_files(map(str, names)))


def read(out: Path, *names: Path | str, form: str = "jsonl", block: int = 4, **options: Any) -> list[Row]:
    """Run to the end, and return all rows."""
    with RunFolder(out, SETTINGS, form=form, block_pages=block) as run:
        runner = LocalRunner(options.pop("answerer", StubAnswerer), SETTINGS, together=3)
        for result in runner.run(run.blocks(lambda: pages(*names), **options)):
            run.write(result)
        run.write_manifest()
        return [row for rows in run.all_rows() for row in rows]


def without_seconds(rows: Iterable[Row]) -> list[dict[str, Any]]:
    return [{key: value for key, value in row.as_dict().items() if key != "seconds"} for row in rows]


@pytest.mark.parametrize("form", result_files.FORMATS)
def test_run_folder_has_one_row_a_question_in_the_order_of_the_pages(tmp_path: Path, form: str) -> None:
    if form == "parquet":
        pytest.importorskip("pyarrow", reason="pyarrow is not installed")
    rows = read(tmp_path / "out", pictures(tmp_path / "in", 10), form=form)
    assert [row.key for row in rows] == [
        (f"{tmp_path}/in/{number:05d}.png", 1, q.text) for number in range(10) for q in SETTINGS.questions
    ]
    assert [row.answer for row in rows[:4]] == ["20", "10", "21", "10"]
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert (manifest["complete"], manifest["pages"], manifest["rows"], manifest["failed"]) == (True, 10, 20, 0)
    assert [each["file"] for each in manifest["files"]] == [f"rows/block-{n:06d}.{form}" for n in range(3)]
    from hashlib import sha256

    for each in manifest["files"]:
        assert sha256((tmp_path / "out" / each["file"]).read_bytes()).hexdigest() == each["sha256"]


def test_result_files_parquet_has_the_documented_schema(tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet", reason="pyarrow is not installed")
    read(tmp_path / "out", pictures(tmp_path / "in", 3), form="parquet")
    table = parquet.read_table(tmp_path / "out" / "rows")  # the folder holds result files alone
    assert table.column_names == list(result_files.SCHEMA) == list(Row.__dataclass_fields__)
    assert table.num_rows == 6
    assert str(table.schema.field("boxes").type) == "list<element: list<element: double>>"


def test_run_folder_goes_on_and_asks_nothing_twice(tmp_path: Path) -> None:
    source, out = pictures(tmp_path / "in", 11), tmp_path / "out"
    whole = read(tmp_path / "whole", source)
    with RunFolder(out, SETTINGS, form="jsonl", block_pages=4) as run:
        runner = LocalRunner(StubAnswerer, SETTINGS)
        results = runner.run(run.blocks(lambda: pages(source)))
        run.write(next(results))
        results.close()  # type: ignore[attr-defined] - a generator
    answerer = StubAnswerer()
    assert without_seconds(read(out, source, answerer=lambda: answerer)) == without_seconds(whole)
    assert answerer.asked == 14  # 7 of 11 pages
    assert without_seconds(read(out, source, answerer=lambda: answerer)) == without_seconds(whole)
    assert answerer.asked == 14


def test_run_folder_answers_damaged_blocks_again(tmp_path: Path) -> None:
    source, out = pictures(tmp_path / "in", 9), tmp_path / "out"
    whole = read(out, source)
    (out / "rows" / "block-000001.jsonl").write_text("{}\n")
    (out / "rows" / "block-000002.jsonl").unlink()
    (out / "rows" / "block-000009.jsonl").write_text("left over\n")
    with (out / "log.jsonl").open("ab") as file:
        file.write(b'{"done": 7, "fi')  # as a kill leaves it
    answerer = StubAnswerer()
    assert without_seconds(read(out, source, answerer=lambda: answerer)) == without_seconds(whole)
    assert answerer.asked == 10
    assert sorted(os.listdir(out / "rows")) == [f"block-{n:06d}.jsonl" for n in range(3)]


def test_run_folder_refuses_other_settings_other_folders_and_two_at_once(tmp_path: Path) -> None:
    source, out = pictures(tmp_path / "in", 2), tmp_path / "out"
    read(out, source)
    other = ReadSettings(questions=SETTINGS.questions, model="stub", options={"hd": 9})
    with pytest.raises(UsageError, match=r"another hd \(null, now 9\); use the same"):
        RunFolder(out, other, form="jsonl", block_pages=4)
    with pytest.raises(UsageError, match=r'another format \("jsonl", now "parquet"\)'):
        RunFolder(out, SETTINGS, form="parquet", block_pages=4)
    with pytest.raises(UsageError, match="holds 2 entries and no run"):
        RunFolder(source, SETTINGS)
    with RunFolder(out, SETTINGS, form="jsonl", block_pages=4), pytest.raises(UsageError, match="is in use"):
        RunFolder(out, SETTINGS, form="jsonl", block_pages=4)
    (out / "log.jsonl").write_text("something else\n")
    with pytest.raises(UsageError, match="is no log"):
        RunFolder(out, SETTINGS, form="jsonl", block_pages=4)
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match="0 pages found"):
        read(tmp_path / "none", tmp_path / "empty")


def test_run_folder_retries_failed_rows_alone(tmp_path: Path) -> None:
    source, out = pictures(tmp_path / "in", 6), tmp_path / "out"
    good = (source / "00004.png").read_bytes()
    (source / "00002.png").write_bytes(good[:20])
    Image.new("1", (13, 10)).save(source / "00005.png")
    rows = read(out, source)
    assert [(row.file[-5:-4], row.error is not None) for row in rows[4::2]] == [
        ("2", True), ("3", False), ("4", False), ("5", True)
    ]  # fmt: skip
    (source / "00002.png").write_bytes(good)
    answerer = StubAnswerer()
    again = read(out, source, retry_failed=True, answerer=lambda: answerer)
    assert answerer.asked == 4
    assert [row.key for row in again] == [row.key for row in rows]
    assert [row.answer for row in again[4:6]] == ["24", "10"]
    assert again[10].error == "13 px"
    assert json.loads((out / "manifest.json").read_text())["failed"] == 2


def broken_pdf(tmp_path: Path) -> tuple[Path, Path]:
    """A folder of 00000.png, 00001.png, m.pdf (broken) and z.png, and the whole PDF of 6 pages beside it."""
    source, whole = pictures(tmp_path / "in", 2), tmp_path / "whole.pdf"
    sheets = [Image.new("L", (20 + number, 10)) for number in range(6)]
    sheets[0].save(whole, save_all=True, append_images=sheets[1:], resolution=200)
    (source / "m.pdf").write_bytes(whole.read_bytes()[:40])
    Image.new("1", (40, 10)).save(source / "z.png")
    return source, whole


@pytest.mark.parametrize("block", [1, 4, 32])
def test_run_folder_reads_all_pages_of_a_mended_pdf(tmp_path: Path, block: int) -> None:
    source, whole = broken_pdf(tmp_path)
    out = tmp_path / "out"
    rows = read(out, source, block=block)
    assert [(Path(row.file).name, row.page) for row in rows if row.error] == [("m.pdf", 1)] * 2
    assert read(out, source, block=block, retry_failed=True) == rows  # broken still
    (source / "m.pdf").write_bytes(whole.read_bytes())
    answerer = StubAnswerer()
    again = read(out, source, block=block, retry_failed=True, answerer=lambda: answerer)
    assert answerer.asked == 12
    assert not [row for row in again if row.error]
    keys = [row.key for row in again]
    assert len(set(keys)) == len(keys) == 2 * 9
    assert sorted(keys) == sorted(row.key for row in read(tmp_path / "fresh", source, block=block))
    assert json.loads((out / "manifest.json").read_text())["pages"] == 9
    assert read(out, source, block=block, retry_failed=True, answerer=lambda: answerer) == again
    assert answerer.asked == 12


def test_run_folder_goes_on_with_a_mended_pdf_after_a_stop(tmp_path: Path) -> None:
    source, whole = broken_pdf(tmp_path)
    read(tmp_path / "out", source, block=1)
    (source / "m.pdf").write_bytes(whole.read_bytes())
    with RunFolder(tmp_path / "out", SETTINGS, form="jsonl", block_pages=1) as run:
        next(iter(run.blocks(lambda: pages(source), retry_failed=True)))  # planned, and nothing answered
    rows = read(tmp_path / "out", source, block=1)
    assert [(row.page, row.error is not None) for row in rows[8:]] == [
        (n, False) for n in range(2, 7) for _ in range(2)
    ]
    rows = read(tmp_path / "out", source, block=1, retry_failed=True)
    assert sorted(row.key for row in rows) == sorted(row.key for row in read(tmp_path / "fresh", source))
    assert not [row for row in rows if row.error]


def test_run_folder_takes_the_named_pages_of_a_mended_pdf(tmp_path: Path) -> None:
    source, whole = broken_pdf(tmp_path)

    def named(numbers: tuple[int, ...]) -> list[tuple[int, bool]]:
        def found() -> Iterator[Page]:
            return listing.pages_of(list_files([str(source / "m.pdf")]), numbers=numbers)

        with RunFolder(tmp_path / "out", SETTINGS, form="jsonl") as run:
            for result in LocalRunner(StubAnswerer, SETTINGS).run(
                run.blocks(found, retry_failed=True, numbers=numbers)
            ):
                run.write(result)
            return [(row.page, row.error is not None) for rows in run.all_rows() for row in rows]

    assert named((3, 5)) == [(1, True)] * 2
    (source / "m.pdf").write_bytes(whole.read_bytes())
    assert named((3, 5)) == [(3, False)] * 2 + [(5, False)] * 2


def test_run_folder_refuses_rows_missing_or_double(tmp_path: Path) -> None:
    source = pictures(tmp_path / "in", 2)
    with RunFolder(tmp_path / "out", SETTINGS, form="jsonl") as run:
        block = next(iter(run.blocks(lambda: pages(source))))
        rows = [failed_row(page, q, SETTINGS, "x") for page in block.pages for q in SETTINGS.questions]
        with pytest.raises(ValueError, match="3 of 4 rows"):
            run.write(BlockResult(number=0, rows=rows[:3]))
        with pytest.raises(ValueError, match="1 rows are double"):
            run.write(BlockResult(number=0, rows=[*rows, rows[0]]))
        assert not run.log.done


def test_run_log_returns_the_blocks_it_was_given(tmp_path: Path) -> None:
    found = tuple(pages(pictures(tmp_path / "in", 3)))
    numbered = [Page(file=found[0].file, number=n, paged=True) for n in (1, 2, 5, 6)]
    blocks = [Block(number=0, pages=(*numbered, found[1])), Block(number=1, pages=found[2:])]
    log = RunLog(tmp_path / "log.jsonl", {"a": 1})
    for block in blocks:
        log.add_block(block)
    assert [log.block(n) for n in range(2)] == blocks
    log.close()
    log = RunLog(tmp_path / "log.jsonl", {"a": 1})
    assert [log.block(n) for n in range(2)] == blocks
    assert (log.pages, log.blocks, log.last, log.listed) == (6, 2, found[2], False)
    log.close()


def test_local_runner_ends_with_the_error_of_a_listing(tmp_path: Path) -> None:
    def broken() -> Iterator[Page]:
        yield from pages(pictures(tmp_path / "in", 5))
        raise UsageError("the listing ends here")

    with RunFolder(tmp_path / "out", SETTINGS, form="jsonl", block_pages=2) as run:
        results = LocalRunner(StubAnswerer, SETTINGS).run(run.blocks(broken))
        assert [next(results).number, next(results).number] == [0, 1]
        with pytest.raises(UsageError, match="the listing ends here"):
            next(results)


def test_write_report_shows_failures_first_and_is_bounded(tmp_path: Path) -> None:
    source, out = pictures(tmp_path / "in", 9), tmp_path / "out"
    (source / "00007.png").write_bytes(b"<b>no picture")
    read(out, source)
    with RunFolder(out, SETTINGS, form="jsonl", block_pages=4) as run:
        write_report(run, most=4)
        write_wide(run)
    text = (out / "report.html").read_text(encoding="utf-8")
    names = [part.partition("</h2>")[0][-9:] for part in text.split("<h2>")[1:]]
    assert names == ["00007.png", "00000.png", "00001.png", "00002.png"]
    assert "4 of 9 pages are shown" in text
    assert "<b>" not in text
    assert text.count("data:image/jpeg;base64,") == 3
    assert "http" not in text.replace("https://", "http").partition("<h1>")[0]
    table = (out / "answers.csv").read_text().splitlines()
    assert table[0] == "file,page,width,How high?"
    assert table[1] == f"{source}/00000.png,1,20,10"
    assert table[8] == f"{source}/00007.png,1,,"


# -- kills and a full disk -------------------------------------------------------------------------------------------

CHILD = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
import test_reading_run as t
t.read(Path(sys.argv[2]), sys.argv[3], block=2, answerer=lambda: t.StubAnswerer(0.004))
"""


def test_write_report_opens_no_page_over_which_workers_died(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Died(StubAnswerer):
        def rows(self, opened: Sequence[OpenedPage], only: Sequence[frozenset[int]] | None = None) -> list[list[Row]]:
            return [
                [failed_row(each.page, question, SETTINGS, f"2 workers {DIED}; x") for question in SETTINGS.questions]
                for each in opened
            ]

    source = pictures(tmp_path / "in", 2)
    read(tmp_path / "out", source, answerer=Died)
    monkeypatch.setattr(PageOpener, "open", None)
    with RunFolder(tmp_path / "out", SETTINGS, form="jsonl", block_pages=4) as run:
        write_report(run)
    text = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert text.count("<section class=failed><div></div>") == 2


def child(out: Path, source: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-c", CHILD, str(Path(__file__).parent), str(out), str(source)]
    return subprocess.Popen(command, stderr=subprocess.PIPE)


def kill_and_go_on(tmp_path: Path, *, kills: int, count: int) -> int:
    """Kill the driver at random moments until `kills` hit it, let it end, and compare; return the kills that hit."""
    source = pictures(tmp_path / "in", count)
    whole = without_seconds(read(tmp_path / "whole", source, block=2))
    chance, hit, out = random.Random(7), 0, tmp_path / "out"
    while hit < kills:
        with child(out, source) as process:
            log = out / "log.jsonl"
            before = log.stat().st_size if log.exists() else 0
            while process.poll() is None and (not log.exists() or log.stat().st_size == before):
                time.sleep(0.002)  # imports take most of its time: a kill among them tests nothing
            time.sleep(chance.random() * 0.06)
            if process.poll() is not None:
                break
            process.send_signal(signal.SIGKILL)
            hit += 1
    with child(out, source) as process:
        _, errors = process.communicate()
        assert process.returncode == 0, errors.decode()
    found = [json.loads(line) for path in sorted((out / "rows").iterdir()) for line in path.read_text().splitlines()]
    assert [{key: value for key, value in row.items() if key != "seconds"} for row in found] == whole
    assert json.loads((out / "manifest.json").read_text())["complete"]
    return hit


def test_run_folder_survives_kills_of_the_driver(tmp_path: Path) -> None:
    assert kill_and_go_on(tmp_path, kills=3, count=60) >= 2


@pytest.mark.slow
def test_run_folder_survives_30_kills_of_the_driver(tmp_path: Path) -> None:
    assert kill_and_go_on(tmp_path, kills=30, count=600) == 30


FULL = """
import resource, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
import test_reading_run as t
from ixc.errors import IxcError
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[4]), int(sys.argv[4])))
try:
    t.read(Path(sys.argv[2]), sys.argv[3], block=8)
except IxcError as error:
    print(type(error).__name__, error)
"""


@pytest.mark.parametrize("limit", [1000, 2600])
def test_run_folder_full_disk_leaves_nothing_half_written(tmp_path: Path, limit: int) -> None:
    """A limit of a file's size stands for a full disk: the block's file does not fit in it, or the log's line."""
    source, out = pictures(tmp_path / "in", 24), tmp_path / "out"
    command = [sys.executable, "-c", FULL, str(Path(__file__).parent), str(out), str(source), str(limit)]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    assert result.stdout.startswith("DataError "), result.stderr
    assert "cannot be written (File too large); make space and run the same command again" in result.stdout
    assert result.stdout.count("\n") == 1
    assert not [name for name in os.listdir(out / "rows") if "partial" in name]
    assert (out / "log.jsonl").read_bytes().endswith(b"\n")
    assert without_seconds(read(out, source, block=8)) == without_seconds(read(tmp_path / "whole", source, block=8))


def test_run_folder_no_space_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = pictures(tmp_path / "in", 2)

    def full(*_: object) -> str:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(result_files, "write_file", full)
    with pytest.raises(DataError, match=r"block-0+\.jsonl cannot be written \(No space left on device\); make space"):
        read(tmp_path / "out", source)
