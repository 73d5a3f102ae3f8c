"""Text layers as training pages: boxes on the ink, lines in reading order, pages that lie about their text left out."""

import numpy as np
import pypdfium2
import pytest
from nano.tiny_pdf import PROSE, pdf, prose, text

from ixc.nano.data.alphabet import ALPHABET, CLASSES, OTHER, classes_of, letters_of, text_of
from ixc.nano.data.languages import language_of
from ixc.nano.data.pdf_pages import LeftOut, PageConfig, TypesetPage, read_page

CONFIG = PageConfig(em=(24, 24), min_characters=5)


def page_of(content: str, config: PageConfig = CONFIG, **options: int) -> TypesetPage:
    document = pypdfium2.PdfDocument(pdf(content, **options))
    return read_page(document[0], np.random.default_rng(1), config)


def test_read_page_gives_lines_in_reading_order() -> None:
    page = page_of(prose(7))
    assert page.text() == ["Heading 7", *PROSE]
    assert page.language == "en"
    assert set(page.faces) == {"Helvetica", "Times-Roman"}
    assert page.em == pytest.approx(24)


def test_read_page_boxes_lie_on_the_ink() -> None:
    page = page_of(text("I I I I I I", 30, 100, size=24))
    ink = np.flatnonzero((page.picture < 128).any(0))
    tight = page.glyphs.tight
    assert tight[0, 0] == pytest.approx(ink[0], abs=1.5)
    assert tight[-1, 2] == pytest.approx(ink[-1] + 1, abs=1.5)
    assert (page.glyphs.loose[:, 2] - page.glyphs.loose[:, 0] >= tight[:, 2] - tight[:, 0] - 0.1).all()


def test_read_page_reads_columns_one_after_the_other() -> None:
    left = [text(f"left {i} of the column", 20, 150 - 14 * i, size=10) for i in range(3)]
    right = [text(f"right {i} of the column", 160, 150 - 14 * i, size=10) for i in range(3)]
    mixed = "".join(a + b for a, b in zip(left, right, strict=True))
    assert [line.split()[0] for line in page_of(mixed).text()] == ["left"] * 3 + ["right"] * 3


def test_read_page_leaves_rotated_text_out_of_lines() -> None:
    page = page_of(prose() + text("upwards", 280, 40, turned=True))
    assert "upwards" not in " ".join(page.text())
    assert (page.lines.line == -1).sum() == len("upwards")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (text("abc", 20, 100), "too little"),
        (prose() + text("hidden words that nobody sees on the page", 20, 20, mode=3), "hidden"),
        (prose() + "1 1 1 rg " + text("white words that nobody sees", 20, 20), "without ink"),
    ],
)
def test_read_page_leaves_lying_pages_out(content: str, reason: str) -> None:
    with pytest.raises(LeftOut, match=reason):
        page_of(content)


def test_read_page_leaves_rotated_pages_out() -> None:
    with pytest.raises(LeftOut, match="rotated"):
        page_of(prose(), rotate=90)


def test_read_page_keeps_colours_only_where_there_are_some() -> None:
    assert page_of(prose()).picture.ndim == 2
    assert page_of("0.8 0 0 rg " + prose()).picture.ndim == 3


def test_read_page_draws_no_side_beyond_the_limit() -> None:
    page = page_of(prose(), PageConfig(em=(48, 48), max_side=400))
    assert max(page.picture.shape) <= 401


def test_classes_of_alphabet_and_of_others() -> None:
    codes = np.array([ord(c) for c in ALPHABET] + [0x3B1, 0x4E00, 0x1F600])
    classes = classes_of(codes)
    assert classes[: len(ALPHABET)].tolist() == list(range(1, len(ALPHABET) + 1))
    assert set(classes[-3:].tolist()) == {OTHER}
    assert text_of(np.r_[classes[:3], 0, OTHER]) == ALPHABET[:3] + "\ufffd"
    assert CLASSES == OTHER + 1


@pytest.mark.parametrize(
    ("character", "letters"),
    [("\ufb03", "ffi"), ("\u2010", "-"), ("\u00a0", ""), ("\u200b", ""), ("\x07", "\ufffd"), ("\ue000", "\ufffd")],
)
def test_letters_of_ligatures_blanks_and_controls(character: str, letters: str) -> None:
    assert letters_of(character) == letters


def test_language_of_tells_some_languages_apart() -> None:
    assert language_of("der Hund und die Katze sind in dem Haus und der Garten ist nicht für das Kind " * 2) == "de"
    assert language_of("le chat est dans la maison et les enfants sont avec une pomme pour le chien " * 2) == "fr"
    assert language_of("qwx zzk vbn " * 20) == ""
