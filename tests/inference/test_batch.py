"""Questions side by side: every answer is the one the question gets alone, and published prompts keep their tags."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image, ImageDraw

from ixc.core import chat_format
from ixc.errors import ContextError, ImageError, IxcError, UsageError
from ixc.inference import batch
from ixc.inference.batch import BatchRequest
from ixc.inference.engine import Engine, load
from ixc.inference.request import Answer

RAW = f"{chat_format.TURN_START}user\n{{}}{chat_format.TURN_END}\n{chat_format.TURN_START}assistant\nThe answer is"


def picture(width: int, height: int, text: str) -> bytes:
    image = Image.new("RGB", (width, height), "white")
    ImageDraw.Draw(image).text((8, 8), text, fill="black")
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


@pytest.fixture(scope="module")
def engine() -> Engine:
    return load(device="cpu")


def requests() -> list[BatchRequest]:
    sizes = [(300, 200), (700, 300), (200, 640), (336, 336)]
    found = []
    for number, (width, height) in enumerate(sizes):
        image = picture(width, height, f"Delivery Note {number}")
        name = f"question {number}"
        found += [
            BatchRequest(name=name, images=(image,), text=f"What is the title? {'x' * number}", hd=2, max_new_tokens=4),
            BatchRequest(
                name=name,
                images=(image,),
                text=RAW.format("Title?" * (number + 1)),
                hd=2,
                raw=True,
                num_beams=3,
                max_new_tokens=4,
            ),
        ]
    two = (picture(100, 90, "one"), picture(400, 90, "two"))
    return [
        *found,
        BatchRequest(name="two", images=two, text="What differs?", hd=2, max_new_tokens=4),
        BatchRequest(name="none", images=(), text="Hello", hd=2, max_new_tokens=4),
    ]


@pytest.mark.parametrize("folder", ["tiny", pytest.param("embedded", marks=pytest.mark.slow)])
def test_answer_in_a_batch_equals_the_answer_alone(tiny_folder: Path, folder: str) -> None:
    engine = load(tiny_folder if folder == "tiny" else None, device="cpu")
    asked = requests()
    alone = [batch.answer(engine, [request])[0] for request in asked]
    assert batch.answer(engine, asked) == alone
    assert batch.answer(engine, asked[::-1], positions=1500) == alone[::-1]
    assert len(set(alone)) > 3


def test_answer_equals_the_engines(engine: Engine) -> None:
    request = requests()[0]
    said = engine.ask(request.images, request.text, hd=request.hd, max_new_tokens=request.max_new_tokens)
    assert batch.answer(engine, [request]) == [said.text]


def test_groups_have_one_setting_and_a_bounded_length(engine: Engine) -> None:
    items = [batch._item(engine, place, request, "native") for place, request in enumerate(requests())]
    groups = list(batch._groups(items, 1500))
    assert sorted(item.index for group in groups for item in group) == list(range(len(items)))
    for group in groups:
        assert len({item.setting for item in group}) == 1
        rows = len(group) * group[0].setting.num_beams
        assert len(group) == 1 or rows * max(item.length for item in group) <= 1500


def test_segments_image_of_a_published_prompt() -> None:
    picture_ = Image.new("RGB", (9, 9))
    request = BatchRequest(name="q", images=(b"",), text=RAW.format("Title?"), hd=1, raw=True)
    first = batch.segments(request, [picture_])
    assert [segment.kind for segment in first] == ["image", "markup"]
    assert first[1].text == request.text
    inside = replace(request, text=RAW.format("Look: <ImageHere>"))
    assert [segment.kind for segment in batch.segments(inside, [picture_])] == ["markup", "image", "markup"]
    with pytest.raises(UsageError, match="2 images"):
        batch.segments(inside, [picture_, picture_])


def test_segments_tags_in_a_users_text_stay_text() -> None:
    request = BatchRequest(name="q", images=(), text=f"a{chat_format.TURN_END}<ImageHere>", hd=1)
    assert [segment.kind for segment in batch.segments(request, [])] == ["markup", "content", "markup"]


def test_segments_published_have_one_start_token(engine: Engine) -> None:
    request = requests()[1]
    item = batch._item(engine, 0, request, "native")
    ids = engine.processor.encode_segments([item.segments], bos_once=True, hd=2)["input_ids"][0].tolist()
    start = engine.processor.tokenizer.bos_token_id
    assert ids[0] == start
    assert ids.count(start) == 1
    assert ids[1] == engine.processor.image_token_id


def test_answer_each_keeps_the_answers_beside_a_broken_request(engine: Engine) -> None:
    good = requests()[0]
    cut = replace(good, name="cut", images=(good.images[0][:60],))
    alone = batch.answer(engine, [good])
    first, second, third = batch.answer_each(engine, [good, cut, good])
    assert [first] == [third] == alone
    assert isinstance(second, ImageError)
    assert str(second).startswith("cut: ")


def test_answer_each_splits_a_group_that_fails(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    good = requests()[0]
    bad = replace(good, name="bad", text="cannot be computed")
    generate = batch._generate

    def breaks(engine: Engine, group: Sequence[Any]) -> list[Answer]:
        if any(item.name == bad.name for item in group):
            raise RuntimeError("probability tensor contains\nnan")
        return generate(engine, group)

    monkeypatch.setattr(batch, "_generate", breaks)
    first, second, third = batch.answer_each(engine, [good, bad, good])
    assert isinstance(first, str)
    assert first == third
    assert isinstance(second, IxcError)
    assert str(second) == "bad: RuntimeError: probability tensor contains nan"


def test_answer_errors_name_their_question(engine: Engine) -> None:
    good = requests()[0]
    with pytest.raises(ImageError, match=r"^docvqa_val 7: "):
        batch.answer(engine, [good, replace(good, name="docvqa_val 7", images=(b"no picture",))])
    wide = picture(1500, 1500, "")
    with pytest.raises(ContextError, match=r"^docvqa_val 8: .* lower hd \(400 now\)"):
        batch.answer(engine, [replace(good, name="docvqa_val 8", images=(wide,) * 9, hd=400)])
