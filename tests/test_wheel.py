"""The wheel, not only the checkout: what a user installs holds everything that the commands need."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import urllib.request
import venv
import zipfile
from pathlib import Path

import pytest
from PIL import Image

ROOT = Path(__file__).parents[1]
SOURCES = ROOT / "src" / "ixc"
RECEIPT = ROOT / "examples" / "receipt.png"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project's wheel, built by its own back end."""
    pytest.importorskip("hatchling", reason="hatchling builds the wheel; install the extra dev")
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    (built,) = folder.glob("*.whl")
    return built


def test_wheel_holds_every_file_of_the_package(wheel: Path) -> None:
    wanted = {
        f"ixc/{path.relative_to(SOURCES).as_posix()}"
        for path in SOURCES.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    found = {name for name in zipfile.ZipFile(wheel).namelist() if name.startswith("ixc/")}
    assert found == wanted
    suffixes = {Path(name).suffix for name in found}
    assert {".ttf", ".otf", ".c", ".html", ".js", ".css", ".safetensors", ".json", ".jinja"} <= suffixes


def test_wheel_names_its_licence_and_command(wheel: Path) -> None:
    archive = zipfile.ZipFile(wheel)
    (info,) = {name.partition("/")[0] for name in archive.namelist() if ".dist-info/" in name}
    assert "ixc = ixc.cli.main:main" in archive.read(f"{info}/entry_points.txt").decode()
    assert f"{info}/licenses/LICENSE" in archive.namelist()


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty environment with the wheel in it, at the locked versions; its `ixc`."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, with_pip=True, clear=True)
    python = folder / "bin" / "python"
    wanted = [f"{wheel}[serve,train]", "-c", str(ROOT / "constraints.txt")]
    subprocess.run([python, "-m", "pip", "install", "-q", *wanted], check=True)
    return folder / "bin" / "ixc"


def run(ixc: Path, folder: Path, *arguments: object) -> str:
    """Standard output of a command run in another folder, with nothing of the checkout on the path."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "PYTEST"))}
    command = [str(ixc), *map(str, arguments)]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
def test_wheel_asks_and_plans(installed: Path, tmp_path: Path) -> None:
    assert run(installed, tmp_path, "ask", RECEIPT, "What is the TOTAL?").strip() == "641.57"
    assert "tokens" in run(installed, tmp_path, "plan", RECEIPT)


@pytest.mark.slow
def test_wheel_draws_pages(installed: Path, tmp_path: Path) -> None:
    run(installed, tmp_path, "synth", "pages", "-n", "2")
    pages = sorted((tmp_path / "pages").rglob("*.png"))
    assert len(pages) == 2
    assert all(low < high for low, high in (Image.open(page).convert("L").getextrema() for page in pages))  # text


@pytest.mark.slow
def test_wheel_serves(installed: Path, tmp_path: Path) -> None:
    command = [str(installed), "serve", "--engine", "light", "--port", "0"]
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            address = re.fullmatch(r"ready: (http://\S+)\n", server.stdout.readline())
            assert address is not None
            with urllib.request.urlopen(f"{address[1]}/", timeout=60) as page:
                assert b"<title>" in page.read()
            body = {"model": "nano", "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 4}
            request = urllib.request.Request(
                f"{address[1]}/v1/chat/completions", json.dumps(body).encode(), {"Content-Type": "application/json"}
            )
            with urllib.request.urlopen(request, timeout=120) as answer:
                assert "content" in json.load(answer)["choices"][0]["message"]
        finally:
            server.terminate()
            server.wait(60)


@pytest.mark.slow
def test_wheel_fine_tunes(installed: Path, tmp_path: Path) -> None:
    lines = []
    for number in range(2):
        Image.new("RGB", (336, 336), (number * 99, 90, 90)).save(tmp_path / f"{number}.png")
        turns = [{"from": "human", "value": "<ImageHere>What is it?"}, {"from": "gpt", "value": "A page."}]
        lines.append(json.dumps({"id": str(number), "image": f"{number}.png", "conversations": turns}))
    (tmp_path / "talks.jsonl").write_text("\n".join(lines) + "\n")
    recipe = ROOT / "recipes" / "lora_nano.py"
    run(installed, tmp_path, "train", recipe, "--data", "talks.jsonl", "--out", "run")
    run(installed, tmp_path, "merge", "run", "merged")
    assert run(installed, tmp_path, "ask", "0.png", "What is it?", "--model", "merged").strip()
