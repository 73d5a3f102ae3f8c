"""Names to files and pages: in one order, lazily, and with what is broken as an error of its own."""

from __future__ import annotations

import io
import json
import os
import tarfile
import time
import zipfile
from pathlib import Path

import pytest
from PIL import Image

from ixc.apps.reading import archives, listing
from ixc.apps.reading.opening import PageOpener
from ixc.apps.reading.questions import check_questions, read_questions
from ixc.apps.reading.records import Page, Question
from ixc.apps.reading.sources import check_names, list_files, read_list
from ixc.errors import MissingPackageError, UsageError
from ixc.processing.pages import Rendering


def picture(width: int = 20) -> bytes:
    out = io.BytesIO()
    Image.new("L", (width, 10), 200).save(out, "PNG")
    return out.getvalue()


def listed(*names: Path | str) -> list[Page]:
    return list(listing.pages_of(list_files(map(str, names))))


def widths(pages: list[Page]) -> list[int | str]:
    """Widths of the opened pages, or the error."""
    with PageOpener(Rendering()) as opener:
        found = [opener.open(page) for page in pages]
    return [each.error or "" if each.image is None else each.image.width for each in found]


def tar(path: Path, members: dict[str, bytes], mode: str = "w") -> Path:
    with tarfile.open(path, mode) as archive:  # type: ignore[call-overload]
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return path


MEMBERS = {"b/2.png": picture(22), "a.json": b"{}", "a.png": picture(21), "note.txt": b"x", ".hidden.png": b"x"}


def test_list_files_folders_are_sorted_and_hold_pictures_alone(tmp_path: Path) -> None:
    for name, data in {**MEMBERS, "b/1.PNG": picture(23)}.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(data)
    (tmp_path / ".git").mkdir()
    (tmp_path / ".git" / "x.png").write_bytes(picture())
    (tmp_path / "link").symlink_to(tmp_path)  # a link to a folder is not followed: it may lead in a circle
    names = [page.name.removeprefix(f"{tmp_path}/") for page in listed(tmp_path)]
    assert names == ["a.png", "b/1.PNG", "b/2.png"]
    assert names == [page.name.removeprefix(f"{tmp_path}/") for page in listed(tmp_path)]
    assert widths(listed(tmp_path)) == [21, 23, 22]


def test_list_files_lists_a_file_once(tmp_path: Path) -> None:
    for number in range(3):
        (tmp_path / f"{number}.png").write_bytes(picture())
    names = [page.name for page in listed(tmp_path / "1.png", tmp_path, f"{tmp_path}/*.png")]
    assert names == [f"{tmp_path}/{number}.png" for number in (1, 0, 2)]


def test_list_files_patterns_and_names_that_are_none(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "[1].png").write_bytes(picture())
    assert len(listed(f"{tmp_path}/**/*.png")) == 1
    assert len(listed(tmp_path / "a" / "[1].png")) == 1  # a file's own name is no pattern
    with pytest.raises(UsageError, match="no file matches"):
        check_names([f"{tmp_path}/*.pdf"])
    with pytest.raises(UsageError, match=r"no file .*nothing"):
        check_names([f"{tmp_path}/nothing"])


@pytest.mark.parametrize("suffix", sorted(archives.KINDS))
def test_members_of_every_kind_of_archive(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"shard{suffix}"
    if suffix == ".zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, data in MEMBERS.items():
                archive.writestr(name, data)
    else:
        packed = {"z": "gz", "2": "bz2", "x": "xz"}.get(suffix[-1], "") if suffix != ".tar" else ""
        packed = {".tgz": "gz", ".txz": "xz", ".tar.xz": "xz", ".tar.gz": "gz"}.get(suffix, packed)
        tar(path, MEMBERS, f"w:{packed}")
    found = listed(path)
    order = ["a.png", "b/2.png"] if suffix == ".zip" else ["b/2.png", "a.png"]
    assert [page.name for page in found] == [f"{path}/{name}" for name in order]
    assert widths(found) == ([21, 22] if suffix == ".zip" else [22, 21])
    assert widths(found[::-1]) == ([22, 21] if suffix == ".zip" else [21, 22])  # in any order
    assert [page.name for page in listed(tmp_path)] == [page.name for page in found]  # within a folder too


@pytest.mark.parametrize("suffix", [".tar", ".tar.gz", ".zip"])
@pytest.mark.parametrize("share", [0.3, 0.6, 0.95])
def test_members_of_an_archive_cut_short_are_read_as_far_as_they_go(tmp_path: Path, suffix: str, share: float) -> None:
    path, members = tmp_path / f"a{suffix}", {f"{n}.png": os.urandom(3000) for n in range(4)}
    if suffix == ".zip":
        with zipfile.ZipFile(path, "w") as archive:
            for name, data in members.items():
                archive.writestr(name, data)
    else:
        tar(path, members, "w:gz" if suffix == ".tar.gz" else "w")
    size = 14_000 if suffix == ".tar" else path.stat().st_size  # tar pads its end to 10,240 bytes
    with path.open("r+b") as file:
        file.truncate(int(size * share))
    found = listed(path)
    assert found[-1].error is not None
    assert found[-1].file.name == str(path)
    assert "is damaged or cut short" in found[-1].error
    assert "\n" not in found[-1].error
    assert len(found) - 1 <= 4 * share + 1
    assert widths(found)[-1] == found[-1].error


def test_members_of_a_tar_cut_between_two_are_noticed(tmp_path: Path) -> None:
    """tarfile takes the end of the file for the end of the archive."""
    path = tar(tmp_path / "a.tar", {f"{n}.png": b"\x01" * 512 for n in range(3)})
    with path.open("r+b") as file:
        file.truncate(2 * 1024)
    found = listed(path)
    assert [page.error is None for page in found] == [True, True, False]
    assert "its end is missing" in str(found[-1].error)


def test_page_opener_file_vanishes_or_the_archive_changes(tmp_path: Path) -> None:
    for number in range(3):
        (tmp_path / f"{number}.png").write_bytes(picture(20 + number))
    tar(tmp_path / "s.tar", {"x.png": picture(30), "y.png": picture(31)})
    found = listed(tmp_path)
    (tmp_path / "1.png").unlink()
    with (tmp_path / "s.tar").open("r+b") as file:
        file.truncate(1500)
    opened = widths(found)
    assert opened[0] == 20
    assert opened[2] == 22
    assert str(opened[1]).startswith(f"no file {tmp_path}/1.png")
    assert f"{tmp_path}/s.tar/y.png has 0 of" in str(opened[4])


def test_page_opener_zip_member_locked_or_gone(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.png", picture(20))
        archive.writestr("b.png", picture(21))
    found = listed(path)
    data = bytearray(path.read_bytes())
    data[data.find(picture(21)) + 40] ^= 0xFF
    path.write_bytes(data)
    assert widths(found)[0] == 20
    assert "cannot be read (Bad CRC-32 for file 'b.png')" in str(widths(found)[1])


def test_list_files_sparse_files_of_5_gb_are_not_read(tmp_path: Path) -> None:
    """A folder of 5 GB in sparse files, and a tar of as much: listed by names and headers."""
    for number in range(5):
        (tmp_path / f"{number}.png").write_bytes(picture())
        os.truncate(tmp_path / f"{number}.png", 1 << 30)
    with (tmp_path / "s.tar").open("wb") as file:
        for number in range(5):
            info = tarfile.TarInfo(f"{number}.png")
            info.size = 1 << 30
            file.write(info.tobuf())
            file.seek(1 << 30, os.SEEK_CUR)
        file.truncate(file.tell() + 1024)
    start = time.process_time()
    found = listed(tmp_path)
    assert len(found) == 10
    assert all(page.error is None for page in found)
    assert time.process_time() - start < 1.0  # reading 10 GB takes longer anywhere


def test_list_files_bytes_of_a_name_that_are_no_text(tmp_path: Path) -> None:
    name = os.path.join(os.fsencode(tmp_path), b"a\xff.png")
    try:
        with open(name, "wb") as file:
            file.write(picture(24))
    except OSError:
        pytest.skip("this file system takes text alone")
    found = listed(tmp_path)
    assert found[0].name.endswith("a\\xff.png")
    json.dumps(found[0].name).encode()
    assert widths(found) == [24]


def test_read_list_names_and_remarks(tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text("# scans\na.png\n\nb c.png\r\n", encoding="utf-8")
    assert list(read_list(tmp_path / "list.txt")) == ["a.png", "b c.png"]
    (tmp_path / "list.txt").write_bytes(b"\xff\xfe")
    with pytest.raises(UsageError, match=r"--files-from .* cannot be read"):
        list(read_list(tmp_path / "list.txt"))


def test_list_files_addresses(tmp_path: Path) -> None:
    fsspec = pytest.importorskip("fsspec", reason="fsspec is not installed")
    memory = fsspec.filesystem("memory")
    memory.store.clear()
    memory.pipe({"/b/2.png": picture(22), "/b/a/1.png": picture(21), "/b/x.txt": b"x"})
    tar(tmp_path / "s.tar", MEMBERS)
    memory.pipe("/b/s.tar", (tmp_path / "s.tar").read_bytes())
    found = listed("memory://b")
    assert [page.name for page in found] == [
        "memory:///b/2.png", "memory:///b/s.tar/b/2.png", "memory:///b/s.tar/a.png", "memory:///b/a/1.png"
    ]  # fmt: skip
    assert widths(found) == [22, 22, 21, 21]
    assert [page.name for page in listed("memory://b/2.png", "memory://b/a/*.png")] == [
        "memory:///b/2.png", "memory:///b/a/1.png"
    ]  # fmt: skip
    memory.rm("/b/2.png")
    assert "memory:///b/2.png cannot be read" in str(widths(found)[0])
    with pytest.raises(UsageError, match="nothing is at memory://c"):
        listed("memory://c")
    with pytest.raises(UsageError, match="foo://x: Protocol not known: foo"):
        listed("foo://x")
    (tmp_path / "a.png").write_bytes(picture(25))
    assert widths(listed(f"file://{tmp_path}/a.png")) == [25]


def test_list_files_address_without_its_package() -> None:
    pytest.importorskip("fsspec", reason="fsspec is not installed")
    try:
        import s3fs  # noqa: F401 - only whether it is there
    except ImportError:
        with pytest.raises(MissingPackageError, match="s3:// needs a package that is missing; pip install s3fs"):
            listed("s3://bucket/scans")
    else:
        pytest.skip("s3fs is installed")


def test_pages_of_a_tiff_within_an_archive(tmp_path: Path) -> None:
    drawn, out = [Image.new("L", (30 + n, 10)) for n in range(3)], io.BytesIO()
    drawn[0].save(out, "TIFF", save_all=True, append_images=drawn[1:])
    found = listed(tar(tmp_path / "a.tar", {"a.tif": out.getvalue(), "b.tiff": b"broken"}))
    assert [(page.number, page.paged) for page in found] == [(1, True), (2, True), (3, True), (1, False)]
    assert widths(found)[:3] == [30, 31, 32]
    assert f"{tmp_path}/a.tar/b.tiff" in str(found[3].error)


# -- questions -------------------------------------------------------------------------------------------------------


def test_read_questions_csv_and_jsonl(tmp_path: Path) -> None:
    (tmp_path / "items.json").write_text('{"type": "array"}')
    table = 'question,name,schema,max_new_tokens\nWhat is the TOTAL?,total,,20\n"Items, please?",items,items.json,\n'
    (tmp_path / "q.csv").write_text(table)
    lines = [
        {"question": "What is the TOTAL?", "name": "total", "max_new_tokens": 20},
        {"question": "Items, please?", "name": "items", "schema": {"type": "array"}},
    ]
    (tmp_path / "q.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    expected = (
        Question(text="What is the TOTAL?", name="total", max_new_tokens=20),
        Question(text="Items, please?", name="items", schema={"type": "array"}),
    )
    assert read_questions(tmp_path / "q.csv") == read_questions(tmp_path / "q.jsonl") == expected
    assert [each.column for each in expected] == ["total", "items"]


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("q.csv", "ask\nx\n", "has no column question"),
        ("q.csv", "question,colour\nx,red\n", "line 2: no column colour is known"),
        ("q.csv", "question\n\n,\n", "more fields than columns"),
        ("q.csv", "question,max_new_tokens\nx,0\n", "at least 1 needed"),
        ("q.csv", "question,schema\nx,nothing.json\n", "the schema cannot be read"),
        ("q.jsonl", "[1]\n", "line 1 holds a list"),
        ("q.jsonl", "{\n", "line 1 is not JSON"),
        ("q.jsonl", '{"question": " "}\n', "the question is empty"),
        ("q.jsonl", '{"question": "x", "schema": "[]"}\n', "the schema cannot be read"),
        ("q.jsonl", '{"question": "x", "max_new_tokens": true}\n', "max_new_tokens is True"),
    ],
)
def test_read_questions_names_the_wrong_line(tmp_path: Path, name: str, text: str, words: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(UsageError, match=words):
        read_questions(tmp_path / name)


def test_check_questions_refuses_doubles() -> None:
    with pytest.raises(UsageError, match="asked twice"):
        check_questions([Question(text="a"), Question(text="a", name="b")])
    with pytest.raises(UsageError, match="two columns"):
        check_questions([Question(text="a", name="x"), Question(text="b", name="x")])
    with pytest.raises(UsageError, match="two columns"):
        check_questions([Question(text="a", name="page")])
