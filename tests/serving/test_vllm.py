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
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from vllm_ask import Question, own_tokens, tokens
from vllm_process import Vllm, vllm_command

pytestmark = [
    pytest.mark.slow,
    pytest.mark.vllm,
    pytest.mark.skipif(not find_spec("vllm"), reason="vLLM is not here; see dev/vllm_cpu.sh"),
]

CONTEXT, BLOCK = 20_000, 32
"""Positions of the server: two images at HD-55; tokens of a block of its cache."""

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
    return own_tokens(None, QUESTIONS)


@pytest.fixture(scope="module")
def server(own: list[list[int]]) -> Iterator[Vllm]:
    """`vllm serve` on the embedded model; an address in IXC_VLLM_URL is a server started by hand instead."""
    from ixc.inference.model_folder import EMBEDDED

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


def test_vllm_32_at_once_answer_as_our_own_engine(server: Vllm, own: list[list[int]]) -> None:
    assert len(QUESTIONS) == 32
    with ThreadPoolExecutor(32) as pool:
        answers = list(pool.map(server.post, [question.body() for question in QUESTIONS]))
    found = [tokens(answer) for answer in answers]
    wrong = [number for number, (theirs, ours) in enumerate(zip(found, own, strict=True)) if theirs != ours]
    assert not wrong, [(QUESTIONS[number], found[number], own[number]) for number in wrong]


def test_vllm_second_question_on_an_image_prefills_its_text_only(server: Vllm) -> None:
    first = Question("What is the title?", ((1344, 1008),))
    second = Question("How much is that in the end?", ((1344, 1008),))
    server.post(first.body())
    asked, hit = (server.metric(f"vllm:prefix_cache_{name}_total") for name in ("queries", "hits"))
    length = server.post(second.body())["usage"]["prompt_tokens"]
    read = (server.metric("vllm:prefix_cache_queries_total") - asked) - (
        server.metric("vllm:prefix_cache_hits_total") - hit
    )
    print(f"{length:,} tokens of prompt, {read:.0f} read anew")
    assert length > 1000
    assert read <= len(second.text) + 2 * BLOCK  # the text, and what fills the last whole block of the image


def test_vllm_another_hd_is_another_image(server: Vllm) -> None:
    texts = [Question("What is the title?", ((1344, 1008),), hd=hd).body() for hd in (1, 9)]
    small, large = (server.post(body)["usage"]["prompt_tokens"] for body in texts)
    assert large - small > 400


@pytest.mark.parametrize("tiling", [{"hd": 0}, {"hd": 56}, {"hd": "9"}, {"partition": "x"}, {"do_resize": True}])
def test_vllm_wrong_tiling_is_refused(server: Vllm, tiling: dict[str, Any]) -> None:
    body = {**Question("?", ((336, 336),)).body(), "mm_processor_kwargs": tiling}
    with pytest.raises(urllib.error.HTTPError) as caught:
        server.post(body)
    assert caught.value.code == 400
