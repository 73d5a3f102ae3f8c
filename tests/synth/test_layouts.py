"""The wider kinds of drawn documents: on the page, unambiguous, right. Properties over many numbers."""

import re
from dataclasses import replace

import numpy as np
import pytest

from ixc.synth.page import characters, text_width
from ixc.synth.page_sampling import LARGER, SETTINGS, WIDER, compose
from ixc.synth.questions import ABSENT, PLACES
from ixc.synth.render import GROUNDS, paint

PAGES = [compose(5000 + n, kind=kind, hd=hd) for kind in WIDER for hd in SETTINGS for n in range(2 if hd == 9 else 4)]


def named(page):
    return f"{page.kind}-{page.hd}-{page.number}"


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_compose_texts_are_on_the_page_and_asked_once(page) -> None:
    for text in page.texts:
        assert text.x >= 0
        assert text.x + text_width(text.string, page.font, text.size) <= page.width + 1
        assert text.size * 0.7 <= text.y <= page.height
    asked = [q.question for q in page.questions]
    assert len(asked) == len(set(asked))


def test_compose_every_kind_asks_at_every_setting() -> None:
    for kind in WIDER:
        for hd in (*SETTINGS, *LARGER[:1]):
            assert any(compose(n, kind=kind, hd=hd).questions for n in range(6)), (kind, hd)
    assert compose(1, kind="form", hd=55).questions


def test_compose_small_page_shows_its_subject() -> None:
    own = {"pie": "slice", "bars": "bar", "curve": "point", "infographic": "panel_number", "invoice": "cell"}
    for kind, asks in own.items():
        drawn = [compose(n, kind=kind, hd=1) for n in range(12)]
        assert all(any(q.kind == asks for q in page.questions) for page in drawn), kind
        assert min(text.size for page in drawn for text in page.texts) >= 9


def answers(kind):
    return [(page, q) for page in PAGES for q in page.questions if q.kind == kind]


def test_compose_answers_are_on_the_page() -> None:
    computed = {"yes_no", "where", "absent", "count"}
    for page in PAGES:
        drawn = "\n".join(t.string for t in page.texts)
        for q in page.questions:
            assert q.kind in computed or q.answer in drawn, (q, named(page))


def test_compose_largest_has_the_largest_value() -> None:
    checked = 0
    for page, q in answers("largest"):
        values = {
            p.question.removeprefix("What is the value ").removeprefix("What is the share ")[3:-1]: int(
                p.answer.rstrip("%")
            )
            for p in page.questions
            if p.kind in ("bar", "point", "slice")
        }
        assert max(values, key=values.get) == q.answer
        assert len(set(values.values())) == len(values)
        checked += 1
    assert checked > 10


def test_compose_shares_of_a_pie_sum_to_a_hundred() -> None:
    for page in PAGES:
        shares = [int(q.answer.rstrip("%")) for q in page.questions if q.kind == "slice"]
        assert not shares or sum(shares) == 100


def test_compose_sum_of_an_invoice() -> None:
    checked = 0
    for page in (p for p in PAGES if p.kind == "invoice"):
        parts = [float(q.answer) for q in page.questions if q.question.startswith("What is the Price of")]
        total = [float(q.answer.replace(",", "")) for q in page.questions if q.question == "What is the Total?"]
        if total:
            assert sum(parts) == pytest.approx(total[0])
            checked += 1
    assert checked > 2


def test_compose_yes_and_no_equally_often() -> None:
    drawn = [q.answer for n in range(60) for q in compose(n, kind="lines", hd=1).questions if q.kind == "yes_no"]
    assert 0.3 < np.mean([a == "yes" for a in drawn]) < 0.7
    assert set(drawn) == {"yes", "no"}


def test_general_questions_yes_no() -> None:
    for page, q in answers("yes_no"):
        found = re.fullmatch(r"Is (\S+) in the image\?", q.question)
        if found:
            there = any(found[1].lower() in t.string.lower() for t in page.texts)
            assert there == (q.answer == "yes"), (q, named(page))


def test_general_questions_absent() -> None:
    for page, q in answers("absent"):
        word = q.question.removeprefix("What is the ").removesuffix(" number?")
        assert q.answer == ABSENT
        assert not any(word.lower() in t.string.lower() for t in page.texts)


def test_general_questions_where_names_the_third_with_the_ink() -> None:
    """The pixels that a word adds to its line lie where the answer says; drawing knows nothing of the answer."""
    checked = 0
    for page, q in answers("where"):
        word = q.question.removeprefix("Where is ").removesuffix("?")
        (text,) = (t for t in page.texts if word in t.string)
        before = text.string.partition(word)[0]
        bare = replace(page, ground="plain", ink=(0, 0, 0), paper=(255, 255, 255), shapes=[], rules=[])
        drawn = [
            np.asarray(paint(replace(bare, texts=[replace(text, string=string, ink=None)])).convert("L"), int)
            for string in (before, before + word)
        ]
        rows, columns = np.nonzero(abs(drawn[1] - drawn[0]) > 60)
        down, across = (int(3 * (v.min() + v.max()) / 2 / n) for v, n in ((rows, page.height), (columns, page.width)))
        assert PLACES[down][across] == q.answer, (q, named(page))
        checked += 1
    assert checked > 40


def test_characters_follow_the_rotation() -> None:
    page = next(p for n in range(40) if abs((p := compose(n, kind="sign", hd=4)).rotation) > 3 and p.questions)
    page.ink, page.paper, page.ground = (0, 0, 0), (255, 255, 255), "plain"
    page.shapes.clear()
    ink = np.asarray(paint(page).convert("L")) < 128
    codes, x, y = characters(page)
    near = [
        ink[int(b) - 9 : int(b) + 9, int(a) - 9 : int(a) + 9].any()
        for c, a, b in zip(codes, x, y, strict=True)
        if c < 95
    ]
    assert np.mean(near) > 0.95


@pytest.mark.parametrize("name", GROUNDS)
def test_grounds_stay_near_the_paper(name: str) -> None:
    page = compose(3, kind="sign", hd=1)
    page.ground, page.rotation = name, 0.0
    page.texts.clear()
    page.shapes.clear()
    pixels = np.asarray(paint(page)).astype(int)
    assert np.abs(pixels - page.paper).max() <= 22
    assert (np.ptp(pixels, axis=(0, 1)).max() > 3) == (name != "plain")


EXTRA = [(page, extra) for page in PAGES for extra in page.extra_questions]


def test_extra_questions_of_every_kind() -> None:
    assert {extra.kind for _, extra in EXTRA} == {"where", "yes_no", "larger", "whose", "section", "panel"}


def test_extra_questions_where() -> None:
    for page, extra in EXTRA:
        if extra.kind != "where":
            continue
        word = extra.question.removeprefix("Where is ").removesuffix("?")
        whole = "".join(text.string for text in page.texts)
        _, x, y = characters(page)
        at = slice(whole.index(word), whole.index(word) + len(word))
        column, row = (int(3 * v[at].mean() / size) for v, size in ((x, page.width), (y, page.height)))
        assert PLACES[row][column] == extra.answer, (extra, named(page))


def test_extra_questions_of_charts() -> None:
    for page, extra in EXTRA:
        amounts = {
            re.split(" (?:of|in) ", q.question.rstrip("?"), maxsplit=1)[1]: int(q.answer.rstrip("%"))
            for q in page.questions
            if q.kind in ("bar", "point", "slice")
        }
        if extra.kind == "whose":
            assert amounts[extra.answer] == int(extra.question.rstrip("?").split(" ")[-1])
        if extra.kind == "larger":
            one, other = extra.question.removeprefix("Is ").removesuffix("?").split(" larger than ")
            assert extra.answer == ("yes" if amounts[one] > amounts[other] else "no")


def test_extra_questions_of_sections() -> None:
    for page, extra in EXTRA:
        if extra.kind in ("section", "panel"):
            word = extra.question.removesuffix("?").split(" ")[-1]
            heads = {d.answer for d in page.extra_questions if d.kind == extra.kind}
            strings = [text.string for text in page.texts]
            at = next(i for i, s in enumerate(strings) if word in s.split(" ") and s not in heads)
            assert next(s for s in reversed(strings[:at]) if s in heads) == extra.answer, (extra, named(page))
        if extra.kind == "yes_no":
            word = extra.question.removeprefix("Is ").removesuffix(" in the image?")
            assert any(word in text.string for text in page.texts) == (extra.answer == "yes")
