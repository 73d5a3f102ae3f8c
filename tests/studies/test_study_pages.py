"""Pages and views of the studies: every answer is unique, and tiles, labels and tokens have one order."""

import numpy as np
import pytest
import torch

from ixc.core.token_layout import Layout
from ixc.synth.page import DrawnPage, PlacedText
from ixc.synth.render import paint
from studies.resolution import pages, views
from studies.resolution.scale import SIDE, TILE
from studies.resolution.views import ANYRES, View

NUMBERS = range(0, 120, 3)


def items(page: DrawnPage) -> list[list[PlacedText]]:
    """Key, first and second digit of every item."""
    texts = page.texts[1:]
    return [texts[i : i + 3] for i in range(0, len(texts), 3)]


def wanted(kind: str, key: str, at: dict[str, tuple[int, int]]) -> str:
    """The key whose value answers a question, from baselines and left edges."""
    y, x = at[key]
    if kind == "row":
        return max((k for k in at if at[k][0] == y), key=lambda k: at[k][1])
    if kind == "below":
        return min((k for k in at if at[k][0] > y and abs(at[k][1] - x) <= 1), key=lambda k: at[k][0])
    return key


@pytest.mark.parametrize("sort", [None, "8k"])
def test_ask_answers_follow_from_the_positions(sort: str | None) -> None:
    kinds = set()
    for number in NUMBERS:
        page = pages.draw(number, sort)
        at = {item[0].string: (item[0].y, item[0].x) for item in items(page)}
        value = {item[0].string: item[1].string + item[2].string for item in items(page)}
        assert len(value) == len(set(value.values())) == len(items(page))
        assert len({q.question for q in page.questions}) == len(page.questions)
        for q in page.questions:
            kinds.add(q.kind)
            if q.kind == "large":
                assert q.answer == page.texts[0].string
                continue
            assert q.answer == value[wanted(q.kind, q.question[1], at)]
    assert kinds == set(pages.KINDS)


def test_draw_keeps_items_on_the_page_and_apart() -> None:
    for number in NUMBERS:
        page = pages.draw(number)
        for t in page.texts[1:]:
            assert t.x >= 0
            assert t.x + 0.8 * t.size <= page.width + 1
            assert t.size * 0.8 <= t.y <= page.height
        places = [(item[0].x, item[0].y, item[0].size) for item in items(page)]
        for i, (x, y, size) in enumerate(places):
            for other_x, other_y, _ in places[i + 1 :]:
                assert abs(x - other_x) >= 5 * size or abs(y - other_y) >= 2 * size


def test_paint_equals_the_general_renderer() -> None:
    for number in (3, 8):
        page = pages.draw(number)
        fast, slow = (np.asarray(brush(page), int) for brush in (pages.paint, paint))
        assert np.abs(fast - slow).max() <= 6  # letters over the pale digits are blended in another order


def test_anyres_takes_the_grid_that_keeps_most_pixels() -> None:
    # 1.6 : 1 under nine tiles of 112 px: 4 x 2 keeps 358 x 224 px, 3 x 3 only 336 x 210
    place = View(hd=9, rule=ANYRES).place(1600, 1000)
    assert (place.grid_w, place.grid_h, place.resized_width, place.resized_height) == (4, 2, 358, 224)
    assert place.pad_left + place.resized_width + place.pad_right == 4 * TILE
    # 45 px of padding on a side are one column of tokens of 28 px
    top, bottom, left, right = views.unpadded(place)
    assert (top, bottom, left, right) == (0, 2 * SIDE, 1, 4 * SIDE - 1)


@pytest.mark.parametrize("newline", [True, False])
@pytest.mark.parametrize("overview", [True, False])
@pytest.mark.parametrize("rule", ["original", "native", ANYRES])
def test_glyph_tokens_sequence_and_tokens_agree(newline: bool, overview: bool, rule: str) -> None:
    page = pages.draw(7)
    place = View(hd=9, rule=rule).place(page.width, page.height)
    glyph_tokens = views.glyph_tokens(page, place, newline=newline, overview=overview)
    seen = torch.from_numpy(views.written(page, place)[..., :6]).float()
    marks = torch.full((2, 6), -1.0)
    kept = marks[0] if newline else None
    order = views.sequence(seen, place, newline=kept, separator=marks[1] if overview else None)
    count = views.tokens(place, newline=newline, overview=overview)
    assert len(glyph_tokens.special) == len(order) == count
    chars = np.where((glyph_tokens.special > 0)[:, None], -1, glyph_tokens.chars)
    assert np.array_equal(order.numpy().astype(int), chars)
    if rule != ANYRES:
        assert (
            count
            == Layout(
                grid_h=place.grid_h, grid_w=place.grid_w, tokens_per_side=SIDE, newline=newline, overview=overview
            ).num_tokens
        )
