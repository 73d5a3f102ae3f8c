"""Data by name, and the files for servers that keep the answers."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from ixc.errors import DataError, UsageError
from ixc.evals import download, submission
from ixc.evals.tasks import TASKS

DOCVQA = TASKS["docvqa_val"]


class _Silent(SimpleHTTPRequestHandler):
    def log_message(self, *values: object) -> None:
        """Tests are silent."""


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[str, Path]]:
    """(address, folder behind it)."""
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    folder = tmp_path / "host"
    folder.mkdir()
    there = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Silent, directory=str(folder)))
    thread = threading.Thread(target=there.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{there.server_port}", folder
    there.shutdown()
    there.server_close()
    thread.join()


def test_download_find_takes_an_existing_file(tmp_path: Path) -> None:
    path = tmp_path / "DocVQA_VAL.tsv"
    path.write_text("x")
    assert download.find(DOCVQA, tmp_path) == path
    assert download.find(DOCVQA, path) == path


def test_download_find_checks_and_fetches_once(host: tuple[str, Path], tmp_path: Path) -> None:
    url, folder = host
    (folder / "a.tsv").write_bytes(b"index\n" * 1000)
    md5 = hashlib.md5(b"index\n" * 1000).hexdigest()
    task = replace(DOCVQA, url=f"{url}/a.tsv", md5=md5)
    told: list[tuple[int, int]] = []
    path = download.find(task, tmp_path / "data", progress=lambda done, total: told.append((done, total)))
    assert download.md5_of(path) == md5
    assert told[-1] == (6000, 6000)
    (folder / "a.tsv").unlink()
    assert download.find(task, tmp_path / "data") == path


def test_download_find_wrong_checksum_leaves_nothing(host: tuple[str, Path], tmp_path: Path) -> None:
    url, folder = host
    (folder / "a.tsv").write_bytes(b"another file")
    data = tmp_path / "data"
    with pytest.raises(DataError, match=r"has MD5 [0-9a-f]{32} \(12 bytes\), 0{32} expected"):
        download.find(replace(DOCVQA, url=f"{url}/a.tsv", md5="0" * 32), data)
    assert list(data.iterdir()) == []


@pytest.mark.parametrize("url", ["http://127.0.0.1:9/a.tsv", "HOST/none.tsv", "https://nowhere.invalid/a.tsv"])
def test_download_find_without_network_is_one_line(host: tuple[str, Path], tmp_path: Path, url: str) -> None:
    task = replace(DOCVQA, url=url.replace("HOST", host[0]))
    with pytest.raises(DataError, match=r"cannot be fetched .* download it yourself and save it as .*DocVQA_VAL\.tsv"):
        download.find(task, tmp_path / "data")


def test_download_find_names_the_place_of_a_file_without_address(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no public address; put the file there"):
        download.find(replace(DOCVQA, url=None), tmp_path)


# -- submissions ------------------------------------------------------------------------------------------------------

ROWS = [{"index": n, "image": (b"",), "question": f"q{n}", "A": "=1+1", "B": "b\x01"} for n in (3, 1, 2)]
SAID = {1: "eins", 2: "zwölf", 3: '"3"'}


def test_submission_write_docvqa_has_numbers_and_answers(tmp_path: Path) -> None:
    path = submission.write(TASKS["docvqa_test"], ROWS, SAID, tmp_path)
    assert path.name == "docvqa_test.submission.json"
    assert json.loads(path.read_text()) == [
        {"questionId": 3, "answer": '"3"'},
        {"questionId": 1, "answer": "eins"},
        {"questionId": 2, "answer": "zwölf"},
    ]
    named = [row | {"questionId": float(row["index"] + 100)} for row in ROWS]
    path = submission.write(TASKS["infovqa_test"], named, SAID, tmp_path)
    assert [each["questionId"] for each in json.loads(path.read_text())] == [103, 101, 102]


def test_submission_write_mmbench_is_a_workbook(tmp_path: Path) -> None:
    openpyxl = pytest.importorskip("openpyxl")
    path = submission.write(TASKS["mmbench_en_test"], ROWS, SAID, tmp_path)
    sheet = openpyxl.load_workbook(path).active
    found = list(sheet.values)
    assert found[0] == ("index", "question", "A", "B", "prediction")
    assert found[1] == (3, "q3", "=1+1", "b", '"3"')
    assert sheet["C2"].data_type == "s"


def test_submission_write_refusals(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="public answers"):
        submission.write(DOCVQA, ROWS, SAID, tmp_path)
    with pytest.raises(DataError, match="1 of 3 questions have no prediction, the first is 3"):
        submission.write(TASKS["docvqa_test"], ROWS, {1: "", 2: ""}, tmp_path)
    named = [row | {"questionId": "x"} for row in ROWS]
    with pytest.raises(DataError, match="questionId is 'x'"):
        submission.write(TASKS["docvqa_test"], named, SAID, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_submission_kinds_are_those_of_hidden_tasks() -> None:
    assert {task.submission for task in TASKS.values() if task.hidden} == set(submission.KINDS)
