"""Requests continued again when the cache is full: `vllm serve` on the embedded model. Oracle: our own engine."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path

import pytest
from vllm_ask import Question
from vllm_process import Vllm, vllm_command

pytestmark = [
    pytest.mark.slow,
    pytest.mark.vllm,
    pytest.mark.skipif(not find_spec("vllm"), reason="vLLM is not here; see dev/vllm_cpu.sh"),
]

CONTEXT, CACHED = 4096, 6144
"""Positions of the server; tokens that its cache holds."""

LONG, MORE = 12, 120
"""Requests at once that do not fit the cache together; tokens each must answer."""


@pytest.fixture(scope="module")
def server() -> Iterator[Vllm]:
    from ixc.inference.cost import read_geometry
    from ixc.inference.model_folder import EMBEDDED

    m = read_geometry(EMBEDDED)
    cache = CACHED * 2 * m.layers * m.kv_heads * m.head_dim * 4  # keys and values, float32
    flags = ["--served-model-name", "nano", "--dtype", "float32", "--enforce-eager", "--host", "127.0.0.1"]
    flags += ["--max-model-len", str(CONTEXT), "--kv-cache-memory-bytes", str(cache), "--block-size", "32"]
    flags += ["--limit-mm-per-prompt", '{"image": 2}', "--mm-processor-kwargs", '{"max_hd": 9}']
    flags += ["--trust-request-mm-kwargs"]
    program = str(Path(sys.executable).with_name("vllm"))
    with vllm_command(
        lambda port: [program, "serve", str(EMBEDDED), *flags, "--port", str(port)],
        environment={"VLLM_NO_USAGE_STATS": "1", "HF_HUB_OFFLINE": "1"},
    ) as found:
        yield found


def test_vllm_preempted_requests_answer_the_same(server: Vllm) -> None:
    from ixc.core import chat_format
    from ixc.inference.engine import load
    from ixc.processing.image_io import open_image

    questions = [Question(f"Read line {n}.", ((1008, 1008 - 20 * n),), hd=9) for n in range(LONG)]
    engine = load(device="cpu")
    own = []
    for question in questions:
        pictures = [chat_format.Image(open_image(image)) for image in question.images()]
        said = chat_format.Message("user", (*pictures, question.text))
        inputs = engine.processor.encode([said], hd=question.hd)
        # The least length keeps both from ending, in the same way: ends get no probability before it.
        ids = engine.model.generate(**inputs, min_new_tokens=MORE, max_new_tokens=MORE, do_sample=False)
        own.append(ids[0, inputs["input_ids"].shape[1] :].tolist())
    before = server.metric("vllm:num_preemptions_total")
    with ThreadPoolExecutor(LONG) as pool:
        bodies = [question.body(max_tokens=MORE, min_tokens=MORE) for question in questions]
        found = [answer["choices"][0]["token_ids"] for answer in pool.map(server.post, bodies)]
    preempted = server.metric("vllm:num_preemptions_total") - before
    print(f"{preempted:.0f} preemptions")
    assert preempted > 0
    assert found == own
