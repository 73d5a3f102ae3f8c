"""`ixc ask --draw` and `--evidence`: what is written and printed, and one line for what cannot be."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from commands import Run
from PIL import Image

from ixc.inference.evidence import COLOUR

RECEIPT = Path(__file__).parents[2] / "examples" / "receipt.png"
QUESTION = "What is the TOTAL?"


@pytest.mark.parametrize("end", ["png", "JPG"])
def test_ask_draw_writes_the_image_with_a_frame(run: Run, tmp_path: Path, end: str) -> None:
    out = tmp_path / f"total.{end}"
    code, printed, notes = run("ask", RECEIPT, QUESTION, "--draw", out)
    assert (code, printed) == (0, "641.57\n")
    assert f"{out}: 1 box" in notes
    with Image.open(out) as drawn, Image.open(RECEIPT) as given:
        assert drawn.size == given.size
        red = np.abs(np.asarray(drawn.convert("RGB"), int) - COLOUR).max(-1) < 60
    rows = np.flatnonzero(red.any(1))
    assert red.sum() > 200
    assert 230 < rows[0] < 260  # the line of the total stands at 253 to 280
    assert [path.name for path in tmp_path.iterdir()] == [out.name]


def test_ask_evidence_json_has_boxes_and_confidence(run: Run) -> None:
    code, printed, _ = run("ask", RECEIPT, QUESTION, "--json", "--evidence")
    found = json.loads(printed)
    assert code == 0
    assert found["text"] == "641.57"
    assert found["confidence"] > 0.5
    assert found["evidence"][0]["image"] == 0
    code, printed, _ = run("ask", RECEIPT, QUESTION, "--json")
    assert "evidence" not in json.loads(printed)
    assert json.loads(printed)["confidence"] == pytest.approx(found["confidence"], abs=2e-3)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--evidence",), "add --json"),
        (("--draw", "a.gif"), "one of .png, .jpg, .jpeg"),
        (("--draw", "nowhere/a.png"), "no folder nowhere"),
        (("--draw", "a.png", "--compile"), "leave out --compile"),
    ],
)
def test_ask_evidence_refusals(run: Run, options: tuple[str, ...], words: str) -> None:
    code, printed, error = run("ask", RECEIPT, QUESTION, *options)
    assert (code, printed) == (2, "")
    assert words in error
    assert error.count("\n") == 1


def test_ask_draw_takes_one_image(run: Run, tmp_path: Path) -> None:
    code, _, error = run("ask", RECEIPT, RECEIPT, QUESTION, "--draw", tmp_path / "a.png")
    assert code == 2
    assert "2 are given" in error
    assert not list(tmp_path.iterdir())
