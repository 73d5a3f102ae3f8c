"""Fixtures that several packages share: a command run in this process, a tiny model folder, a tokenizer, a page."""

from __future__ import annotations

import io
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from commands import Run
from hypothesis import settings

if TYPE_CHECKING:
    from ixc.processing.tokenization import IxcTokenizer

if "PYTEST_XDIST_WORKER" in os.environ:
    # Before torch is imported: workers share the cores, and two of them with two threads each take twice as long.
    os.environ.setdefault("OMP_NUM_THREADS", "1")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--strict-warnings", action="store_true", help="every warning fails its test, as in `just check`")


def pytest_configure(config: pytest.Config) -> None:
    """Warnings as errors are for developers: a user's newer library may warn about itself, and nothing is wrong."""
    if config.getoption("--strict-warnings"):
        config.addinivalue_line("filterwarnings", "error")


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs a command in this process, no proxy between it and a server of the test: (exit code, stdout, stderr)."""
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)

    def call(*arguments: object, stdin: bytes = b"") -> tuple[int, str, str]:
        from ixc.cli.main import main

        monkeypatch.setattr(sys, "argv", ["ixc", *map(str, arguments)])
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin), encoding="utf-8"))
        with pytest.raises(SystemExit) as left:
            main()
        out, err = capsys.readouterr()
        assert isinstance(left.value.code, int)
        return left.value.code, out, err

    return call


settings.register_profile("ixc", deadline=None)  # a clock says nothing while other tests run beside it
settings.load_profile("ixc")

TOKENIZER_MODEL = Path(__file__).parent / "goldens" / "tokenizer" / "internlm2-tokenizer.model"

TINY_CONTEXT = 2048
"""Positions of the tiny model, as in its config.json."""


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A native folder: random weights of 70 k parameters, the character tokenizer, HD-9 under rule native."""
    import torch

    from ixc.model.configuration import IxcConfig
    from ixc.model.modeling import IxcForConditionalGeneration
    from ixc.processing.image_processing import IxcImageProcessorPil
    from ixc.processing.processing import IxcProcessor
    from ixc.processing.tokenization import character_tokenizer

    folder = tmp_path_factory.mktemp("models") / "tiny"
    torch.manual_seed(0)
    config = IxcConfig(
        vision_config={"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2},
        text_config={
            "vocab_size": 128,
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "num_key_value_heads": 1,
            "max_position_embeddings": TINY_CONTEXT,
            "eos_token_id": [2, 104],
            "plora_r": 4,
            "plora_qkv_r": 2,
        },
        image_token_id=102,
    )
    model = IxcForConditionalGeneration(config)
    model.generation_config.max_new_tokens = 12
    model.generation_config._from_model_config = False  # else loading makes it anew from config.json
    model.save_pretrained(folder)
    IxcProcessor(
        IxcImageProcessorPil(hd=9, partition="native"), character_tokenizer(), published_quirks=False
    ).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def published_tokenizer(tmp_path_factory: pytest.TempPathFactory) -> IxcTokenizer:
    """Built once: 92,544 pieces take seconds. Nobody changes it."""
    from ixc.processing.tokenization import IxcTokenizer

    folder = tmp_path_factory.mktemp("published")
    (folder / "tokenizer.model").write_bytes(TOKENIZER_MODEL.read_bytes())
    return IxcTokenizer.from_pretrained(folder)


@pytest.fixture(scope="session")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A drawn page of 400 x 300 px as a PNG."""
    from PIL import Image, ImageDraw

    path = tmp_path_factory.mktemp("pages") / "page.png"
    image = Image.new("RGB", (400, 300), "white")
    ImageDraw.Draw(image).text((20, 20), "Delivery Note", fill="black")
    image.save(path)
    return path
