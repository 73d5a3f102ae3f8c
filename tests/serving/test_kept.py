"""The light server answers through the engine's stores: of a second question on an image only the text is read."""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import Any

import pytest
from talk import Running, data_url, image_part, running, text_part, wait

from ixc.inference.engine import Engine, load


def cached(server: Running) -> int:
    text = server.call("GET", "/metrics")[1]
    return int(float(re.search(r"^ixc_prompt_tokens_cached_total ([\d.]+)$", text, re.M)[1]))  # type: ignore[index]


def test_serve_second_question_prefills_its_text_only(server: Running, engine: Engine, page: Path) -> None:
    engine.generator.prefixes.clear()
    before, image = cached(server), image_part(data_url(page.read_bytes()))
    first = server.ask([image, text_part("What is the title?")], max_tokens=4)[1]
    assert first["usage"]["prompt_tokens_details"]["cached_tokens"] == 0
    second = server.ask([image, text_part("How much is Tea?")], max_tokens=4)[1]
    usage = second["usage"]
    seen = usage["prompt_tokens_details"]
    assert seen["image_tokens"] <= seen["cached_tokens"] < usage["prompt_tokens"]
    assert usage["prompt_tokens"] - seen["cached_tokens"] < 60  # a letter is a token here
    wait(lambda: cached(server) - before == seen["cached_tokens"])  # counted when the answer has cancelled out
    assert second["choices"][0]["message"]["content"] == engine.ask([page], "How much is Tea?", max_new_tokens=4).text


def test_serve_next_turn_prefills_new_tokens_only(server: Running, engine: Engine, page: Path) -> None:
    engine.generator.prefixes.clear()
    asked: list[dict[str, Any]] = [
        {"role": "user", "content": [image_part(data_url(page.read_bytes())), text_part("What is the title?")]}
    ]
    first = server.call("POST", "/v1/chat/completions", {"model": "tiny", "messages": asked})[1]
    said = first["choices"][0]["message"]["content"]
    asked += [{"role": "assistant", "content": said}, {"role": "user", "content": "Why?"}]
    second = server.call("POST", "/v1/chat/completions", {"model": "tiny", "messages": asked})[1]
    kept = second["usage"]["prompt_tokens_details"]["cached_tokens"]
    assert kept >= first["usage"]["prompt_tokens"]
    own = engine.ask([page], "Why?", history=[("What is the title?", said)])
    assert second["choices"][0]["message"]["content"] == own.text


@pytest.mark.slow
def test_serve_second_question_on_the_embedded_model_is_fast(tmp_path: Path) -> None:
    """Time to the first token, by the server's own histogram: a page of 1,200 x 1,600 px at HD-16."""
    from PIL import Image, ImageDraw

    path = tmp_path / "page.png"
    image = Image.new("RGB", (1200, 1600), "white")
    ImageDraw.Draw(image).text((60, 60), "Delivery Note", fill="black", font_size=40)
    image.save(path)
    engine = load(device="cpu")
    from ixc.inference.model_folder import find_folder

    with running(engine, find_folder(None)) as server:  # served under the name that talk.py asks for
        part = image_part(data_url(path.read_bytes()))
        server.ask("Hello?", max_tokens=1)
        times = []
        for question in ("What is the title?", "What is the date?"):
            start = time.perf_counter()
            status, _ = server.ask([part, text_part(question)], max_tokens=1, hd=16)
            assert status == 200
            times.append(time.perf_counter() - start)
        wait(lambda: len(server.service.queue) == 0)
    print(f"first question {times[0]:.2f} s, second {times[1]:.2f} s")
    assert times[1] < times[0] / 2
