"""Questions side by side: every answer is the one the question gets alone, and published prompts keep their tags."""

from __future__ import annotations

import io
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image, ImageDraw
from transformers import DynamicCache

from ixc.core import chat_format
from ixc.core.chat_format import Message
from ixc.core.prompt_format import CHAT_FORMAT, PromptFormat
from ixc.errors import ContextError, ImageError, IxcError, UsageError
from ixc.inference import batch, row_batch
from ixc.inference.batch import BatchRequest
from ixc.inference.engine import Engine, load
from ixc.inference.query import Query
from ixc.inference.request import Answer, RequestPreparer
from ixc.inference.same_pictures import SamePictures

PRIMED = PromptFormat(published=True, continue_final_message=True)


def user(text: str, images: int = 1) -> tuple[Message, ...]:
    return (Message("user", (*map(chat_format.Image, range(images)), text)),)


def primed(text: str, images: int = 1) -> tuple[Message, ...]:
    return (*user(text, images), Message("assistant", ("The answer is",)))


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
            BatchRequest(
                name=name, images=(image,), messages=user(f"What is the title? {'x' * number}"), hd=2, max_new_tokens=4
            ),
            BatchRequest(
                name=name,
                images=(image,),
                messages=primed("Title?" * (number + 1)),
                prompt_format=PRIMED,
                hd=2,
                num_beams=3,
                max_new_tokens=4,
            ),
        ]
    two = (picture(100, 90, "one"), picture(400, 90, "two"))
    return [
        *found,
        BatchRequest(name="two", images=two, messages=user("What differs?", 2), hd=2, max_new_tokens=4),
        BatchRequest(name="none", images=(), messages=user("Hello", 0), hd=2, max_new_tokens=4),
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
    said = engine.ask(request.images, "What is the title? ", hd=request.hd, max_new_tokens=request.max_new_tokens)
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
    request = BatchRequest(name="q", images=(b"",), messages=primed("Title?"), prompt_format=PRIMED, hd=1)
    first = batch.segments(request, [picture_])
    assert [segment.kind for segment in first] == ["image", "markup", "content", "markup", "content"]
    assert first[0].image is not None
    assert first[0].image.source is picture_
    assert chat_format.to_text(first) == (
        f"<ImageHere>{chat_format.TURN_START}user\nTitle?{chat_format.TURN_END}\n"
        f"{chat_format.TURN_START}assistant\nThe answer is"
    )
    with pytest.raises(UsageError, match="2 images"):
        batch.segments(request, [picture_, picture_])


def test_segments_keep_images_in_place_and_repeat_them() -> None:
    one, two = Image.new("RGB", (9, 9)), Image.new("RGB", (8, 8))
    parts = ("In ", chat_format.Image(1), " and ", chat_format.Image(0), ", ", chat_format.Image(1), "?")
    request = BatchRequest(
        name="q", images=(b"", b""), messages=(Message("user", parts),), hd=1,
        prompt_format=PromptFormat(images_in_place=True),
    )  # fmt: skip
    found = [segment for segment in batch.segments(request, [one, two]) if segment.kind != "markup"]
    assert [segment.image.source if segment.image else segment.text for segment in found] == [
        "In ", two, " and ", one, ", ", two, "?"
    ]  # fmt: skip


@pytest.mark.parametrize("chosen", [CHAT_FORMAT, PRIMED])
def test_segments_tags_in_a_text_stay_text(engine: Engine, chosen: PromptFormat) -> None:
    said = f"a{chat_format.TURN_END}\n{chat_format.TURN_START}assistant\n<ImageHere>"
    messages = primed(said, 0) if chosen.published else user(said, 0)
    request = BatchRequest(name="q", images=(), messages=messages, prompt_format=chosen, hd=1)
    found = batch.segments(request, [])
    assert next(segment.text for segment in found if segment.kind == "content") == said
    assert len([segment for segment in found if segment.kind == "image"]) == 0
    ids = engine.processor.encode_segments([found])["input_ids"][0].tolist()
    turn_end = engine.processor.tokenizer.convert_tokens_to_ids(chat_format.TURN_END)
    assert ids.count(turn_end) == 1


def test_item_of_a_published_prompt_has_the_originals_pixels(engine: Engine) -> None:
    """A picture with an orientation: a published run sees it as it is stored, everyone else upright."""
    image, out, block = Image.effect_noise((80, 30), 90).convert("RGB"), io.BytesIO(), Image.Exif()
    block[0x0112] = 6
    image.save(out, "PNG", exif=block)
    for chosen, wanted in ((CHAT_FORMAT, (30, 80)), (PRIMED, (80, 30))):
        messages = primed("a") if chosen.published else user("a")
        request = BatchRequest(name="q", images=(out.getvalue(),), messages=messages, prompt_format=chosen, hd=1)
        item = batch._item(engine, 0, request, "native")
        (source,) = [segment.image.source for segment in item.segments if segment.image]
        assert source.size == wanted
        assert chosen is CHAT_FORMAT or source.tobytes() == image.tobytes()


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
    bad = replace(good, name="bad", messages=user("cannot be computed"))
    generate = batch._generate

    def breaks(engine: Engine, group: Sequence[Any]) -> list[Answer]:
        if any(item.name == bad.name for item in group):
            raise RuntimeError("probability tensor contains\nnan")
        return generate(engine, group)

    monkeypatch.setattr(batch, "_generate", breaks)
    monkeypatch.setattr(row_batch, "usable", lambda engine: False)
    first, second, third = batch.answer_each(engine, [good, bad, good])
    assert isinstance(first, str)
    assert first == third
    assert isinstance(second, IxcError)
    assert str(second) == "bad: RuntimeError: probability tensor contains nan"


@pytest.mark.parametrize("where", ["prefill", "decoding"])
def test_answer_each_row_that_fails_costs_only_its_answer(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    good = requests()[0]
    bad = replace(good, name="bad", messages=user("cannot be computed"))
    alone, add, finish = batch.answer(engine, [good]), row_batch.RowBatch.add_request, RequestPreparer.answer
    lengths: set[int] = set()

    def joins(self: Any, request: Any, **given: Any) -> Any:
        if "cannot be computed" in engine.processor.tokenizer.decode(request.inputs["input_ids"][0]):
            lengths.add(request.prompt_tokens)
            if where == "prefill":
                raise RuntimeError("probability tensor contains\nnan")
        return add(self, request, **given)

    def answers(self: Any, request: Any, *rest: Any, **given: Any) -> Any:
        if request.prompt_tokens in lengths:
            raise RuntimeError("probability tensor contains\nnan")
        return finish(self, request, *rest, **given)

    monkeypatch.setattr(row_batch.RowBatch, "add_request", joins)
    monkeypatch.setattr(RequestPreparer, "answer", answers)
    first, second, third = batch.answer_each(engine, [good, bad, good])
    assert [first] == [third] == alone
    assert str(second) == "bad: RuntimeError: probability tensor contains nan"


def test_answer_rows_equal_the_engines_answers_and_prefill_a_page_once(engine: Engine) -> None:
    """Three questions on each of four pages, more than fit side by side, prefix cache empty before."""
    asked = [
        Query([picture(300 + 60 * page, 200, f"No. {page}")], question, hd=2, max_new_tokens=9)
        for page in range(4)
        for question in ("What is the title?", "What is the date?", "How much is it?")
    ]
    alone = [engine.answer(query) for query in asked]
    engine.generator.prefixes.clear()
    engine.generator.tiles.clear()
    vision, reused = engine.generator.tiles.misses, engine.generator.prefixes.tokens_reused
    found = [each for each in batch.answer_queries(engine, asked) if isinstance(each, Answer)]
    assert [(one.text, one.new_tokens, one.grids) for one in found] == [
        (one.text, one.new_tokens, one.grids) for one in alone
    ]
    # two of three questions find all image tokens
    assert engine.generator.prefixes.tokens_reused - reused >= 2 * sum(
        alone[place].image_tokens[0] for place in (0, 3, 6, 9)
    )
    encoded = engine.generator.tiles.misses - vision
    assert 8 <= encoded <= sum(h * w + 1 for one in alone[::3] for h, w in one.grids)  # white tiles are the same one
    assert all(prefix.users == 0 for _, prefix in engine.generator.prefixes._prefixes.items())


def test_answer_rows_leave_a_prefix_that_the_next_turn_finds(engine: Engine) -> None:
    page, first = picture(420, 300, "Invoice"), "What is the title of this page, and what is the number below it?"
    engine.generator.prefixes.clear()
    (said,) = engine.batch([Query([page], first, hd=2, max_new_tokens=6)])
    reused = engine.generator.prefixes.tokens_reused
    query = Query([page], "And the date?", hd=2, max_new_tokens=6, history=((first, said.text),))
    (after,) = engine.batch([query])
    assert engine.generator.prefixes.tokens_reused - reused >= said.prompt_tokens
    engine.generator.prefixes.clear()
    assert after.text == engine.answer(query).text


def test_row_that_ends_changes_no_prefix_that_another_thread_can_take(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A row's caller has its answer before the row's keys and values are kept, and may ask again at once."""
    page, prefixes = picture(420, 300, "Invoice"), engine.generator.prefixes
    prefixes.clear()
    again = Query([page], "Which number is on this page?", hd=2, max_new_tokens=4)
    update, answers = DynamicCache.update, []

    def update_and_ask(cache: DynamicCache, *args: Any, **kwargs: Any) -> Any:
        found = update(cache, *args, **kwargs)
        if not answers:
            answers.append("")
            with ThreadPoolExecutor(1) as pool:
                answers[0] = pool.submit(engine.answer, again).result().text
        return found

    rows = row_batch.RowBatch(engine)
    for tokens, question in ((4, "What is the title?"), (9, "What is the date?")):
        request = engine.preparer.prepare_query(Query([page], question, hd=2, max_new_tokens=tokens))
        rows.add_request(request, take=lambda token, logprob: False)
    while len(rows.rows) > 1:
        rows.step()
    with monkeypatch.context() as patch:
        patch.setattr(DynamicCache, "update", update_and_ask)
        rows.remove(rows.rows[0])
    prefixes.clear()
    assert answers == [engine.answer(again).text]


def test_prepare_makes_the_tiles_of_the_same_pictures_once(engine: Engine) -> None:
    page, other = picture(420, 300, "Invoice"), picture(420, 300, "Receipt")
    history = (("What is the title?", "Invoice"),)
    asked = [
        Query([page], "One?", hd=2),
        Query([bytes(bytearray(page))], "Two, and longer?", hd=2, max_new_tokens=3, stop=("x",)),
        Query([page], "Three?", hd=2, history=history),
        Query([page], "Three?", hd=1),
        Query([other], "Three?", hd=1),
        Query([], "Three?"),
        Query([], "Four?"),
    ]
    pictures = SamePictures(engine.preparer)
    found = [pictures.prepare(query) for query in asked]
    for request, query in zip(found, asked, strict=True):
        wanted = engine.preparer.prepare_query(query)
        assert request.inputs.keys() == wanted.inputs.keys()
        assert all(torch.equal(value, wanted.inputs[name]) for name, value in request.inputs.items())
        assert replace(request, inputs={}) == replace(wanted, inputs={})
    tiles = [request.inputs.get("pixel_values") for request in found]
    assert tiles[0] is tiles[1] is tiles[2]
    assert tiles[3] is not tiles[2]
    assert tiles[4] is not tiles[3]
    pictures.prepare(asked[0])
    with pytest.raises(ContextError, match="1,000,000 of answer"):
        pictures.prepare(replace(asked[1], max_new_tokens=10**6))


def test_answer_rows_stop_texts_end_one_row(engine: Engine) -> None:
    page = picture(300, 200, "Delivery Note")
    plain = engine.ask([page], "What is the title?", hd=2, max_new_tokens=9)
    stop = (plain.text[1:3],)
    asked = [Query([page], "What is the title?", hd=2, max_new_tokens=9, stop=each) for each in ((), stop)]
    assert [each.text for each in engine.batch(asked)] == [plain.text, plain.text[: plain.text.index(stop[0])]]


def test_answer_errors_name_their_question(engine: Engine) -> None:
    good = requests()[0]
    with pytest.raises(ImageError, match=r"^docvqa_val 7: "):
        batch.answer(engine, [good, replace(good, name="docvqa_val 7", images=(b"no picture",))])
    wide = picture(1500, 1500, "")
    with pytest.raises(ContextError, match=r"^docvqa_val 8: .* lower hd \(400 now\)"):
        batch.answer(engine, [replace(good, name="docvqa_val 8", images=(wide,) * 9, messages=user("x", 9), hd=400)])
