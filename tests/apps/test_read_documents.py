"""Questions over pages: what was read survives a kill, and a broken page does not stop the others."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from PIL import Image, ImageDraw
from typer.testing import CliRunner

from ixc.apps.reading.listing import numbers_of
from ixc.cli.main import app
from ixc.errors import ImageError, IxcError, UsageError
from ixc.inference.engine import Engine, load
from ixc.processing import pdf
from ixc.processing.pdf_process import PdfProcess, page_as_png

pytest.importorskip("pypdfium2", reason="the extra pdf is not installed")

QUESTIONS = ["--ask", "Title?", "--ask", "Date?"]


@pytest.fixture(scope="module")
def engine(tiny_folder: Path) -> Engine:
    return load(tiny_folder, device="cpu")


@pytest.fixture(autouse=True)
def _one_engine(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ixc.cli.read.load_engine", lambda *_, **__: engine)


def book(path: Path, *, pages: int = 4) -> Path:
    """A PDF of pages of 3 x 2 inches, each with its number."""
    drawn = [Image.new("RGB", (600, 400), "white") for _ in range(pages)]
    for number, image in enumerate(drawn, start=1):
        ImageDraw.Draw(image).text((40, 40 * number), f"Page {number}", fill="black", font_size=30)
    drawn[0].save(path, "PDF", save_all=True, append_images=drawn[1:], resolution=200)
    return path


def run(*arguments: Any) -> Any:
    return CliRunner().invoke(app, ["read", *map(str, arguments)])


def test_read_documents_pages_are_answered_as_their_pictures(tmp_path: Path, engine: Engine, page: Path) -> None:
    out = tmp_path / "out.json"
    result = run(book(tmp_path / "b.pdf"), page, *QUESTIONS, "--pages", "2-3,9", "--format", "json", "--out", out)
    assert result.exception is None
    found = json.loads(out.read_text(encoding="utf-8"))
    assert found["questions"] == ["Title?", "Date?"]
    assert [(Path(each["file"]).name, each["page"]) for each in found["pages"]] == [
        ("b.pdf", 2), ("b.pdf", 3), ("page.png", 1)
    ]  # fmt: skip
    third = pdf.Pdf((tmp_path / "b.pdf").read_bytes()).page(3).image
    assert third.size == (600, 400)
    texts = [[answer["text"] for answer in each["answers"]] for each in found["pages"]]
    assert texts[1] == [engine.ask([third], question).text for question in found["questions"]]
    assert texts[2][0] == engine.ask([page], "Title?").text
    assert found["pages"][1]["answers"][1]["question"] == "Date?"
    assert found["pages"][1]["answers"][1]["images"] == [f"{tmp_path / 'b.pdf'}#3"]
    assert "3 pages, " in result.stderr
    assert result.stderr.rstrip().endswith(" pages/s")
    assert sorted(os.listdir(tmp_path)) == ["b.pdf", "out.json"]  # nobody needs the state any more


def test_read_documents_tiff_of_several_pages(tmp_path: Path, engine: Engine) -> None:
    drawn = [Image.new("RGB", (600, 400), "white") for _ in range(3)]
    for number, image in enumerate(drawn, start=1):
        ImageDraw.Draw(image).text((40, 40 * number), f"Page {number}", fill="black", font_size=30)
    file = tmp_path / "scan.tif"
    drawn[0].save(file, save_all=True, append_images=drawn[1:])
    found = json.loads(run(file, *QUESTIONS, "--format", "json").stdout)
    assert [each["page"] for each in found["pages"]] == [1, 2, 3]
    expected = [[engine.ask([image], question).text for question in found["questions"]] for image in drawn]
    assert [[answer["text"] for answer in each["answers"]] for each in found["pages"]] == expected
    found = json.loads(run(file, *QUESTIONS, "--pages", "2-9", "--format", "json").stdout)
    assert [each["page"] for each in found["pages"]] == [2, 3]


def test_read_documents_continues_after_a_broken_page(tmp_path: Path, page: Path) -> None:
    broken, out = tmp_path / "broken.png", tmp_path / "out.md"
    broken.write_bytes(page.read_bytes()[:200])
    (tmp_path / "broken.pdf").write_bytes(b"%PDF-1.7\nnothing")
    command = [page, broken, tmp_path / "broken.pdf", "--ask", "Title?", "--out", out]
    result = run(*command)
    assert isinstance(result.exception, IxcError)
    assert result.exception.exit_code == 3
    assert str(result.exception).startswith(f"1 of 3 pages were read, 2 failed; the first is {broken}: ")
    text = out.read_text(encoding="utf-8")
    assert text.count("*Not read: ") == 2
    assert f"## {page}\n\n" in text
    broken.write_bytes(page.read_bytes())
    (tmp_path / "broken.pdf").unlink()
    book(tmp_path / "broken.pdf", pages=1)
    result = run(*command)
    assert result.exception is None
    assert "3 pages, 2 from before" in result.stderr  # the mended picture is the first one's, byte for byte
    assert "Not read" not in out.read_text(encoding="utf-8")


def test_read_documents_resumes(tmp_path: Path, engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    file, out = book(tmp_path / "b.pdf"), tmp_path / "out.json"
    assert run(file, *QUESTIONS, "--format", "json", "--out", out).exception is None
    whole = out.read_bytes()
    out.unlink()
    asked: list[str] = []
    real = Engine.ask

    def ask(self: Engine, images: Any, question: str, **options: Any) -> Any:
        if len(asked) == 5:
            raise KeyboardInterrupt
        asked.append(question)
        return real(self, images, question, **options)

    with monkeypatch.context() as patch:
        patch.setattr(Engine, "ask", ask)
        assert run(file, *QUESTIONS, "--format", "json", "--out", out).exit_code != 0
    assert not out.exists()
    state = tmp_path / "out.json.state"
    lines = state.read_bytes()
    assert lines.count(b"\n") == 3  # settings and two whole pages
    state.write_bytes(lines + b'{"digest": "cut o')  # as a kill may leave it
    asked.clear()
    with monkeypatch.context() as patch:
        patch.setattr(Engine, "ask", ask)
        result = run(file, *QUESTIONS, "--format", "json", "--out", out)
    assert result.exception is None
    assert "4 pages, 2 from before" in result.stderr
    assert len(asked) == 4
    assert out.read_bytes() == whole


def test_read_documents_refuses_to_resume_with_other_settings(tmp_path: Path, page: Path) -> None:
    broken, out = tmp_path / "broken.png", tmp_path / "out.md"
    broken.write_bytes(b"no picture")
    run(page, broken, "--ask", "Title?", "--out", out)
    result = run(page, broken, "--ask", "Title?", "--out", out, "--hd", "1")
    assert isinstance(result.exception, UsageError)
    assert "another hd (None, now 1)" in str(result.exception)
    (tmp_path / "out.md.state").write_bytes(b"something else\n")
    assert "is no state" in str(run(page, "--ask", "Title?", "--out", out).exception)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--pages", "0"], "is no page"),
        (["--pages", "3-1"], "is no page"),
        (["--pages", "1"], "leave --pages out"),
        (["--format", "xml"], "no format"),
        (["--hd", "0"], "at least 1"),
        (["--partition", "x"], "no partition rule"),
        (["--ask", " "], "is empty"),
        (["--out", "/nowhere/at/all.md"], "no folder"),
    ],
)
def test_read_documents_wrong_options(page: Path, arguments: list[str], words: str) -> None:
    result = run(page, *arguments)
    assert isinstance(result.exception, UsageError)
    assert words in str(result.exception)


def test_numbers_of() -> None:
    assert numbers_of("1-3, 7,2") == (1, 2, 3, 7)


def test_read_documents_pdf_without_the_extra(tmp_path: Path, page: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = book(tmp_path / "b.pdf", pages=1)
    monkeypatch.setitem(sys.modules, "pypdfium2", None)
    assert "pip install 'ixc-4khd[pdf]'" in str(run(file).exception)
    assert run(page).exception is None


def test_pdf_process_bounds_seconds_and_memory(tmp_path: Path) -> None:
    file = book(tmp_path / "b.pdf").read_bytes()
    with pytest.raises(ImageError, match=r"opening: it took longer than 0\.001 s"):
        page_as_png(file, 1, seconds=0.001)
    with PdfProcess(file, memory=1 << 30) as document:
        assert document.size(2, dpi=100) == (300, 200)
        document.close()
        document._memory = 1000
        with pytest.raises(ImageError, match=r"page 2: the renderer ended, at most 9.3e-07 GB"):
            document.page(2)
        document._memory = 1 << 30
        assert document.page(3).image.size == (600, 400)  # a process of its own again
    with pytest.raises(ImageError, match="no PDF"):
        page_as_png(b"GIF89a", 1)


def test_pdf_huge_page_is_drawn_coarser(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pdf, "MAX_PIXELS", 10_000)
    out = BytesIO()
    Image.new("L", (200, 400), 255).save(out, "PDF", resolution=72)
    width, height = pdf.Pdf(out.getvalue()).page(1).image.size
    assert (height // 10, width // 10) == (14, 7)  # 141 x 71


@pytest.mark.slow
def test_read_documents_resumes_after_a_kill(tmp_path: Path, tiny_folder: Path) -> None:
    """SIGKILL of the process; the same command then writes what an undisturbed one writes."""
    file, out, state = book(tmp_path / "b.pdf", pages=40), tmp_path / "out.md", tmp_path / "out.md.state"
    command = [sys.executable, "-m", "ixc", "read", str(file), "--ask", "Title?", "--model", str(tiny_folder)]
    subprocess.run([*command, "--out", str(tmp_path / "whole.md")], check=True, capture_output=True)
    with subprocess.Popen([*command, "--out", str(out)], stderr=subprocess.DEVNULL) as process:
        while not state.exists() or state.read_bytes().count(b"\n") < 6:
            assert process.poll() is None
            time.sleep(0.005)
        process.send_signal(signal.SIGKILL)
    before = state.read_bytes().count(b"\n") - 1
    assert 5 <= before < 40
    assert not out.exists()
    again = subprocess.run([*command, "--out", str(out)], check=True, capture_output=True, text=True)
    assert f"40 pages, {before} from before" in again.stderr
    print(again.stderr)
    assert out.read_bytes() == (tmp_path / "whole.md").read_bytes()
    assert not state.exists()
