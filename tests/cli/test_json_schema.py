"""What every command prints with --json is valid under the one schema, and the documentation is written from it."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from commands import Run
from typer.main import get_command

from ixc.cli.json_schema import COMMANDS, SCHEMA
from ixc.cli.main import app
from ixc.inference.engine import Engine, load

jsonschema = pytest.importorskip("jsonschema", reason="the validator comes with the extra dev")

ROOT = Path(__file__).parents[2]
RECIPE = ROOT / "recipes" / "lora_nano.py"


@pytest.fixture(scope="module")
def engine(tiny_folder: Path) -> Engine:
    return load(tiny_folder, device="cpu")


def assert_valid(value: Any, command: str) -> None:
    schema = {"$ref": f"#/$defs/{COMMANDS[command]}", "$defs": SCHEMA["$defs"]}
    jsonschema.Draft202012Validator(schema).validate(value)


def questions_folder(folder: Path, page: Path) -> Path:
    """Three questions about a page, as `ixc data questions` writes them."""
    folder.mkdir()
    (folder / "a.png").write_bytes(page.read_bytes())
    one = {"image": "a.png", "kind": "title", "question": "Title?", "answer": "Delivery Note", "package": "p"}
    (folder / "questions.jsonl").write_text("".join(json.dumps(one) + "\n" for _ in range(3)))
    return folder


def records(folder: Path, page: Path) -> Path:
    """One good record and one without an image."""
    (folder / "a.png").write_bytes(page.read_bytes())
    turns = [{"from": "user", "value": "<ImageHere>Title?"}, {"from": "assistant", "value": "Note"}]
    lines = [{"image": ["a.png"], "conversations": turns}, {"image": [], "conversations": turns}]
    path = folder / "r.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def test_json_schema_is_a_schema() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    assert set(COMMANDS.values()) <= set(SCHEMA["$defs"])


def test_json_schema_names_every_command_with_the_option() -> None:
    def found(command: Any, words: tuple[str, ...]) -> list[str]:
        if hasattr(command, "commands"):
            return [name for word, each in command.commands.items() for name in found(each, (*words, word))]
        return [" ".join(words)] if any("--json" in each.opts for each in command.params) else []

    named = {command.partition(" --")[0] for command in COMMANDS}  # with another option a command prints another value
    assert sorted(found(get_command(app), ())) == sorted(named)


@pytest.mark.parametrize("options", [(), ("--temperature", 1, "--seed", 3), ("--beams", 2), ("--stop", "e")])
def test_ask_json(run: Run, tiny_folder: Path, page: Path, options: tuple[object, ...]) -> None:
    given = ["--model", tiny_folder, "--max-new-tokens", 3, "--json", *options]
    code, out, err = run("ask", page, "Title?", *given)
    assert (code, err) == (0, "")
    found = json.loads(out)
    assert_valid(found, "ask")
    assert (found["question"], found["images"]) == ("Title?", [str(page)])


def test_chat_json_is_a_line_a_turn(
    run: Run, page: Path, engine: Engine, tiny_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ixc.cli.ask.load_engine", lambda *_, **__: engine)
    given = ["--model", tiny_folder, "--max-new-tokens", 3, "--json"]
    code, out, _ = run("chat", page, *given, stdin=b"a\nb\n")
    assert code == 0
    lines = [json.loads(line) for line in out.splitlines()]
    assert [line["question"] for line in lines] == ["a", "b"]
    for line in lines:
        assert_valid(line, "chat")


@pytest.mark.parametrize("option", ["--json", "--format=json"])
def test_read_json(
    run: Run, page: Path, engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, option: str
) -> None:
    monkeypatch.setattr("ixc.cli.read.load_engine", lambda *_, **__: engine)
    broken = tmp_path / "broken.png"
    broken.write_bytes(page.read_bytes()[:200])
    code, out, _ = run("read", page, broken, "--ask", "Title?", "--max-new-tokens", 3, option)
    assert code == 3
    found = json.loads(out)
    assert_valid(found, "read")
    assert ["answers" in each for each in found["pages"]] == [True, False]


@pytest.mark.parametrize("options", [(), ("--dtype", "int4"), ("--model", "TINY")])
def test_plan_json(run: Run, tiny_folder: Path, options: tuple[str, ...]) -> None:
    code, out, _ = run("plan", "800x600", "--json", *(tiny_folder if each == "TINY" else each for each in options))
    assert code == 0
    assert_valid(json.loads(out), "plan")


def test_plan_train_json(run: Run) -> None:
    code, out, _ = run("plan-train", RECIPE, "--json")
    assert code == 0
    assert_valid(json.loads(out), "plan-train")


def test_check_json(run: Run, page: Path, tmp_path: Path) -> None:
    code, out, _ = run("data", "check", records(tmp_path, page), "--json")
    assert code == 1
    found = json.loads(out)
    assert_valid(found, "data check")
    assert (found["records"], found["usable"], len(found["problems"])) == (2, 1, 1)


def test_eval_synth_json(run: Run, engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ixc.cli.eval.load_engine", lambda *_, **__: engine)
    code, out, _ = run("eval", "synth", "-n", 1, "--kind", "sign", "--hd", 1, "--json")
    assert code == 0
    assert_valid(json.loads(out), "eval synth")


def test_eval_pages_json(run: Run, page: Path, engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ixc.cli.eval_pages.load_engine", lambda *_, **__: engine)
    code, out, err = run("eval", "pages", questions_folder(tmp_path / "q", page), "--hd", 1, "--json")
    assert code == 0, err
    assert_valid(json.loads(out), "eval pages")


def table(folder: Path, page: Path) -> Path:
    """A benchmark's data with two questions."""
    import base64

    image = base64.b64encode(page.read_bytes()).decode()
    rows = [f"{number}\t{image}\tWhat is the title?\t['Delivery Note']" for number in (1, 2)]
    folder.mkdir()
    (folder / "DocVQA_VAL.tsv").write_text("\n".join(["index\timage\tquestion\tanswer", *rows]) + "\n")
    return folder


def test_eval_run_and_score_json(
    run: Run, page: Path, engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny_folder: Path
) -> None:
    pytest.importorskip("pandas", reason="the extra eval is not installed")
    monkeypatch.setattr("ixc.cli.eval.load_engine", lambda *_, **__: engine)
    data, out_folder = table(tmp_path / "data", page), tmp_path / "run"
    given = ["--data", data, "--out", out_folder, "--model", tiny_folder, "--hd", 1, "--prompts", "clean", "--json"]
    code, out, err = run("eval", "docvqa_val", *given)
    assert code == 0, err
    found = json.loads(out)
    assert_valid(found, "eval run")
    assert found[0]["answered"] == 2
    code, out, err = run("eval", "score", out_folder, "--data", data, "--json")
    assert code == 0, err
    assert_valid(json.loads(out), "eval score")


def test_doctor_json(run: Run) -> None:
    code, out, _ = run("doctor", "--json")
    found = json.loads(out)
    assert_valid(found, "doctor")
    assert (code, found["ok"], found["problems"]) == (0, True, [])


def test_json_page_is_written_from_the_schema() -> None:
    spec = importlib.util.spec_from_file_location("json_page", ROOT / "dev" / "json_page.py")
    assert spec is not None
    assert spec.loader is not None
    module: Any = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    page: Callable[[], str] = module.page
    assert (ROOT / "docs" / "json.md").read_text(encoding="utf-8") == page(), "run python dev/json_page.py"
