"""Pages of PDFs: form fields, units, fonts that are missing, scans in their own pixels, and the pages a user names."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from ixc.cli.main import app
from ixc.errors import ImageError, UsageError
from ixc.processing.pages import PageReference, Rendering, open_document, open_page, page_size, reference_of
from ixc.processing.pdf import Pdf
from ixc.processing.pdf_process import PdfProcess
from ixc.processing.pdf_units import user_units
from processing.pdf_files import compressed_unit, form, pages, unembedded_chinese
from processing.picture_files import pages_tiff, scene, stored

pytest.importorskip("pypdfium2", reason="the extra pdf is not installed")


def _ink(image: Image.Image) -> int:
    return int((np.asarray(image.convert("L")) < 128).sum())


@pytest.mark.parametrize("appearance", [True, False])
def test_page_draws_the_values_of_form_fields(appearance: bool) -> None:
    found = Pdf(form(appearance=appearance)).page(1, dpi=72).image
    flat = Pdf(pages("", content=b"BT /F1 22 Tf 22 38 Td (Tromso) Tj ET", box="0 0 300 100")).page(1, dpi=72).image
    assert found.size == flat.size == (300, 100)
    assert _ink(found) == pytest.approx(_ink(flat), rel=0.1)


@pytest.mark.parametrize("data", [pages("/UserUnit 2"), compressed_unit(2)], ids=["plain", "object stream"])
def test_page_counts_in_its_own_unit(data: bytes) -> None:
    document = Pdf(data)
    assert document.size(1, dpi=72) == document.page(1, dpi=72).image.size == (600, 400)


def test_user_units_by_page() -> None:
    assert user_units(pages("", "/UserUnit 2.5", "/UserUnit 1")) == {1: 2.5}
    assert user_units(pages("/UserUnit 0")) == {}
    assert user_units(b"%PDF-1.7 /UserUnit 2 /Root 1 0 R 1 0 obj << /Pages 1 0 R /Kids [1 0 R] >>") == {}


def test_page_tells_letters_that_are_not_drawn() -> None:
    shown = Pdf(unembedded_chinese()).page(1)
    if _ink(shown.image):
        pytest.skip("a font for Chinese is installed here")
    [warning] = shown.warnings
    assert warning.startswith("4 letters in STSong-Light are not drawn ('中文总计')")
    assert Pdf(pages("", content=b"BT /F1 22 Tf 22 38 Td (Tromso) Tj ET")).page(1).warnings == ()


def test_pdf_process_document_behind_other_bytes() -> None:
    assert PdfProcess(b"x" * 2000 + b"\n" + pages("", "")).pages == 2


@pytest.mark.parametrize("mode", ["RGB", "L", "1"])
def test_page_takes_the_pixels_of_a_scan(mode: str) -> None:
    scan = scene().resize((248, 351), Image.Resampling.NEAREST).convert(mode)
    file = io.BytesIO()
    scan.save(file, "PDF", resolution=30, **({} if mode == "1" else {"quality": 100}))
    document = Pdf(file.getvalue())
    found = document.page(1, scan_pixels=True).image
    assert found.size == document.size(1, scan_pixels=True) == scan.size
    difference = np.abs(np.asarray(found).astype(int) - np.asarray(scan.convert("RGB")))
    assert difference.mean() <= (0 if mode == "1" else 3)  # Pillow writes the others as JPEG
    assert document.size(1, dpi=30) == scan.size  # 248.00001 px are not 249
    assert document.size(1, dpi=60) == (496, 702)


def test_page_with_text_over_a_picture_is_no_scan() -> None:
    document = Pdf(pages("", content=b"BT /F1 22 Tf 22 38 Td (Tromso) Tj ET"))
    assert document.size(1, dpi=72, scan_pixels=True) == (300, 200)


def test_pdf_errors_are_one_line() -> None:
    with pytest.raises(ImageError, match="cannot be read: it is damaged, or has no pages"):
        Pdf(b"%PDF-1.7\nnothing")
    with pytest.raises(UsageError, match="no page 2; use 1 to 1"):
        Pdf(pages("")).page(2)


# -- pages by name ----------------------------------------------------------------------------------------------------


def test_reference_of(tmp_path: Path) -> None:
    assert reference_of("report.pdf#3") == PageReference(source=Path("report.pdf"), page=3)
    assert reference_of("report.pdf", 3) == PageReference(source=Path("report.pdf"), page=3)
    assert reference_of("report#draft.pdf") == PageReference(source=Path("report#draft.pdf"))
    (tmp_path / "scan#2").write_bytes(b"")
    assert reference_of(str(tmp_path / "scan#2")).page is None
    with pytest.raises(UsageError, match="names page 3 and --page 4"):
        reference_of("report.pdf#3", 4)


def test_open_page_of_a_tiff_and_of_a_pdf(tmp_path: Path) -> None:
    (tmp_path / "scan.tif").write_bytes(pages_tiff())
    (tmp_path / "two.pdf").write_bytes(pages("", "/Rotate 90"))
    shown = open_page(reference_of(f"{tmp_path}/scan.tif#3"))
    assert (shown.image.tobytes(), shown.warnings) == (stored(2).tobytes(), ())
    assert "page 1 of 3 is taken" in open_page(reference_of(f"{tmp_path}/scan.tif")).warnings[0]
    assert page_size(reference_of(f"{tmp_path}/two.pdf#2"), Rendering(dpi=72)) == ((200, 300), None)
    assert open_page(PageReference(source=(tmp_path / "two.pdf").read_bytes(), page=1)).image.size == (834, 556)
    with pytest.raises(UsageError, match=r"scan\.tif has no page 4; use 1 to 3"):
        open_page(reference_of(f"{tmp_path}/scan.tif#4"))
    assert open_document(tmp_path / "scan.tif").pages == 3


@pytest.mark.parametrize("named", [["#2"], ["", "--page", "2"]])
def test_plan_and_ask_take_a_page(tmp_path: Path, tiny_folder: Path, named: list[str]) -> None:
    file = tmp_path / "two.pdf"
    file.write_bytes(pages("", "/Rotate 90"))
    arguments = [f"{file}{named[0]}", *named[1:]]
    result = CliRunner().invoke(app, ["plan", *arguments, "--dpi", "72", "--json"])
    assert (json.loads(result.stdout)["width"], json.loads(result.stdout)["height"]) == (200, 300)
    command = ["ask", arguments[0], "Title?", *arguments[1:], "--model", str(tiny_folder), "--hd", "6", "--json"]
    command += ["--partition", "original"]
    result = CliRunner().invoke(app, command)
    assert result.exception is None, result.exception
    assert json.loads(result.stdout)["grids"] == [[3, 2]]
    assert result.stderr == ""


def test_ask_tells_the_page_it_took(tmp_path: Path, tiny_folder: Path) -> None:
    file = tmp_path / "scan.tif"
    file.write_bytes(pages_tiff())
    for command in (["ask", str(file), "Title?", "--model", str(tiny_folder)], ["plan", str(file)]):
        result = CliRunner().invoke(app, command)
        assert result.stderr.startswith(f"note: {file}: page 1 of 3 is taken; name another with --page 2")


def test_ask_refuses_before_a_model_is_loaded(tmp_path: Path) -> None:
    file = tmp_path / "drawing.png"
    file.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n")
    result = CliRunner().invoke(app, ["ask", str(file), "Title?", "--model", str(tmp_path / "no model")])
    assert isinstance(result.exception, ImageError)
    assert "a PostScript drawing" in str(result.exception)
    cut = tmp_path / "cut.png"
    whole = io.BytesIO()
    scene().save(whole, "PNG")
    cut.write_bytes(whole.getvalue()[:120])
    result = CliRunner().invoke(app, ["ask", str(cut), "Title?", "--model", str(tmp_path / "no model")])
    assert "broken or cut short" in str(result.exception)
