"""The score on drawn documents: what it counts, and that it goes on where it stopped."""

from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from ixc.errors import DataError, UsageError
from ixc.evals import synthetic
from ixc.synth import fonts
from ixc.synth.page import DrawnPage
from ixc.synth.page_sampling import HELD_OUT, NAMED


@pytest.fixture(autouse=True)
def blank(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pictures that only carry their page: nobody here looks at pixels."""

    def paint(page: DrawnPage) -> Image.Image:
        found = Image.new("L", (8, 8))
        found.info["page"] = page
        return found

    monkeypatch.setattr(synthetic, "paint", paint)


def oracle(image: Image.Image, question: str, hd: int) -> str:
    """Answers right at the page's own setting and above, and nothing below it."""
    page = image.info["page"]
    return next(q.answer for q in page.questions if q.question == question) if hd >= page.hd else "?"


def finish(steps: object) -> synthetic.SyntheticReport:
    *_, report = steps  # type: ignore[misc]
    return report


def test_synthetic_run_of_an_oracle_is_right_and_at_low_hd_is_not() -> None:
    report = finish(synthetic.run(oracle, count=84))
    groups = dict(report.groups())
    assert groups["all, at the page's own HD"][0].percent == 100
    by_hd = {r.name: r.percent for r in groups["pages drawn for HD-9, asked at"]}
    assert by_hd == {"HD-01": 0, "HD-04": 0, "HD-09": 100, "HD-16": 100}
    assert "held out: " in str(report)


def test_synthetic_asks_large_pages_at_smaller_hd() -> None:
    """An eye that reads letters of 20 pixels and more."""

    def answer(image: Image.Image, question: str, hd: int) -> str:
        page = image.info["page"]
        right = next(q.answer for q in page.questions if q.question == question)
        return right if round(synthetic.seen_size(page, hd), 1) >= 20 else ""

    report = finish(synthetic.run(answer, count=8, kind="sign", hd=55))
    assert {(case.width, case.height) for case in report.cases} & set(NAMED)
    groups = {title: {row.name: row for row in rows} for title, rows in report.groups()}
    asked = groups["pages drawn for HD-55, asked at"]
    assert {name: row.count for name, row in asked.items()} == {"HD-09": 8, "HD-25": 8, "HD-55": 8}
    shares = {name: found.percent for name, found in groups["by smallest letters as seen, own HD"].items()}
    assert all(share == (0 if name in ("below 16 px", "16 to 20 px") else 100) for name, share in shares.items())


@pytest.mark.parametrize(
    ("pixels", "name"), [(3, "below 16 px"), (16, "16 to 20 px"), (31.9, "28 to 32 px"), (40, "32 px and more")]
)
def test_classes_of_letters(pixels: float, name: str) -> None:
    assert synthetic.size_class(pixels) == name


def test_synthetic_test_pages_are_never_training_pages() -> None:
    drawn = [synthetic.held_out(index)[0] for index in range(2 * len(synthetic.EVERY))]
    assert all(page.number >= HELD_OUT for page in drawn)
    for first, second in zip(drawn, drawn[len(synthetic.EVERY) :], strict=False):
        assert {page.font in fonts.TEST_FONTS for page in (first, second)} == {False, True}


def test_synthetic_kinds_and_settings_take_turns() -> None:
    drawn = [synthetic.held_out(index)[0] for index in range(6 * len(synthetic.EVERY))]
    assert Counter(page.hd for page in drawn) == dict.fromkeys((1, 4, 9), 2 * len(synthetic.EVERY))
    assert {page.kind for page in drawn} == set(synthetic.EVERY)
    again = [synthetic.held_out(index, kind="letter")[0] for index in range(6)]
    assert [page.hd for page in again] == [1, 1, 4, 4, 9, 9]


def test_synthetic_asks_questions_of_every_kind() -> None:
    asked = [synthetic.held_out(index)[1].kind for index in range(240)]
    assert {"title", "value", "price", "cell", "next", "line", "panel_number"} <= set(asked)
    assert asked.count("title") < 80


def test_synthetic_run_resumes_after_its_last_whole_line(tmp_path: Path) -> None:
    keep = tmp_path / "cases.jsonl"
    whole = finish(synthetic.run(oracle, count=6))
    finish(synthetic.run(oracle, count=3, keep=keep))
    with keep.open("a") as file:
        file.write('[{"number": 1')  # killed while writing
    asked = []

    def counted(image: Image.Image, question: str, hd: int) -> str:
        asked.append(question)
        return oracle(image, question, hd)

    report = finish(synthetic.run(counted, count=6, keep=keep))
    assert report.cases == whole.cases
    assert (
        finish(synthetic.run(oracle, count=6, keep=keep)).cases == whole.cases
    )  # the torn line spoilt nothing behind it
    assert len(set(asked)) <= 3


def test_synthetic_intervals_are_wilsons() -> None:
    case = finish(synthetic.run(oracle, count=1)).cases[0]
    found = synthetic.row("x", [case] * 10)
    assert (round(found.low, 1), round(found.high, 1)) == (72.2, 100.0)
    wrong = synthetic.row("x", [replace(case, right=False)] * 15)
    assert f"{wrong.low:.1f}" == "0.0"


def test_synthetic_run_refuses_a_file_of_something_else(tmp_path: Path) -> None:
    keep = tmp_path / "notes.txt"
    keep.write_text("hello\n")
    with pytest.raises(DataError, match="holds no cases"):
        next(synthetic.run(oracle, count=1, keep=keep))
    assert keep.read_text() == "hello\n"


def test_synthetic_run_refuses_a_count_of_zero() -> None:
    with pytest.raises(UsageError, match="at least 1"):
        next(synthetic.run(oracle, count=0))


def test_synthetic_run_refuses_answers_of_another_model(tmp_path: Path) -> None:
    keep = tmp_path / "cases.jsonl"
    finish(synthetic.run(oracle, count=1, keep=keep, model="first"))
    before = keep.read_text()
    with pytest.raises(DataError, match="answers of first, not of second"):
        next(synthetic.run(oracle, count=1, keep=keep, model="second"))
    assert keep.read_text() == before
