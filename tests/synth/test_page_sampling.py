"""Drawn documents: the same from the same number, exact and unique answers, everything on the page."""

import hashlib

import numpy as np
import pytest

from ixc.synth import fonts
from ixc.synth.layouts.basic import KINDS
from ixc.synth.page import SPACE, characters, text_width
from ixc.synth.page_sampling import HELD_OUT, SETTINGS, compose
from ixc.synth.render import paint

PAGES = [compose(number) for number in range(120)] + [compose(HELD_OUT + number) for number in range(40)]


def test_paint_same_number_same_pixels() -> None:
    first, second = (hashlib.sha256(paint(compose(4321)).tobytes()).hexdigest() for _ in range(2))
    assert first == second


def test_compose_draws_every_kind_and_setting() -> None:
    assert {p.kind for p in PAGES} == set(KINDS)
    assert {p.hd for p in PAGES} == set(SETTINGS)


def test_compose_training_pages_use_training_fonts_only() -> None:
    assert {p.font for p in PAGES} <= set(fonts.TRAIN_FONTS)
    assert not set(fonts.TRAIN_FONTS) & set(fonts.TEST_FONTS)


@pytest.mark.parametrize("page", PAGES[::4], ids=lambda p: f"{p.kind}-{p.number}")
def test_compose_texts_are_on_the_page(page) -> None:
    for text in page.texts:
        assert text.x >= 0
        assert text.x + text_width(text.string, page.font, text.size) <= page.width + 1
        assert text.size * 0.7 <= text.y <= page.height


def test_compose_answers_are_on_the_page_word_for_word() -> None:
    for page in PAGES:
        drawn = [t.string for t in page.texts]
        for q in page.questions:
            if q.kind == "next":
                assert any(f" {q.answer}" in d for d in drawn)
            else:
                assert q.answer in drawn


def test_compose_questions_are_asked_once() -> None:
    for page in PAGES:
        asked = [q.question for q in page.questions]
        assert len(asked) == len(set(asked)), page.number


def test_compose_no_key_inside_another() -> None:
    for page in PAGES:
        if page.kind != "form":
            continue
        keys = [
            q.question.removeprefix("What is the ").removesuffix("?").lower()
            for q in page.questions
            if q.kind == "value"
        ]
        assert not [(a, b) for a in keys for b in keys if a != b and a in b], page.number


def test_characters_lie_where_the_ink_is() -> None:
    page = compose(11, kind="form", hd=1)
    page.ink, page.paper = (0, 0, 0), (255, 255, 255)
    ink = np.asarray(paint(page).convert("L")) < 128
    codes, x, y = characters(page)
    x, y = x[codes < SPACE], y[codes < SPACE]
    near = [
        ink[max(0, int(b) - 9) : int(b) + 9, max(0, int(a) - 9) : int(a) + 9].any() for a, b in zip(x, y, strict=True)
    ]
    assert np.mean(near) > 0.98  # dots and commas lie lower than the middle of a letter


@pytest.mark.parametrize("name", [*fonts.TRAIN_FONTS, *fonts.TEST_FONTS])
def test_fonts_load_and_have_the_printable_characters(name: str) -> None:
    face = fonts.load(name, 20)
    unknown = bytes(face.getmask("\u0378"))
    assert all(bytes(face.getmask(chr(c))) != unknown for c in range(33, 127))
