"""A tiny folder in the published form (flat config, .bin shards, SentencePiece) served by vLLM. Oracle: our engine."""

from __future__ import annotations

import json
import sys
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from vllm_ask import Question, own_tokens, tokens
from vllm_process import vllm_command

pytestmark = [
    pytest.mark.slow,
    pytest.mark.vllm,
    pytest.mark.skipif(not find_spec("vllm"), reason="vLLM is not here; see dev/vllm_cpu.sh"),
]

GOLDENS = Path(__file__).parents[1] / "goldens"

PIECES = 92_544
"""Of the published vocabulary."""

TURN_END = 92_542

QUESTIONS = (
    Question("What is in the picture?"),
    Question("[UNUSED_TOKEN_145] What is this?", ((400, 300),), hd=4),
    Question("Describe this image in detail.", ((1200, 900),), hd=9),
    Question("What differs?", ((336, 336), (500, 300)), hd=2),
)


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The goldens' checkpoint under the published vocabulary."""
    from safetensors.torch import load_file

    folder = tmp_path_factory.mktemp("models") / "published"
    folder.mkdir()
    flat = json.loads((GOLDENS / "reference" / "checkpoint" / "config.json").read_text(encoding="utf-8"))
    del flat["note"]
    flat |= {"vocab_size": PIECES, "im_end_id": TURN_END}
    (folder / "config.json").write_text(json.dumps(flat), encoding="utf-8")
    (folder / "tokenizer.model").write_bytes((GOLDENS / "tokenizer" / "internlm2-tokenizer.model").read_bytes())
    tensors = load_file(GOLDENS / "reference" / "checkpoint" / "model.safetensors")
    torch.manual_seed(2)
    for name in ("model.tok_embeddings.weight", "output.weight"):
        tensors[name] = torch.randn(PIECES, flat["hidden_size"]) * 0.3
    keys = sorted(tensors)
    weight_map: dict[str, str] = {}
    for number, part in enumerate((keys[:40], keys[40:]), start=1):
        name = f"pytorch_model-{number:05d}-of-00002.bin"
        torch.save({key: tensors[key] for key in part}, folder / name)
        weight_map |= dict.fromkeys(part, name)
    index = {"metadata": {}, "weight_map": weight_map}
    (folder / "pytorch_model.bin.index.json").write_text(json.dumps(index), encoding="utf-8")
    return folder


def test_vllm_published_folder_answers_as_our_own_engine(published: Path) -> None:
    own = own_tokens(published, QUESTIONS)
    assert len({tuple(answer) for answer in own}) == len(QUESTIONS)
    flags = ["--served-model-name", "nano", "--dtype", "float32", "--enforce-eager", "--host", "127.0.0.1"]
    flags += ["--max-model-len", "8192", "--kv-cache-memory-bytes", str(64 * 2**20), "--trust-request-mm-kwargs"]
    flags += ["--limit-mm-per-prompt", '{"image": 2}', "--mm-processor-kwargs", '{"max_hd": 9}']
    program = str(Path(sys.executable).with_name("vllm"))
    with (
        vllm_command(
            lambda port: [program, "serve", str(published), *flags, "--port", str(port)],
            environment={"VLLM_NO_USAGE_STATS": "1", "HF_HUB_OFFLINE": "1"},
        ) as server,
        ThreadPoolExecutor(len(QUESTIONS)) as pool,
    ):
        bodies = [question.body() for question in QUESTIONS]
        assert [tokens(answer) for answer in pool.map(server.post, bodies)] == own
