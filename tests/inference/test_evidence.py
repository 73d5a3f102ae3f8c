"""Boxes that an answer was copied from. Oracle: where drawn pages hold the answer."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import ixc
from ixc.core.tiling import partition
from ixc.errors import UsageError
from ixc.inference.engine import Engine
from ixc.inference.evidence import COLOUR, Evidence, draw_boxes, regions
from ixc.inference.request import Answer

ROOT = Path(__file__).parents[2]
RECEIPT = ROOT / "examples" / "receipt.png"
PLACES = {"What is the TOTAL?": (188, 253, 268, 280), "What is the title?": (64, 25, 224, 55)}
"""Question about the receipt -> box of its answer in pixels."""


@pytest.fixture(scope="module")
def engine() -> Engine:
    return ixc.load(device="cpu")


@pytest.mark.parametrize("question", PLACES)
def test_evidence_frames_the_answer(engine: Engine, question: str) -> None:
    answer = engine.ask([RECEIPT], question, evidence=True)
    assert answer.evidence is not None
    best, left, top, right, bottom = answer.evidence[0], *PLACES[question]
    x0, y0, x1, y1 = best.pixels(288, 298)
    assert best.share > 0.8
    assert x0 <= left + 8  # a cell has 28 pixels, and the letters at the ends may lie in two
    assert x1 >= right - 8
    assert top - 28 <= y0 <= top + 8
    assert bottom - 8 <= y1 <= bottom + 28


def test_evidence_of_two_images_names_the_one_that_holds_the_answer(engine: Engine) -> None:
    white = Image.new("RGB", (300, 300), "white")
    question = "What is the title?"
    for images, place in (([RECEIPT, white], 0), ([white, RECEIPT], 1)):
        found = engine.ask(images, question, evidence=True).evidence
        assert found is not None
        assert found[0].image == place


def test_evidence_is_only_there_where_it_was_asked_for(engine: Engine) -> None:
    plain = engine.ask([RECEIPT], "What is the title?")
    assert plain.evidence is None
    assert "evidence" not in plain.as_dict()
    asked = engine.ask([RECEIPT], "What is the title?", evidence=True)
    assert asked.as_dict()["evidence"]
    assert Answer.from_dict(asked.as_dict()) == asked
    assert (asked.text, asked.confidence) == (plain.text, plain.confidence)
    assert engine.ask([], "What is the title?", evidence=True).evidence == ()
    batch = engine.batch([ixc.Query([RECEIPT], "What is the title?", evidence=True), ixc.Query([RECEIPT], "Total?")])
    assert [each.evidence is None for each in batch] == [False, True]


def test_evidence_needs_kept_prefixes(engine: Engine) -> None:
    with pytest.raises(UsageError, match="prefix_cache"):
        Engine(model=engine.model, processor=engine.processor, prefix_cache=0).ask([RECEIPT], "T?", evidence=True)


def test_regions_join_cells_that_touch_or_have_one_between_them_in_a_row() -> None:
    cells = np.array([[1, 1, 0, 1, 0, 0, 1], [0, 0, 0, 0, 0, 0, 0], [0, 1, 0, 0, 0, 0, 0]], bool)
    assert [(int(each.sum()), int(each[2].sum())) for each in regions(cells)] == [(3, 0), (1, 0), (1, 1)]
    assert regions(np.zeros((2, 2), bool)) == []


@pytest.mark.parametrize("size", [(500, 120), (120, 500), (336, 336)])
def test_evidence_boxes_lie_on_the_picture(engine: Engine, size: tuple[int, int]) -> None:
    answer = engine.ask([Image.new("RGB", size, "white")], "What is the title?", hd=4, evidence=True)
    grid = partition(*size, hd=4, rule=answer.partition)
    assert answer.grids == ((grid.grid_h, grid.grid_w),)
    for each in answer.evidence or ():
        left, top, right, bottom = each.box
        assert 0 <= left < right <= 1
        assert 0 <= top < bottom <= 1


def test_draw_boxes_draws_around_the_box() -> None:
    picture = Image.new("RGB", (200, 100), "white")
    drawn = np.asarray(draw_boxes(picture, [Evidence(image=0, box=(0.25, 0.25, 0.5, 0.75), share=1.0)]))
    assert (drawn[25:75, 50:100] == 255).all()
    assert tuple(drawn[24, 60]) == COLOUR
    assert (np.asarray(picture) == 255).all()
