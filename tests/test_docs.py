"""The documents: their blocks run, their reference pages equal the code, their links and messages exist."""

from __future__ import annotations

import ast
import contextlib
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from commands import Run
from doc_blocks import DOCUMENTS, HOWS, ROOT, Block, blocks, commands

sys.path.insert(0, str(ROOT / "dev"))
import drawings
import reference

NANO = ROOT / "src/ixc/pretrained/nano"
PUBLISHED = "internlm-xcomposer2-4khd-7b"
"""Folder that the documents name; here the embedded model stands in it."""
PORT = "127.0.0.1:8000"
LANGUAGES = ("", "sh", "console", "python", "json", "text", "html")


# -- reference pages ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", reference.PAGES_OF)
def test_reference_equals_the_code(name: str) -> None:
    text = (reference.PAGES / name).read_text(encoding="utf-8")
    assert text == reference.HEAD + "\n" + reference.PAGES_OF[name](), "a page is old; run: just figures"


def test_variables_are_all_in_the_table() -> None:
    used = reference.variables()
    assert used.keys() == reference.VARIABLES.keys(), "describe each in VARIABLES of dev/reference.py"
    assert {"IXC_KERNELS", "IXC_API_KEY", "RANK", "XDG_CACHE_HOME", "VLLM_NO_USAGE_STATS"} <= used.keys()
    named = {word for path in (ROOT / "src").rglob("*.py") for word in re.findall(r'"(IXC_[A-Z_]+)"', path.read_text())}
    assert named <= used.keys() | {"IXC_VLLM_STARTING"}


@pytest.mark.parametrize(
    ("code", "found"),
    [
        ("os.environ['A_B']", ("A_B",)),
        ("os.environ.get('A_B', '1')", ("A_B",)),
        ("os.environ.setdefault(NAME, '1')", ("C_D",)),
        ("os.getenv('A_B')", ("A_B",)),
        ("'A_B' in os.environ", ("A_B",)),
        ("[os.environ.get(name) for name in NAMES]", ("E_F",)),
        ("os.environ['A' + letter]", None),
        ("other['A_B']", ()),
    ],
)
def test_accessed_names(code: str, found: tuple[str, ...] | None) -> None:
    tree = ast.parse(code)
    constants = {"NAME": ("C_D",), "NAMES": ("E_F",)}
    got = [reference._accessed(node, tree, constants) for node in ast.walk(tree)]
    assert (None in got) == (found is None)
    assert tuple(name for names in got for name in names or ()) == (found or ())


def test_figures_are_those_of_the_model() -> None:
    for name, drawn in drawings.figures().items():
        assert (ROOT / "docs" / name).read_text(encoding="utf-8") == drawn, "a drawing is old; run: just figures"


# -- what documents say -------------------------------------------------------------------------------------------

PRIVATE = (
    *(r"eyes?", r"reader", r"room", r"house", r"walls", r"aloud", r"bearings?", r"gaze", r"lessons?", r"ladder"),
    *(r"climbed", r"canvases", r"lettering", r"sight", r"spotter", r"spelling", r"speller", r"misspelt", r"glance"),
    *(r"journal", r"snapshots?", r"recompute", r"gauge", r"outlook", r"held_out", r"peak_rate", r"final_rate"),
    *(r"roomylayer", r"folded", r"desk", r"door", r"crew", r"drills", r"talks\.jsonl", r"ixcmodel\.see", r"pointer"),
    *(r"reader\.look", r"how-manieth", r"low_rank", r"window", r"course", r"ablate"),
)
"""Private words that once stood for the field's own; those of ordinary English (at, how, state, order) are left out."""
OLD_OPTIONS = r"(?<![\w-])--(?:plain|track|skip-broken|recompute|held-out|turn|again)(?![\w-])"


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_docs_use_the_words_of_the_field(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    found = re.findall(rf"\b(?:{'|'.join(PRIVATE)})\b", text, re.I) + re.findall(OLD_OPTIONS, text)
    assert not found


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_docs_link_to_what_exists(path: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", re.sub(r"^```.*?^```$", "", path.read_text(), flags=re.S | re.M)):
        if "://" in target:
            continue
        name, _, anchor = target.partition("#")
        found = (path.parent / name).resolve() if name else path
        assert found.exists(), target
        if anchor and found.suffix == ".md":
            titles = re.findall(r"^#+ (.+)$", found.read_text(), re.M)
            assert anchor in {_anchor(title) for title in titles}, target


def _anchor(title: str) -> str:
    return re.sub(r"[^\w\- ]", "", title.lower()).strip().replace(" ", "-")


def test_docs_explain_errors_that_exist() -> None:
    text = (ROOT / "docs/troubleshooting.md").read_text(encoding="utf-8")
    messages = re.findall(r"^\| `(.+?)` \|", text, re.M)
    assert len(messages) >= 15
    said = "\n".join(_texts())
    assert [message for message in messages if message not in said] == []


def _texts() -> Iterator[str]:
    """Yield the texts of the code, with {} for what is filled in."""
    for path in (ROOT / "src").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield node.value
            elif isinstance(node, ast.JoinedStr):
                yield "".join(str(v.value) if isinstance(v, ast.Constant) else "{}" for v in node.values)


def test_docs_name_every_page() -> None:
    site = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    pages = {path.relative_to(ROOT / "docs").as_posix() for path in (ROOT / "docs").rglob("*.md")}
    assert {page for page in pages if not re.search(rf"[ :]{re.escape(page)}$", site, re.M)} == set()


# -- blocks of code -----------------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the files that the documents name, current for the test."""
    from PIL import Image

    for name in ("recipes", "examples"):
        (tmp_path / name).symlink_to(ROOT / name)
    (tmp_path / PUBLISHED).symlink_to(NANO)
    (tmp_path / "scans").mkdir()
    with Image.open(ROOT / "examples/receipt.png") as image:
        receipt = image.convert("RGB")
    for name in ("page.png", "a.png", "b.png", "scans/1.png", "report.pdf"):
        receipt.save(tmp_path / name)
    turns = [{"from": "user", "value": "<ImageHere>What is the title?"}, {"from": "assistant", "value": "Report Card"}]
    record = {"image": ["page.png"], "conversations": turns}
    (tmp_path / "conversations.jsonl").write_text(f"{json.dumps(record)}\n" * 8)
    programs = tmp_path / "bin"
    programs.mkdir()
    (programs / "ixc").write_text(f'#!/bin/sh\nexec {sys.executable} -m ixc "$@"\n')
    (programs / "ixc").chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:{Path(sys.executable).parent}:{os.environ['PATH']}")
    monkeypatch.setenv("PYTHONPATH", str(ROOT / "src"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_docs_have_known_blocks() -> None:
    found = [block for path in DOCUMENTS for block in blocks(path)]
    assert {block.language for block in found} <= set(LANGUAGES)
    assert {block.how for block in found} <= set(HOWS)
    fences = sum(len(re.findall(r"^```", path.read_text(), re.M)) for path in DOCUMENTS)
    assert fences == 2 * len(found)


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_docs_blocks_run(path: Path, folder: Path, run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    _run_document(path, run, slow=False)


@pytest.mark.slow
@pytest.mark.parametrize(
    "path",
    [path for path in DOCUMENTS if {"slow", "server"} & {block.how for block in blocks(path)}],
    ids=lambda path: path.relative_to(ROOT).as_posix(),
)
def test_docs_slow_blocks_run(path: Path, folder: Path, run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    _run_document(path, run, slow=True)


def _run_document(path: Path, run: Run, *, slow: bool) -> None:
    """Run the blocks of a document in order, in the current folder; those of Python share their names."""
    names: dict[str, Any] = {}
    with contextlib.ExitStack() as stack:
        address = None
        for block in blocks(path):
            if block.how == "server" and slow and address is None:
                address = stack.enter_context(_server())
            if block.how in ("slow", "server") and not slow:
                _check(block)
            elif block.language == "python" and block.how in ("", "slow", "server"):
                exec(compile(_local(block.text, address), block.where, "exec"), names)
            elif block.language == "json":
                _check_json(block)
            elif block.language == "console":
                for command, shown in commands(block):
                    _run_command(block, command, shown, run, address)
            elif block.language == "sh" and path.name != "README.md":
                subprocess.run(["bash", "-euc", block.text], check=True)


def _check(block: Block) -> None:
    """Check a block that this run leaves out."""
    if block.language == "python":
        ast.parse(block.text)
    else:
        for command, _ in commands(block):
            _parse(block, command)


def _run_command(block: Block, command: str, shown: str, run: Run, address: str | None) -> None:
    """Run one command of a console block and compare what it prints with what the document shows."""
    if block.how in ("parse", "network", "elsewhere") or command.startswith(("ixc serve", "pip ", "vllm ")):
        _parse(block, command)
        return
    command = _local(command, address)
    if command.startswith("ixc ") and not re.search(r"[|*$]", command):
        code, out, err = run(*shlex.split(_without_comment(command))[1:])
    else:
        done = subprocess.run(["bash", "-uc", command], capture_output=True, text=True, check=False)
        code, out, err = done.returncode, done.stdout, done.stderr
    assert code == 0, f"{block.where}: {command}: {err}"
    if "curl" in command:
        assert json.loads(out)["choices"][0]["message"]["content"] == "641.57"
    expected, dots, _ = shown.strip().partition("...")
    assert out.startswith(expected) if dots or not expected else out.strip() == expected, f"{block.where}: {command}"


def _without_comment(command: str) -> str:
    """Return a command without a comment at its end; a # inside a word, as in `report.pdf#1`, is none."""
    return re.sub(r"\s+#\s.*$", "", command)


def _local(text: str, address: str | None) -> str:
    return text if address is None else text.replace(PORT, address)


def _check_json(block: Block) -> None:
    """Parse each line of a block; a training record must be one that can be trained on."""
    from ixc.data.records import parse_record

    for line in block.text.splitlines():
        value = json.loads(line)
        assert parse_record(value, where=block.where, images=Path()).messages


PROGRAMS = {"vllm", "pip", "hf", "just", ".", "torchrun", "accelerate", "python3"}
"""Programs whose options are not checked."""


def _parse(block: Block, command: str) -> None:
    """Check a command that cannot be run here: the options of `ixc`, files of the repository, names of extras."""
    for part in command.split(" && "):
        words = shlex.split(_without_comment(part))
        while re.match(r"[A-Z_]+=", words[0]) or words[0] in ("nice", "-n", "19"):
            words = words[1:]
        if "ixc" in words[:6]:
            _parse_ixc(words[words.index("ixc") + 1 :], f"{block.where}: {command}")
        elif words[0] == "python":
            assert (ROOT / words[1]).is_file(), f"{block.where}: {command}"
        elif words[0] != "curl":
            assert words[0] in PROGRAMS, f"{block.where}: {command}"
        extras = re.search(r"\.\[([\w,-]+)\]", part)
        known = re.findall(r"^([\w-]+) = \[$", (ROOT / "pyproject.toml").read_text(), re.M)
        assert not extras or set(extras[1].split(",")) <= set(known), f"{block.where}: {command}"


def _parse_ixc(words: list[str], where: str) -> None:
    import typer.main

    from ixc.cli.main import app

    command: Any = typer.main.get_command(app)
    while hasattr(command, "commands"):
        known = words[0] in command.commands
        command = command.commands[words[0] if known else "run"]
        words = words[1:] if known else words
    try:
        command.make_context("ixc", list(words))
    except Exception as error:
        pytest.fail(f"{where}: {error}")


@contextlib.contextmanager
def _server() -> Iterator[str]:
    """Start the light server with the embedded model; gives host and port."""
    command = [sys.executable, "-m", "ixc", "serve", "--engine", "light", "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**os.environ, "no_proxy": "*"}) as process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            assert line.startswith("ready: http://"), line
            yield line.strip().removeprefix("ready: http://")
        finally:
            process.terminate()


# -- the notebook -------------------------------------------------------------------------------------------------

NOTEBOOK = ROOT / "examples/quickstart.ipynb"


def _module(name: str) -> ModuleType:
    return pytest.importorskip(name, reason="pip install -c constraints.txt -e '.[docs]'")


@pytest.mark.slow
def test_docs_notebook_runs(folder: Path) -> None:
    nbformat, nbclient = _module("nbformat"), _module("nbclient")
    kept = nbformat.read(NOTEBOOK, as_version=4)
    fresh = nbformat.read(NOTEBOOK, as_version=4)
    nbclient.NotebookClient(fresh, timeout=300, kernel_name="python3", resources={"metadata": {"path": "."}}).execute()
    assert [_printed(cell) for cell in fresh.cells] == [_printed(cell) for cell in kept.cells]
    assert "641.57" in "".join(_printed(cell) for cell in kept.cells)


def _printed(cell: Any) -> str:
    """Return what a cell printed."""
    outputs = cell.get("outputs", ())
    return "".join(each.get("text", "") for each in outputs if each.get("name") == "stdout")


def test_docs_notebook_is_executed() -> None:
    cells = json.loads(NOTEBOOK.read_text())["cells"]
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    assert [cell["execution_count"] for cell in code] == list(range(1, len(code) + 1))
    assert any("image/png" in output.get("data", {}) for cell in code for output in cell["outputs"])


def test_docs_commands_are_two_in_the_readme() -> None:
    """CI runs these two, word for word."""
    found = [block.text.strip() for block in blocks(ROOT / "README.md") if block.language == "sh"]
    assert found == [
        "python3 -m venv .venv && .venv/bin/pip install -q -c constraints.txt -e . && "
        '.venv/bin/ixc ask examples/receipt.png "What is the TOTAL?"',
        ".venv/bin/pip install -q -c constraints.txt -e '.[dev]' && .venv/bin/pytest -q -n 2",
    ]


def test_docs_site_builds(tmp_path: Path) -> None:
    if shutil.which("mkdocs", path=str(Path(sys.executable).parent)) is None:
        pytest.skip("mkdocs is not installed: pip install -c constraints.txt -e '.[docs]'; .ci/run builds the site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path / "site")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert (tmp_path / "site/reference/cli.html").is_file()
