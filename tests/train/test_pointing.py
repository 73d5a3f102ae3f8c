"""Where answers stand, and what makes a head look there."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from ixc.data.synth.compose import compose
from ixc.data.synth.page import Question, Text
from ixc.train.answering import answer_logits
from ixc.train.packing import choose, encode, markup, pack, worth
from ixc.train.pointing import NOT_COPIED, NOWHERE, Gaze, Pointer, look_at, places_of, whole_words
from ixc.train.recipe import read_recipe
from ixc.train.symbols import SPACE, page_symbols

TINY = Path(__file__).with_name("tiny_recipe.py")


@pytest.mark.parametrize("hd", [1, 4, 9])
@pytest.mark.parametrize("kind", ["form", "table", "infographic", "screen"])
def test_the_tokens_of_an_answer_hold_its_letters(kind: str, hd: int) -> None:
    """By the symbols, which are made without it: every letter that is pointed at stands in its token."""
    seen = 0
    for number in range(6):
        page = compose(number, kind=kind, hd=hd)
        chars = page_symbols(page, hd=hd).chars
        for question, letters in zip(page.questions, places_of(page, page.questions, hd=hd), strict=True):
            if question.kind in NOT_COPIED:
                assert letters is None
                continue
            for letter, tokens in zip(question.answer, (letters or {}).values(), strict=False):
                code = SPACE if letter == " " else ord(letter) - 32
                for token in tokens:
                    if (chars[token] > 0).all():
                        continue  # more letters than a token has slots for
                    assert code in chars[token], (question, letter)
                    seen += 1
    assert seen > 20


def test_an_answer_is_a_whole_word() -> None:
    assert whole_words("12 of 123, 12; a12", "12") == [0, 11]
    assert whole_words("Lot 7", "Lot 7") == [0]
    assert whole_words("none", "some") == []
    assert whole_words("anything", "") == []


def test_looking_is_a_logarithm_of_what_is_given() -> None:
    page = compose(3, kind="form", hd=1)
    page.texts, page.questions = (
        [Text(string="Key: ab", x=30, y=60, size=26)],
        [Question(kind="value", question="Key?", answer="ab")],
    )
    places = places_of(page, page.questions, hd=1)
    assert places[0] is not None
    assert all(places[0].values())
    before, length = len(markup()[0]), 6
    given = torch.full((1, length, before + 313), 1e-9)
    firsts = torch.tensor([[2]])
    for k, tokens in places[0].items():
        given[0, 2 + k, [before + t for t in tokens]] = 0.5 / len(tokens)
    wanted = pytest.approx(np.log(2), abs=1e-3)
    assert look_at(given, [places], firsts).item() == wanted
    assert look_at(given, [[None]], firsts).item() == 0


def test_the_head_that_is_told_so_looks_there() -> None:
    """Gradient steps on the look alone raise what the head gives to the answer."""
    from ixc.train.language import Reader
    from ixc.train.lessons import LESSONS, lesson_page

    torch.manual_seed(0)
    reader = Reader(read_recipe(TINY).model.text_config, seed=1)
    page, symbols = lesson_page(5, next(one for one in LESSONS if one.hd == 1))
    questions = [q for q in page.questions if q.kind not in NOT_COPIED][:4]
    optim = torch.optim.Adam(reader.parameters(), lr=1e-2)
    losses = []
    for _ in range(12):
        image = reader.embed_image([symbols], noise=0.0)
        packed = pack([questions], prefix=len(markup()[0]) + image.shape[1])
        gaze = Gaze(pointers=(Pointer(layer=0, head=1, weight=1.0),))
        answer_logits(reader.decoder, image, packed, gaze=gaze)
        loss = gaze.loss([page], [questions], packed.firsts, hd=1)
        loss.backward()
        optim.step()
        optim.zero_grad()
        losses.append(loss.item())
    assert losses[-1] < losses[0] - 0.3


def test_half_known_kinds_are_asked_most() -> None:
    questions = [Question(kind=kind, question=f"{kind}?", answer="1") for kind in ("known", "half", "never")]
    drawn = choose(np.random.default_rng(0), questions, 3000, known={"known": 1.0, "half": 0.5})
    shares = {kind: sum(q.kind == kind for q in drawn) / 3000 for kind in ("known", "half", "never")}
    total = worth(1.0) + worth(0.5) + worth(0.0)
    assert shares == pytest.approx({"known": 0.12 / total, "half": 0.72 / total, "never": 0.32 / total}, abs=0.03)


def test_a_word_that_is_asked_for_is_looked_at_where_it_stands() -> None:
    page = compose(3, kind="form", hd=1)
    page.texts = [Text(string="Blue Lamp", x=30, y=60, size=26), Text(string="Total 7", x=30, y=200, size=26)]
    asked = [
        Question(kind="where", question="Where is Lamp?", answer="top"),
        Question(kind="yes_no", question="Is Total in the image?", answer="yes"),
        Question(kind="yes_no", question="Is Chair in the image?", answer="no"),
        Question(kind="yes_no", question="Is Oslo larger than Rome?", answer="no"),
        Question(kind="value", question="What is the Total?", answer="7"),
    ]
    lamp, total, chair, larger, value = places_of(page, asked, hd=1, at="asked")
    chars = page_symbols(page, hd=1).chars
    for word, places in (("Lamp", lamp), ("Total", total)):
        assert places is not None
        held = {int(c) for token in places[0] for c in chars[token] if c}
        assert {ord(c) - 32 for c in word} <= held
    assert len(lamp or []) == len("top")
    assert chair == {0: [NOWHERE], 1: [NOWHERE]}
    assert larger is None
    assert value is None
    given = torch.zeros(1, 4, 60)
    given[0, 1:3, 0] = 0.25  # to the first token, from the two places that tell `no`
    assert look_at(given, [[chair]], torch.tensor([[1]])).item() == pytest.approx(np.log(4), abs=1e-4)


def test_a_named_word_is_looked_at_letter_by_letter() -> None:
    """From its third letter on, at the token that tells what comes behind that letter."""
    page = compose(3, kind="form", hd=1)
    page.texts = [Text(string="Invoice Lamp", x=30, y=60, size=26)]
    asked = [
        Question(kind="where", question="Where is Lamp?", answer="top"),
        Question(kind="where", question="Where is Chair?", answer="top"),
    ]
    lamp, chair = places_of(page, asked, hd=1, at="named")
    assert chair is None
    assert lamp is not None
    chars = page_symbols(page, hd=1).chars
    packed = pack([asked], prefix=len(markup()[0]) + 313)
    for (back, tokens), letter in zip(sorted(lamp.items()), "mp", strict=True):
        assert packed.ids[0, int(packed.firsts[0, 0]) + back].item() == encode(letter)[0]
        assert all(ord(letter) - 32 in chars[token] for token in tokens)
