"""A server of the tiny model for all tests of serving."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

pytest.importorskip("fastapi", reason="the extra serve is not installed")

from talk import Gate, Running, running
from vllm_process import Vllm, vllm_command

from ixc.inference.engine import Engine, load
from ixc.serving import generation
from ixc.serving.image_input import ImageInput, Limits
from ixc.serving.worker import GenerationWorker

GOLDENS = Path(__file__).parents[1] / "goldens"

PIECES, TURN_END = 92_544, 92_542
"""Size of the published vocabulary, and its tag behind a turn."""


@pytest.fixture(scope="session")
def engine_of_tiny(tiny_folder: Path) -> Engine:
    return load(tiny_folder, device="cpu")


@pytest.fixture(scope="session")
def engine(engine_of_tiny: Engine) -> Engine:
    return engine_of_tiny


@pytest.fixture(scope="session")
def engine_of_embedded() -> Engine:
    return load(device="cpu")


@pytest.fixture(scope="session")
def published_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny folder in the published form: the goldens' checkpoint with random vectors for the published vocabulary."""
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


@pytest.fixture(scope="session")
def vllm_server() -> Iterator[Vllm]:
    """`ixc serve --engine vllm` on the embedded model, with the light server's name; the middleware in front of it.

    An address in IXC_VLLM_CLIENT_URL is such a server started by hand, with the key `none`.
    """
    with vllm_command(
        lambda port: [sys.executable, "-m", "ixc", "serve", "--engine", "vllm", "--port", str(port), "--name", "tiny",
                      "--max-images", "4"],
        given=os.environ.get("IXC_VLLM_CLIENT_URL"),
        environment={"IXC_API_KEY": "none"},
    ) as found:  # fmt: skip
        yield found


@pytest.fixture(scope="session")
def server(engine_of_tiny: Engine, tiny_folder: Path) -> Iterator[Running]:
    """One server with small limits for all tests that leave it as it is."""
    limits = Limits(
        max_body_bytes=3_000_000, max_image_bytes=1_000_000, max_images=4, max_pixels=1_000_000,
        max_total_pixels=1_500_000, max_hd=9, max_text=4000, body_seconds=1.0,
    )  # fmt: skip
    with running(engine_of_tiny, tiny_folder, image_input=ImageInput(limits=limits), hosts=("127.0.0.1",)) as found:
        yield found


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> Iterator[Gate]:
    found = Gate()
    monkeypatch.setattr(generation, "generate", found.generate)
    monkeypatch.setattr(GenerationWorker, "joins", lambda self, job: False)  # one answer at a time, through the gate
    yield found
    found.open.set()
