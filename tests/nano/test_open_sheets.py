"""`ixc synth --open`: typeset pages and charts as a dataset, the same from the same numbers, one line for errors."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import pytest
from commands import Run
from PIL import Image

from ixc.errors import UsageError
from ixc.nano.data.typeset.folder import Typesetter
from ixc.nano.data.typeset.sheets import OPEN_KINDS, OpenDrawing, open_sheet
from ixc.nano.data.typeset.text import TextSource

TEXT = TextSource()


@pytest.fixture(scope="module")
def typesetter() -> Typesetter:
    return Typesetter()


@pytest.mark.parametrize("kind", OPEN_KINDS)
def test_open_sheet_draws_every_kind(kind: str, typesetter: Typesetter) -> None:
    sheet, again = (open_sheet(typesetter, TEXT, 7, kind) for _ in range(2))
    assert sheet.kind == kind
    assert sheet.questions == again.questions
    assert sheet.picture().tobytes() == again.picture().tobytes()
    assert len({one.question for one in sheet.questions}) == len(sheet.questions) > 0


def test_open_drawing_refuses_an_unknown_kind() -> None:
    with pytest.raises(UsageError, match="no kind 'sonnet' of open pages; use one of invoice"):
        OpenDrawing(kind="sonnet").check()


def test_open_drawing_draws_the_same_after_pickling() -> None:
    drawing = OpenDrawing(kind="form")
    assert pickle.loads(pickle.dumps(drawing)).draw(3) == drawing.draw(3)


def test_synth_open_writes_questions(run: Run, tmp_path: Path) -> None:
    code, printed, _ = run("synth", tmp_path / "pages", "-n", "3", "--open", "--seed", "40")
    assert (code, printed) == (0, f"{tmp_path / 'pages'}\n")
    rows = [json.loads(line) for line in (tmp_path / "pages" / "questions.jsonl").read_text().splitlines()]
    assert {row["number"] for row in rows} == {40, 41, 42}
    for name in {row["image"] for row in rows}:
        with Image.open(tmp_path / "pages" / name) as picture:
            assert min(picture.size) > 20


def test_synth_open_conversations_can_be_trained_on(run: Run, tmp_path: Path) -> None:
    folder = tmp_path / "pages"
    assert run("synth", folder, "-n", "2", "--open", "--format", "conversations")[0] == 0
    code, printed, error = run("data", "check", folder / "conversations.jsonl")
    assert code == 0, error
    assert "2" in printed


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--open", "--hd", "4"), "--hd 4 has no effect with --open"),
        (("--fonts", "."), "--fonts has no effect without --open"),
        (("--open", "--fonts", "nowhere"), "nowhere"),
        (("--open", "--kind", "boarding"), "no kind 'boarding' of open pages"),
        (("--open", "-n", "0"), "0 documents asked for"),
    ],
)
def test_synth_open_refusals(run: Run, tmp_path: Path, options: tuple[str, ...], words: str) -> None:
    code, _, error = run("synth", tmp_path / "pages", *options)
    assert code == 2
    assert words in error
    assert error.count("\n") == 1
    assert not list(tmp_path.iterdir())
