"""Questions that share a page's prefill: each answer is the one the question gets alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image, ImageDraw

from ixc.errors import ContextError, ImageError
from ixc.inference import shared_prefix
from ixc.inference.engine import Engine, load
from ixc.inference.query import Query
from ixc.inference.request import Answer
from ixc.inference.sampling import Sampling
from ixc.inference.shared_prefix import answer_pages

SIZES = [(300, 200), (700, 300), (200, 640), (336, 336), (900, 90)]
QUESTIONS = ["Title?", "What is the TOTAL of this page?", "Date?"]


def page(width: int, height: int, text: str) -> Image.Image:
    image = Image.new("RGB", (width, height), "white")
    ImageDraw.Draw(image).text((8, 8), text, fill="black")
    return image


def queries(**options: Any) -> list[list[Query]]:
    pages = [page(*size, f"Delivery Note {number}") for number, size in enumerate(SIZES)]
    return [[Query([image], text, **{"max_new_tokens": 6, **options}) for text in QUESTIONS] for image in pages]


@pytest.fixture(scope="module")
def engine(tiny_folder: Path) -> Engine:
    return load(tiny_folder, device="cpu")


@pytest.fixture
def groups(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """(pages, rows) of every group that was generated with a shared prefill."""
    found: list[tuple[int, int]] = []
    real = shared_prefix._generate

    def generate(engine: Engine, group: Any) -> list[Answer]:
        answers = real(engine, group)
        found.append((len(group), len(answers)))
        return answers

    monkeypatch.setattr(shared_prefix, "_generate", generate)
    return found


def same(found: Answer | Exception, expected: Answer) -> bool:
    assert isinstance(found, Answer), found
    return {**found.as_dict(), "seconds": 0} == {**expected.as_dict(), "seconds": 0}


def test_answer_pages_equals_the_answers_alone(groups: list[tuple[int, int]]) -> None:
    """Of the embedded model, whose answers differ between pages and questions; the random one says one thing always."""
    engine = load(device="cpu")
    asked = queries(hd=4, max_new_tokens=8)
    found = answer_pages(engine, asked)
    assert groups == [(5, 15)]
    for of_page, answers in zip(asked, found, strict=True):
        for query, answer in zip(of_page, answers, strict=True):
            assert same(answer, engine.answer(query))
    assert len({answer.text for answers in found for answer in answers if isinstance(answer, Answer)}) >= 5


def test_answer_pages_prefills_a_page_once(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """The decoder meets every position of a prefix once, whatever the number of questions."""
    met: list[tuple[int, ...]] = []
    decoder = engine.model.model.language_model
    real = decoder.forward

    def forward(*arguments: Any, **options: Any) -> Any:
        given = options.get("inputs_embeds")
        met.append(tuple((options["input_ids"] if given is None else given).shape[:2]))
        return real(*arguments, **options)

    monkeypatch.setattr(decoder, "forward", forward)
    answer_pages(engine, queries())
    assert met[0][0] == 5
    assert met[1][0] == 15
    assert met[1][1] < met[0][1] / 3
    assert all(shape == (15, 1) for shape in met[2:])


def test_answer_pages_is_bounded_by_positions(engine: Engine, groups: list[tuple[int, int]]) -> None:
    answer_pages(engine, queries(), positions=1)
    assert groups == [(1, 3)] * 5


def test_answer_pages_takes_what_does_not_fit_through_batch(engine: Engine, groups: list[tuple[int, int]]) -> None:
    image = page(300, 200, "Note")
    asked = [
        [Query([image], "Title?", max_new_tokens=4), Query([image], "Title?", max_new_tokens=5)],
        [Query([image], "Date?", max_new_tokens=4, sampling=Sampling(num_beams=2))],
        [Query([], "Hello", max_new_tokens=4)],
        [Query([image], "Date?", max_new_tokens=4, history=[("Title?", "None")])],
        [],
    ]
    found = answer_pages(engine, asked)
    assert groups == [(1, 1), (1, 1)]  # two lengths are two settings
    for of_page, answers in zip(asked, found, strict=True):
        assert all(same(answer, engine.answer(query)) for query, answer in zip(of_page, answers, strict=True))


def test_answer_pages_one_that_fails_costs_no_other(engine: Engine, groups: list[tuple[int, int]]) -> None:
    asked = queries()
    asked[1] = [Query([b"no picture"], "Title?")]
    asked[3] = [asked[3][0], Query(asked[3][0].images, "x" * 20_000, max_new_tokens=6)]
    found = answer_pages(engine, asked)
    assert isinstance(found[1][0], ImageError)
    assert isinstance(found[3][1], ContextError)
    assert same(found[3][0], engine.answer(asked[3][0]))
    assert same(found[0][2], engine.answer(asked[0][2]))


def test_answer_pages_falls_back_where_a_group_breaks(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any) -> list[Answer]:
        raise torch.OutOfMemoryError

    monkeypatch.setattr(shared_prefix, "_generate", broken)
    asked = queries()[:2]
    found = answer_pages(engine, asked)
    assert same(found[1][1], engine.answer(asked[1][1]))
