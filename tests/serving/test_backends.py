"""The server behind other people's programs, by their settings for OpenAI's API. Oracle: `Engine.ask`.

They live in environments of their own (no torchvision beside this one's torch); a Python that has them is named by
IXC_LMMS_EVAL_PYTHON and IXC_DOCLING_PYTHON:

    pip install --no-deps lmms-eval && pip install datasets pandas ... openai        pip install docling-slim[...]
"""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
from talk import running

from ixc.inference.engine import Engine
from ixc.inference.model_folder import find_folder

ROOT = Path(__file__).parents[2]
QUESTION = "What is the TOTAL?"
PROXIES = ("http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY")


def python(package: str) -> str:
    """A Python that has the package."""
    name = f"IXC_{package.upper()}_PYTHON"
    if find_spec(package) is None and name not in os.environ:
        pytest.skip(f"{package} is not installed; name a Python that has it in {name}")
    return os.environ.get(name, sys.executable)


def example(interpreter: str, name: str, *arguments: str) -> str:
    path = ROOT / "examples" / name
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 40
    kept = {key: value for key, value in os.environ.items() if key not in PROXIES}
    command = [interpreter, str(path), *arguments]
    done = subprocess.run(
        command, cwd=ROOT, env={**kept, "HF_HUB_OFFLINE": "1"}, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


@pytest.mark.slow
def test_lmms_eval_server_example(engine_of_embedded: Engine) -> None:
    picture = "examples/receipt.png"
    interpreter = python("lmms_eval")
    with running(engine_of_embedded, find_folder(None), name="nano") as server:
        said = example(interpreter, "lmms_eval_server.py", server.url, picture, QUESTION)
    assert said.strip().splitlines()[-1] == engine_of_embedded.ask([ROOT / picture], QUESTION).text


@pytest.mark.slow
def test_docling_server_example(engine_of_embedded: Engine) -> None:
    picture = "examples/receipt.png"
    interpreter = python("docling")
    with running(engine_of_embedded, find_folder(None), name="nano") as server:
        said = example(interpreter, "docling_server.py", server.url, picture, QUESTION)
    assert said.strip().splitlines()[-1] == engine_of_embedded.ask([ROOT / picture], QUESTION, hd=9).text
