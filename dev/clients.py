"""The calls of tests/serving/clients through real clients of OpenAI's API, against the light server or vLLM.

    python dev/clients.py FOLDER [CLIENT...]                  writes benchmarks/clients_202611.json
    python dev/clients.py --engine vllm FOLDER [CLIENT...]    writes benchmarks/clients_vllm_202611.json

Every client gets an environment of its own in FOLDER, by `uv` or by `npm` with node 20; the server (`ixc serve` of the
Python that runs this, with the embedded model) is started once; for vLLM that is the Python of dev/vllm_cpu.sh. With
names, only those rows are made anew.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from socket import socket
from time import monotonic, sleep
from typing import Any

from PIL import Image

from ixc.utils.files import atomic_write

ROOT = Path(__file__).parents[1]
FILES = ROOT / "tests" / "serving" / "clients"
RESULT = ROOT / "benchmarks" / "clients_202611.json"
RESULTS = {"light": RESULT, "vllm": ROOT / "benchmarks" / "clients_vllm_202611.json"}
"""Result file of each engine."""
STARTING = 600
"""Longest time of vLLM's start, seconds."""
PYTHON = "3.11"
SECONDS = 900
"""Longest time of one client's calls."""
RIGHT = "641.57"
"""Answer to the question of every call."""
REFUSAL = re.compile(r"(messages|input)\.\d+\.content\.\d+: the picture")
"""What the error about an image that is none must show its user: the place of the part and what is wrong."""
CALLS = ("call", "stream", "second turn", "structured", "tools", "PDF", "text first, system", "error")


@dataclass(frozen=True, kw_only=True)
class Client:
    """A client and its pinned packages.

    Args:
        file: the script of its calls, in tests/serving/clients.
        environment: folder of its environment; clients with the same packages share one.
        packages: as the installer takes them; the first is the one whose version counts.
        arguments: of the script, behind URL, MODEL and FOLDER.
        all_tools: whether every one of its calls is a forced call of a tool.
        faults: call -> what the client itself does wrong there.
        limits: call -> what the embedded model cannot do there.
    """

    file: str
    environment: str
    packages: tuple[str, ...]
    arguments: tuple[str, ...] = ()
    all_tools: bool = False
    faults: dict[str, str] = field(default_factory=dict)
    limits: dict[str, str] = field(default_factory=dict)

    @property
    def node(self) -> bool:
        """Whether it runs in node."""
        return self.file.endswith(".mjs")


RESPONSES = "speaks /v1/responses, which the light server has alone"
"""Why a client cannot ask vLLM."""

AI_SDK = ("ai@7.0.173", "@ai-sdk/openai-compatible@3.0.92", "@ai-sdk/openai@4.0.118")

MASK = "The embedded model was never taught JSON, which vLLM lets it write under a mask"
"""What the embedded model cannot do on vLLM; the light server asks it for each value by itself."""

MASKED = ("structured", "tools")
"""Calls whose answers vLLM masks."""

TEMPLATE = "The embedded model does not find the question in DSPy's template of fields"

CLIENTS = {
    "openai (Python)": Client(file="openai_python.py", environment="openai", packages=("openai==3.57.0",)),
    "openai (Python), responses": Client(
        file="openai_responses.py", environment="openai", packages=("openai==3.57.0",)
    ),
    "llm": Client(file="llm_client.py", environment="llm", packages=("llm==0.36",)),
    "LiteLLM": Client(file="litellm_client.py", environment="litellm", packages=("litellm==1.110.0",)),
    "langchain-openai": Client(
        file="langchain_client.py", environment="langchain", packages=("langchain-openai==1.7.0",)
    ),
    "instructor": Client(
        file="instructor_client.py", environment="instructor", packages=("instructor==1.17.0",), all_tools=True
    ),
    "pydantic-ai": Client(
        file="pydantic_ai_client.py", environment="pydantic_ai", packages=("pydantic-ai-slim[openai]==2.68.0",)
    ),
    "pydantic-ai, responses": Client(
        file="pydantic_ai_client.py",
        arguments=("responses",),
        environment="pydantic_ai",
        packages=("pydantic-ai-slim[openai]==2.68.0",),
    ),
    "haystack-ai": Client(file="haystack_client.py", environment="haystack", packages=("haystack-ai==3.4.0",)),
    "LlamaIndex openai-like": Client(
        file="llama_index_client.py", environment="llama_index", packages=("llama-index-llms-openai-like==0.8.0",)
    ),
    "smolagents": Client(
        file="smolagents_client.py", environment="smolagents", packages=("smolagents[openai]==1.26.0",)
    ),
    "DSPy": Client(
        file="dspy_client.py",
        environment="dspy",
        packages=("dspy==3.4.0",),
        limits=dict.fromkeys(("stream", "structured"), TEMPLATE),
    ),
    "openai (node)": Client(file="openai_node.mjs", environment="openai", packages=("openai@7.59.0",)),
    "@ai-sdk/openai-compatible": Client(file="ai_sdk.mjs", environment="ai", packages=AI_SDK),
    "@ai-sdk/openai, chat": Client(file="ai_sdk.mjs", arguments=("chat",), environment="ai", packages=AI_SDK),
    "@ai-sdk/openai, responses": Client(file="ai_sdk.mjs", arguments=("responses",), environment="ai", packages=AI_SDK),
    "docling-slim": Client(file="docling_client.py", environment="docling", packages=("docling-slim==2.143.0",)),
}


def _uv() -> list[str]:
    """Return the command of uv: the one on the path, or the module."""
    found = shutil.which("uv")
    return [found] if found else [sys.executable, "-m", "uv"]


def install(client: Client, folder: Path) -> Path:
    """Make the client's environment unless it is there with these packages, and return its folder."""
    home = folder / ("node" if client.node else "python") / client.environment
    stamp, wanted = home / "installed.txt", "\n".join(client.packages)
    if stamp.exists() and stamp.read_text() == wanted:
        return home
    home.mkdir(parents=True, exist_ok=True)
    if client.node:
        (home / "package.json").write_text('{"private": true}')
        command = ["npm", "install", "--silent", "--no-audit", "--no-fund", *client.packages]
        subprocess.run(command, cwd=home, check=True)
    else:
        subprocess.run([*_uv(), "venv", "-q", "--clear", "--python", PYTHON, home], check=True)
        command = [*_uv(), "pip", "install", "-q", "--python", str(home / "bin" / "python"), *client.packages]
        subprocess.run(command, check=True)
    stamp.write_text(wanted)
    return home


def versions(client: Client, home: Path) -> dict[str, str]:
    """Return the installed versions of the client's packages."""
    names = [re.sub(r"(?<=.)@[^/]*$|==.*|\[.*", "", package) for package in client.packages]
    if client.node:
        files = {name: home / "node_modules" / name / "package.json" for name in names}
        return {name: json.loads(file.read_text())["version"] for name, file in files.items()}
    program = "import sys, json, importlib.metadata as m; print(json.dumps({n: m.version(n) for n in sys.argv[1:]}))"
    done = subprocess.run([home / "bin" / "python", "-c", program, *names], check=True, capture_output=True, text=True)
    return json.loads(done.stdout)


def draw_files(folder: Path) -> Path:
    """Write the receipt as PNG and as a PDF of one page, and an image that is none; return their folder."""
    files = folder / "files"
    files.mkdir(parents=True, exist_ok=True)
    shutil.copy(ROOT / "examples" / "receipt.png", files)
    with Image.open(files / "receipt.png") as receipt:
        receipt.convert("RGB").save(files / "receipt.pdf", resolution=200)  # the resolution that PDF pages are drawn at
    (files / "no_image.png").write_bytes(b"\x89PNG\r\n\x1a\n" + b"this is no image")
    return files


@contextmanager
def server(engine: str) -> Iterator[str]:
    """The server of an engine on a free port; yield its address."""
    with light_server() if engine == "light" else vllm_server() as url:
        yield f"{url}/v1"


@contextmanager
def vllm_server() -> Iterator[str]:
    """`ixc serve --engine vllm` on a free port."""
    with socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "ixc", "serve", "--engine", "vllm", "--port", str(port), "--name", "nano"]
    url, end = f"http://127.0.0.1:{port}", monotonic() + STARTING
    with subprocess.Popen([*command, "--max-hd", "9"], stdout=subprocess.DEVNULL) as process:
        try:
            while not is_up(url):
                if process.poll() is not None or monotonic() > end:
                    raise SystemExit("vLLM did not start")
                sleep(1)
            yield url
        finally:
            process.terminate()


def is_up(url: str) -> bool:
    """Return whether a server answers."""
    try:
        with urllib.request.urlopen(f"{url}/health", timeout=5):
            return True
    except OSError:
        return False


@contextmanager
def light_server() -> Iterator[str]:
    """The light server on a free port."""
    environment = {key: value for key, value in os.environ.items() if key != "IXC_API_KEY"}
    command = [sys.executable, "-m", "ixc", "serve", "--engine", "light", "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        try:
            assert process.stdout is not None
            address = re.fullmatch(r"ready: (http://\S+)\n", process.stdout.readline())
            if address is None:
                raise SystemExit("the server did not start")
            yield address[1]
        finally:
            process.terminate()


def ask(client: Client, home: Path, url: str, files: Path) -> dict[str, dict[str, str]]:
    """Make the client's calls; raise `RuntimeError` with its last line where it printed no result."""
    scripts = home / "calls"
    shutil.rmtree(scripts, ignore_errors=True)
    shutil.copytree(FILES, scripts, ignore=shutil.ignore_patterns("__pycache__"))  # node finds packages above a script
    program = "node" if client.node else str(home / "bin" / "python")
    command = [program, str(scripts / client.file), url, "nano", str(files), *client.arguments]
    environment = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "OPENAI_API_KEY")}
    try:
        done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=SECONDS, cwd=home)
    except subprocess.TimeoutExpired as error:
        raise RuntimeError(f"no result within {SECONDS} s") from error
    lines = [line for line in done.stdout.splitlines() if line.startswith('{"call"')]
    if not lines:
        raise RuntimeError((done.stderr.strip().splitlines() or ["printed nothing"])[-1])
    return json.loads(lines[-1])


def judge(call: str, outcome: dict[str, str], *, fault: str = "", limit: str = "") -> dict[str, Any]:
    """Return a cell: value, `ok` (true, false, or none where the client cannot), reason and whether it is the client's.

    Args:
        outcome: one of `value`, `raised` and `cannot`.
        fault: what the client does wrong, if the call fails.
        limit: what the embedded model cannot do, if the call fails.
    """
    said = " ".join(outcome.get("value", outcome.get("raised", "")).split())
    if "cannot" in outcome:
        return {"value": "", "ok": None, "reason": outcome["cannot"]}
    raised = "raised" in outcome
    right = raised and bool(REFUSAL.search(said)) if call == "error" else not raised and said == RIGHT
    cell: dict[str, Any] = {"value": said[:300], "ok": right, "reason": ""}
    if not right:
        shown = said[:160] if raised else f"answers {said[:60]!r}"
        cell |= {"reason": fault or (f"{limit}: {shown}" if limit else shown), "client": bool(fault)}
    return cell


def row(client: Client, folder: Path, url: str, files: Path, *, masked: tuple[str, ...] = ()) -> dict[str, Any]:
    """Make one client's row; a failure of the whole client is the reason of all its cells.

    Args:
        masked: calls in which the embedded model writes JSON under a mask.
    """
    found: dict[str, str] = {}
    try:
        home = install(client, folder)
        found = versions(client, home)
        outcomes = ask(client, home, url, files)
    except (RuntimeError, OSError, subprocess.CalledProcessError) as error:
        outcomes = {call: {"raised": str(error)} for call in CALLS}
    cells = {}
    for call in CALLS:
        fault, limit = client.faults.get(call, ""), client.limits.get(call, MASK if call in masked else "")
        cells[call] = judge(call, outcomes[call], fault=fault, limit=limit)
    return {"versions": found, "cells": cells}


def unable(client: Client, found: dict[str, Any]) -> dict[str, Any]:
    """Return the row of a client that speaks /v1/responses alone, for vLLM."""
    cell = {"value": "", "ok": None, "reason": RESPONSES}
    return {"versions": found, "cells": dict.fromkeys(CALLS, cell)}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--engine", choices=RESULTS, default="light")
    parser.add_argument("folder", type=lambda text: Path(text).absolute())
    parser.add_argument("names", nargs="*", metavar="CLIENT")
    given = parser.parse_args()
    folder, names, result = given.folder, given.names or list(CLIENTS), RESULTS[given.engine]
    rows = json.loads(result.read_text())["clients"] if result.exists() else {}
    files = draw_files(folder)
    node = subprocess.run(["node", "--version"], capture_output=True, text=True).stdout.strip().lstrip("v")
    with server(given.engine) as url:
        for name in names:
            client = CLIENTS[name]
            if given.engine == "vllm" and "responses" in name:
                rows[name] = unable(client, versions(client, install(client, folder)))
            else:
                masked = () if given.engine == "light" else CALLS if client.all_tools else MASKED
                rows[name] = row(client, folder, url, files, masked=masked)
            print(name, *(f"  {call}: {cell}" for call, cell in rows[name]["cells"].items()), sep="\n", flush=True)
            ordered = {one: rows[one] for one in CLIENTS if one in rows}
            found = {"server": given.engine, "python": PYTHON, "node": node, "clients": ordered}
            atomic_write(result, json.dumps(found, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
