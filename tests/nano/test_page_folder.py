"""`ixc data pages`: resumable, broken documents noted, documents kept out, packages apart."""

import gzip
import json
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from nano.tiny_pdf import PROSE, write
from typer.testing import CliRunner

from ixc.cli.main import app
from ixc.errors import DataError, UsageError
from ixc.nano.data.page_files import read_pages
from ixc.nano.data.page_folder import DOCUMENTS, INDEX, FolderConfig, read_index, write_pages
from ixc.nano.data.pdf_pages import PageConfig
from ixc.nano.data.pdf_sources import Document, KeepOut, find_documents, read_keep_out

CONFIG = FolderConfig(page=PageConfig(em=(16, 32)), pages_per_document=2, seed=3)


@dataclass(frozen=True, kw_only=True)
class Deadly(Document):
    """A document that ends the process which reads it, as a crash in the renderer does."""

    def read(self) -> bytes:
        os._exit(11)


@pytest.fixture
def package(tmp_path: Path) -> Path:
    folder = tmp_path / "manuals"
    for name in ("a/one.pdf", "a/two.pdf", "b/three.pdf"):
        write(folder / name)
    packed = folder / "b" / "four.pdf.gz"
    packed.write_bytes(gzip.compress((folder / "a" / "one.pdf").read_bytes()))
    return folder


def test_write_pages_keeps_pictures_boxes_and_lines(package: Path, tmp_path: Path) -> None:
    outcomes = list(write_pages(find_documents([package]), tmp_path / "out", CONFIG))
    assert [outcome.pages for outcome in outcomes] == [2] * 4
    for page, facts in read_pages(tmp_path / "out" / DOCUMENTS / outcomes[0].file):
        assert page.text()[1:] == PROSE
        assert facts["package"] == "manuals"
        assert (facts["height"], facts["width"]) == page.picture.shape[:2]
        assert 16 <= facts["em"] <= 32.1


def test_write_pages_goes_on_behind_the_last_document(package: Path, tmp_path: Path) -> None:
    documents, whole, cut = find_documents([package]), tmp_path / "whole", tmp_path / "cut"
    list(write_pages(documents, whole, CONFIG))
    run = write_pages(documents, cut, CONFIG)
    next(run), next(run)
    run.close()
    with (cut / INDEX).open("a") as index:
        index.write('{"package": "manuals", "docu')  # torn by a kill
    (cut / DOCUMENTS / "torn.partial").write_bytes(b"PK")
    assert len(list(write_pages(documents, cut, CONFIG))) == 2
    assert read_index(cut) == read_index(whole)
    for path in (whole / DOCUMENTS).iterdir():
        ours, theirs = (list(read_pages(p)) for p in (path, cut / DOCUMENTS / path.name))
        for (a, _), (b, _) in zip(ours, theirs, strict=True):
            np.testing.assert_array_equal(a.picture, b.picture)


def test_write_pages_notes_broken_documents_and_goes_on(package: Path, tmp_path: Path) -> None:
    (package / "a" / "bad.pdf").write_bytes(b"%PDF-1.4 nothing else")
    deadly = Deadly(package="manuals", name="deadly.pdf", path=package / "deadly.pdf")
    documents = [deadly, *find_documents([package])]
    outcomes = {o.document: o for o in write_pages(documents, tmp_path / "out", CONFIG)}
    assert outcomes["deadly.pdf"].status == outcomes["a/bad.pdf"].status == "broken"
    assert "ended the process" in outcomes["deadly.pdf"].error
    assert sum(o.status == "pages" for o in outcomes.values()) == 4


def test_write_pages_refuses_other_settings(package: Path, tmp_path: Path) -> None:
    list(write_pages(find_documents([package]), tmp_path / "out", CONFIG))
    with pytest.raises(DataError, match="other settings"):
        list(write_pages(find_documents([package]), tmp_path / "out", FolderConfig(seed=9)))


def test_find_documents_leaves_out_what_is_kept_out(package: Path, tmp_path: Path) -> None:
    listed = tmp_path / "keep_out.txt"
    listed.write_text("# notes\nmanuals: b/\nothers: whole package\n")
    assert {d.name for d in find_documents([package], read_keep_out(listed))} == {"a/one.pdf", "a/two.pdf"}
    with pytest.raises(UsageError, match="0 PDFs"):
        find_documents([package], KeepOut(rules=(("manuals", ""),)))
    listed.write_text("manuals\n")
    with pytest.raises(DataError, match="line 1"):
        read_keep_out(listed)


def test_data_pages_command(package: Path, tmp_path: Path) -> None:
    out = tmp_path / "pages"
    arguments = ["data", "pages", str(package), "--out", str(out), "--pages", "1", "--em", "12:20"]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    assert "4 pages new, 0 documents broken" in result.output
    assert json.loads((out / "config.json").read_text())["page"]["em"] == [12.0, 20.0]
    assert "0 pages new" in CliRunner().invoke(app, arguments).output


@pytest.mark.parametrize("em", ["20", "40:8", "a:b", "1:20"])
def test_data_pages_refuses_a_wrong_span(package: Path, tmp_path: Path, em: str) -> None:
    result = CliRunner().invoke(app, ["data", "pages", str(package), "--out", str(tmp_path / "o"), "--em", em])
    assert isinstance(result.exception, UsageError)
