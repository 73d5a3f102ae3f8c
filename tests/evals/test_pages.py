"""`ixc data questions` and `ixc eval pages`: a folder of questions, every answer kept, one bad picture ends nothing."""

import json
from pathlib import Path

import pytest
from nano.tiny_pdf import write
from PIL import Image
from typer.testing import CliRunner

from ixc.cli.main import app
from ixc.errors import DataError, ImageError
from ixc.evals.pages import QUESTIONS, PageReport, em_class, read_cases, run
from ixc.nano.data.page_folder import FolderConfig, write_pages
from ixc.nano.data.pdf_sources import find_documents
from ixc.nano.data.question_folder import QuestionConfig, write_questions


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("manuals")
    for name in ("a/one.pdf", "b/two.pdf"):
        write(folder / name)
    list(write_pages(find_documents([folder / "a", folder / "b"]), folder / "pages", FolderConfig(seed=1)))
    return folder / "pages"


@pytest.fixture(scope="module")
def questions(pages: Path) -> Path:
    out = pages.parent / "questions"
    assert list(write_questions(pages, out, QuestionConfig(pages=3, per_page=3))) == [1, 2, 3]
    return out


def test_write_questions_makes_a_folder_that_read_cases_reads(questions: Path) -> None:
    cases = read_cases(questions)
    assert {case.image for case in cases} == {"0000.png", "0001.png", "0002.png"}
    assert {case.package for case in cases} == {"a", "b"}
    for name in {case.image for case in cases}:
        kinds = [case.kind for case in cases if case.image == name]
        assert 1 <= len(kinds) == len(set(kinds)) <= 3
    row = json.loads((questions / QUESTIONS).read_text().splitlines()[0])
    with Image.open(questions / row["image"]) as picture:
        assert picture.size == (row["width"], row["height"])


def test_write_questions_of_an_empty_folder_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="0 pages in"):
        list(write_questions(tmp_path, tmp_path / "out", QuestionConfig()))
    assert not (tmp_path / "out").exists()


def outcome(*arguments: object, **options: object) -> PageReport:
    *_, report = run(*arguments, **options)  # type: ignore[arg-type]
    assert isinstance(report, PageReport)
    return report


def test_run_scores_an_oracle_and_keeps_what_it_answered(questions: Path, tmp_path: Path) -> None:
    truth = {(case.image, case.question): case.answer for case in read_cases(questions)}
    asked: list[str] = []

    def oracle(image: Path, question: str) -> str:
        asked.append(question)
        if len(asked) == 2:
            raise ImageError(f"{image} is broken")
        return f"  {truth[image.name, question]} "

    keep = tmp_path / "answers.jsonl"
    first = outcome(oracle, questions, keep=keep, model="m")
    assert first.failed == 1
    assert sum(case.right for case in first.cases) == len(truth) - 1
    assert "is broken" in str(first)
    with keep.open("a") as file:
        file.write('{"image": "torn')
    again = outcome(oracle, questions, keep=keep, model="m")
    assert len(asked) == len(truth) + 1  # only the failed one was asked again
    assert all(case.right for case in again.cases)
    assert again.as_dict()["groups"]["all"][0]["percent"] == 100
    with pytest.raises(DataError, match="of m, not of n"):
        outcome(oracle, questions, keep=keep, model="n")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "holds 0 questions"),
        ('{"image": "x.png"}\n', "line 1: no question"),
        ('{"image": "x.png", "kind": "k", "question": "q", "answer": "a"}\n', "1 of 1 pictures .* missing: x.png"),
    ],
)
def test_read_cases_names_what_is_wrong(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / QUESTIONS).write_text(content)
    with pytest.raises(DataError, match=message):
        read_cases(tmp_path)


def test_read_cases_without_a_file_says_how_to_make_it(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="make the folder with ixc data questions"):
        read_cases(tmp_path)


def test_em_class_names_bins() -> None:
    assert [em_class(em) for em in (None, 7, 8, 27.9, 40)] == [
        "unknown", "below 08 px", "08 to 12 px", "20 to 28 px", "28 px and more",
    ]  # fmt: skip


def test_eval_pages_command_answers_with_the_embedded_model(pages: Path, tmp_path: Path) -> None:
    out = str(tmp_path / "asked")
    made = CliRunner().invoke(app, ["data", "questions", str(pages), "--out", out, "--pages", "1", "--per-page", "1"])
    assert made.exit_code == 0, made.output
    done = CliRunner().invoke(app, ["eval", "pages", out, "--hd", "4", "--json"])
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["groups"]["all"][0]["count"] == 1
    wrong = CliRunner().invoke(app, ["eval", "pages", str(tmp_path)])
    assert isinstance(wrong.exception, DataError)
