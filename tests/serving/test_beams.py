"""Beams, continued answers and published prompts through the server. Oracle: `inference.batch`, as in benchmarks."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path
from threading import Event
from typing import Any

import pytest
from PIL.Image import Exif
from PIL.Image import new as new_image
from talk import Running, data_url, image_part, text_part

from ixc.core import chat_format
from ixc.core.chat_format import Image, Message
from ixc.core.prompt_format import PromptFormat
from ixc.evals import endpoint
from ixc.evals.prompts import PublishedPrompt
from ixc.evals.question import Question
from ixc.inference import batch
from ixc.inference.engine import Engine
from ixc.inference.sampling import Sampling
from ixc.serving.generation import generate
from ixc.serving.jobs import JobOptions, prepare_job

PUBLISHED = {
    "a question": PublishedPrompt(user="Title?"),
    "an answer continued": PublishedPrompt(user="Title?", answer="The answer is"),
    "a system text and blanks in the header": PublishedPrompt(
        user="Title?", system="You are.", assistant="      assistant"
    ),
}


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)


def own(engine: Engine, question: Question) -> str:
    names = ("images", "messages", "prompt_format", "hd", "num_beams", "max_new_tokens")
    asked = batch.BatchRequest(name="own", **{name: getattr(question, name) for name in names})
    return batch.answer(engine, [asked])[0]


def question(page: Path, text: str | PublishedPrompt, **changes: Any) -> Question:
    values: Any = {"index": 1, "images": (page.read_bytes(),), "hd": 4, "num_beams": 3, "max_new_tokens": 6, **changes}
    if isinstance(text, PublishedPrompt):
        return Question(messages=text.messages(1), prompt_format=text.prompt_format, **values)
    return Question(**{"messages": (Message("user", (Image(0), text)),), **values})


@pytest.mark.parametrize("name", PUBLISHED)
@pytest.mark.parametrize("beams", [1, 3])
def test_generate_published_prompts_answer_as_the_local_model(
    server: Running, engine: Engine, page: Path, name: str, beams: int
) -> None:
    asked = question(page, PUBLISHED[name], num_beams=beams)
    there = endpoint.connect(server.url)
    assert endpoint.answer(there, asked) == own(engine, asked)


def test_prepare_job_has_the_published_prompt_ids(server: Running, engine: Engine, page: Path) -> None:
    """Equal answers could be chance: the prompts are compared too."""
    seen: list[list[int]] = []
    real = engine.model.generate

    def generate(**inputs: Any) -> Any:
        seen.append(inputs["input_ids"][0].tolist())
        return real(**inputs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(engine.model, "generate", generate)
        for text in PUBLISHED.values():
            asked = question(page, text)
            endpoint.answer(endpoint.connect(server.url), asked)
            own(engine, asked)
    served, local = seen[::2], seen[1::2]
    assert served == local
    assert len({tuple(ids) for ids in seen}) == len(PUBLISHED)


def test_generate_every_beam_is_a_choice_and_counted(server: Running, page: Path) -> None:
    content = [image_part(data_url(page.read_bytes())), text_part()]
    status, found = server.ask(content, use_beam_search=True, n=3, max_tokens=5, temperature=0)
    assert status == 200
    assert [choice["index"] for choice in found["choices"]] == [0, 1, 2]
    assert len({choice["message"]["content"] for choice in found["choices"]}) == 3
    assert all(choice["finish_reason"] in ("stop", "length") for choice in found["choices"])
    assert 5 < found["usage"]["completion_tokens"] <= 15
    whole = found["choices"][0]["message"]["content"]
    assert len(whole) > 1
    status, cut = server.ask(content, use_beam_search=True, n=3, max_tokens=5, stop=whole[1:])
    assert (status, cut["choices"][0]["message"]["content"]) == (200, whole[: whole.find(whole[1:])])
    assert cut["choices"][0]["finish_reason"] == "stop"


def test_generate_one_beam_is_greedy(server: Running) -> None:
    greedy = server.ask("Title?", max_tokens=6)[1]["choices"][0]["message"]["content"]
    found = server.ask("Title?", max_tokens=6, use_beam_search=True)[1]["choices"]
    assert [choice["message"]["content"] for choice in found] == [greedy]


def test_prepare_job_continues_a_begun_answer(server: Running, engine: Engine) -> None:
    said = [{"role": "user", "content": "Title?"}, {"role": "assistant", "content": "The "}]
    status, found, _ = server.call(
        "POST", "/v1/chat/completions",
        {"model": "tiny", "messages": said, "max_tokens": 6, "add_generation_prompt": False,
         "continue_final_message": True},
    )  # fmt: skip
    assert status == 200
    prompt = PublishedPrompt(user="Title?", answer="The ")
    asked = Question(
        index=1, images=(), messages=prompt.messages(0), prompt_format=prompt.prompt_format, hd=9, num_beams=1,
        max_new_tokens=6,
    )  # fmt: skip
    assert found["choices"][0]["message"]["content"] == own(engine, asked)


def test_generate_beams_cost_their_width_and_end_when_cancelled(engine: Engine) -> None:
    messages = [chat_format.Message("user", ("Title?",))]
    options = JobOptions(sampling=Sampling(num_beams=3), hd=1, partition="native", max_new_tokens=1500)
    job = prepare_job(engine, messages, options)
    assert job.tokens == 3 * (job.prompt_tokens + 1500)
    cancelled, deltas = Event(), []
    cancelled.set()
    generate(engine, job, cancelled=cancelled, emit=deltas.append)
    assert [delta.new_tokens <= 1 for delta in deltas] == [True]


@pytest.mark.parametrize("published", [True, False])
def test_admit_decodes_the_pictures_of_a_published_prompt_as_the_original(
    server: Running, engine: Engine, published: bool
) -> None:
    """A wide picture with orientation 6: a published prompt sees it as it is stored, every other one upright."""
    out, block = BytesIO(), Exif()
    block[0x0112] = 6
    new_image("RGB", (900, 300), "white").save(out, "PNG", exif=block)
    asked = Question(
        index=1, images=(out.getvalue(),), messages=PUBLISHED["a question"].messages(1), hd=4, num_beams=1,
        max_new_tokens=1, prompt_format=PromptFormat(published=published),
    )  # fmt: skip
    messages, _, template = endpoint.messages(asked)
    body = {"model": "tiny", "messages": messages, "max_tokens": 1, "hd": 4, "chat_template_kwargs": template}
    status, found, _ = server.call("POST", "/v1/chat/completions", body)
    assert status == 200
    processor = engine.processor
    grid = processor.image_processor.partition_of(*((300, 900) if published else (900, 300)), {"hd": 4})
    assert (grid.grid_h < grid.grid_w) == published
    assert processor.num_image_tokens(grid.grid_h, grid.grid_w) != processor.num_image_tokens(grid.grid_w, grid.grid_h)
    text = found["usage"]["prompt_tokens"] - processor.num_image_tokens(grid.grid_h, grid.grid_w)
    item = batch._item(
        engine, 0, batch.BatchRequest(name="own", images=asked.images, messages=asked.messages, hd=4,
                                      prompt_format=asked.prompt_format), processor.image_processor.partition,
    )  # fmt: skip
    ids = processor.encode_segments([item.segments], bos_once=published, hd=4, return_tensors="pt")["input_ids"][0]
    assert len(ids) == found["usage"]["prompt_tokens"]
    assert text == len(ids) - ids.tolist().count(processor.image_token_id)
