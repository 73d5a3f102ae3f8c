"""Adapters by name, and requests begun again when the cache is full: `vllm serve` on the embedded model.

Oracle: our own engine, with the adapter merged by `ixc merge`.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from vllm_ask import Question, own_tokens, tokens
from vllm_process import Vllm, vllm_command

pytestmark = [
    pytest.mark.slow,
    pytest.mark.vllm,
    pytest.mark.skipif(not find_spec("vllm"), reason="vLLM is not here; see dev/vllm_cpu.sh"),
]

QUESTIONS = (
    Question("What is the value of tea?"),
    Question("What is on line 2?", ((336, 336),)),
    Question("What is the title?", ((1024, 700),), hd=4),
    Question("Compare them.", ((336, 336), (800, 500))),
)

CONTEXT, CACHE = 4096, 24 * 2**20
"""Positions of the server; bytes of its cache: 6,144 tokens of 4,096 bytes."""

LONG, MORE = 12, 120
"""Requests at once that do not fit the cache together; tokens each must answer."""


@pytest.fixture(scope="module")
def adapter(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What recipes/lora_nano.py would leave after training, with random weights."""
    from ixc.inference.folder import EMBEDDED
    from ixc.model.weights import load
    from ixc.train.folder import write_adapter
    from ixc.train.groups import add_adapter
    from ixc.train.stage import Adapter

    model = add_adapter(load(EMBEDDED), Adapter(r=8, alpha=8, dropout=0.0))
    torch.manual_seed(5)  # after loading, which draws too
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "lora_" in name:
                weight.normal_(std=0.2)
    folder = tmp_path_factory.mktemp("runs") / "random"
    write_adapter(model, folder / "adapter", base=None, record={})
    return folder


@pytest.fixture(scope="module")
def merged(adapter: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    from ixc.inference.folder import EMBEDDED, read_processor
    from ixc.train.folder import find_adapter, merge

    return merge(find_adapter(adapter), EMBEDDED, read_processor(EMBEDDED), tmp_path_factory.mktemp("m") / "merged")


@pytest.fixture(scope="module")
def server(adapter: Path) -> Iterator[Vllm]:
    from ixc.inference.folder import EMBEDDED
    from ixc.serving.adapters import options, parse

    lora = options(parse([f"random={adapter}"]), model="nano")
    flags = ["--served-model-name", "nano", "--dtype", "float32", "--enforce-eager", "--host", "127.0.0.1"]
    flags += ["--max-model-len", str(CONTEXT), "--kv-cache-memory-bytes", str(CACHE), "--block-size", "32"]
    flags += ["--limit-mm-per-prompt", '{"image": 2}', "--mm-processor-kwargs", '{"max_hd": 9}']
    flags += ["--trust-request-mm-kwargs", *(word for option, words in lora.items() for word in (option, *words))]
    program = str(Path(sys.executable).with_name("vllm"))
    with vllm_command(
        lambda port: [program, "serve", str(EMBEDDED), *flags, "--port", str(port)],
        environment={"VLLM_NO_USAGE_STATS": "1", "HF_HUB_OFFLINE": "1"},
    ) as found:
        yield found


def test_an_adapter_by_name_answers_as_the_merged_model(server: Vllm, merged: Path) -> None:
    plain, taught = own_tokens(None, QUESTIONS), own_tokens(merged, QUESTIONS)
    assert all(one != other for one, other in zip(plain, taught, strict=True))
    bodies = [question.body(model=name) for name in ("nano", "random") for question in QUESTIONS]
    with ThreadPoolExecutor(len(bodies)) as pool:  # both in one batch
        found = [tokens(answer) for answer in pool.map(server.post, bodies)]
    assert found == [*plain, *taught]


def test_requests_begun_again_answer_the_same(server: Vllm) -> None:
    from ixc import chat
    from ixc.inference.engine import load
    from ixc.processing.image import open_image

    questions = [Question(f"Read line {n}.", ((1008, 1008 - 20 * n),), hd=9) for n in range(LONG)]
    engine = load(device="cpu")
    own = []
    for question in questions:
        pictures = [chat.Image(open_image(image)) for image in question.images()]
        said = chat.Message("user", (*pictures, question.text))
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
