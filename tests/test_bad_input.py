"""Bad input, one by one: one clear line with the numbers and a remedy, exit 1 or 2, nothing half-written."""

from __future__ import annotations

import importlib.util
import json
import re
import shutil
import struct
import sys
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest
from commands import Run
from PIL import Image

from ixc.core.tiling import MAX_HD

QUESTION = "What is the title?"
RECIPE = Path(__file__).parents[1] / "recipes" / "lora_nano.py"

Refusal = Callable[..., tuple[int, str]]


@pytest.fixture
def refused(run: Run) -> Refusal:
    """Runs a command that must be refused: (exit code, the line)."""

    def call(*arguments: object) -> tuple[int, str]:
        code, out, err = run(*arguments)
        assert out == ""
        assert err.startswith("error: ")
        assert err.count("\n") == 1
        assert "Traceback" not in err
        assert code in (1, 2)
        return code, err

    return call


def png(path: Path, width: int, height: int) -> Path:
    """A PNG whose header claims a size that its few pixels do not have."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 64)) + chunk(b"IEND", b"")
    )
    return path


def copied(folder: Path, target: Path) -> Path:
    shutil.copytree(folder, target)
    return target


# -- pictures ---------------------------------------------------------------------------------------------------------


BOTH = r"(?=.*(225|3,?600),?000,?000)(?=.*178,000,000).*"
"""Both numbers, in either order: 15,000 or 60,000 px squared, and the limit."""


def bad_pictures(folder: Path) -> dict[str, tuple[Path, str]]:
    """Name -> (file, pattern of the line)."""
    text, empty, cut = folder / "text.png", folder / "empty.png", folder / "cut.jpg"
    text.write_text("not a picture")
    empty.write_bytes(b"")
    whole = folder / "whole.jpg"
    Image.effect_noise((300, 300), 90).convert("RGB").save(whole)
    cut.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    return {
        "missing": (folder / "none.png", r"no file .*none\.png; check the path"),
        "folder": (folder, r"is a folder; give an image"),
        "text": (text, r"use PNG, JPEG"),
        "empty": (empty, r"use PNG, JPEG"),
        "cut": (cut, r"cut\.jpg is broken or cut short .*save or download it again"),
        "0 px": (png(folder / "zero.png", 0, 10), r"0 x 10 px|not a picture|broken"),
        "60,000 px": (png(folder / "wide.png", 60_000, 60_000), BOTH + "reduce"),
        "too long a side": (png(folder / "long.png", 60_001, 1), r"60,001 x 1 px.*60,000; reduce"),
        "bomb": (png(folder / "bomb.png", 15_000, 15_000), BOTH + "reduce"),
    }


PICTURES = ("missing", "folder", "text", "empty", "cut", "0 px", "60,000 px", "too long a side", "bomb")


@pytest.mark.parametrize("name", PICTURES)
def test_ask_bad_pictures(refused: Refusal, tiny_folder: Path, tmp_path: Path, name: str) -> None:
    path, pattern = bad_pictures(tmp_path)[name]
    _, line = refused("ask", path, QUESTION, "--model", tiny_folder)
    assert re.search(pattern, line)


@pytest.mark.parametrize("name", [name for name in PICTURES if name != "cut"])
def test_plan_bad_pictures(refused: Refusal, tmp_path: Path, name: str) -> None:
    path, pattern = bad_pictures(tmp_path)[name]
    _, line = refused("plan", path)
    assert re.search(pattern, line)


@pytest.mark.parametrize("name", ["cut", "bomb"])
def test_plan_draws_nothing_over_a_bad_picture(refused: Refusal, tmp_path: Path, name: str) -> None:
    path, _ = bad_pictures(tmp_path)[name]
    before = sorted(tmp_path.iterdir())
    refused("plan", path, "--draw", tmp_path / "out.png")
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize("name", ["none/out.png", "file/out.png", ".", ".."])
def test_plan_drawing_that_cannot_be_written(
    refused: Refusal, page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("mine")
    _, line = refused("plan", page, "--draw", name)
    assert re.search(r"cannot be written .*choose another", line)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


# -- settings ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", ["ask", "plan"])
@pytest.mark.parametrize("hd", [0, -1])
def test_hd_below_one(refused: Refusal, tiny_folder: Path, page: Path, command: str, hd: int) -> None:
    arguments = [page, QUESTION, "--model", tiny_folder] if command == "ask" else [page]
    code, line = refused(command, *arguments, "--hd", hd)
    assert code == 2
    assert f"at least 1, got {hd}; use 25" in line


@pytest.mark.parametrize("command", ["ask", "plan"])
def test_partition_of_too_long_an_aspect_ratio(
    refused: Refusal, tiny_folder: Path, tmp_path: Path, command: str
) -> None:
    path = tmp_path / "strip.png"
    Image.new("RGB", (2000, 1)).save(path)
    arguments = [path, QUESTION, "--model", tiny_folder] if command == "ask" else [path]
    code, line = refused(command, *arguments, "--hd", 1)
    assert code == 2
    assert re.search(r"2000 x 1 px.*2000 : 1.*336 : 1.*crop the image or use hd >= 6", line)


def test_plan_unknown_partition(refused: Refusal, page: Path) -> None:
    code, line = refused("plan", page, "--partition", "golden")
    assert code == 2
    assert "'golden'; use one of original, native, fit" in line


def test_ask_text_longer_than_the_context(refused: Refusal, tiny_folder: Path, page: Path) -> None:
    code, line = refused("ask", page, "a" * 4000, "--model", tiny_folder)
    assert code == 1
    assert re.search(r"4,\d\d\d tokens.*2,048 positions; use a lower hd \(9 now\), fewer images, a shorter text", line)


@pytest.mark.parametrize("rule", ["original", "fit"])
def test_ask_large_hd_is_refused_before_its_canvas_is_made(
    refused: Refusal, tiny_folder: Path, page: Path, rule: str
) -> None:
    code, line = refused("ask", page, QUESTION, "--model", tiny_folder, "--hd", MAX_HD, "--partition", rule)
    assert code == 1
    assert re.search(rf"tokens of prompt.*the model has 2,048 positions; use a lower hd \({MAX_HD} now\)", line)


@pytest.mark.parametrize(
    "command",
    [
        "ask PAGE What?",
        "chat PAGE",
        "read PAGE",
        "plan PAGE",
        "plan 3840x2160",
        "eval pages FOLDER",
        "eval docvqa_val",
        "serve",
        "data check FOLDER",
        "train RECIPE --data FOLDER",
    ],
)
@pytest.mark.parametrize("hd", [0, MAX_HD + 1, 10**8])
def test_check_hd_in_every_command(refused: Refusal, page: Path, tmp_path: Path, command: str, hd: int) -> None:
    words = {"PAGE": page, "FOLDER": tmp_path, "RECIPE": RECIPE}
    code, line = refused(*(words.get(word, word) for word in command.split()), "--hd", hd)
    assert code == 2
    assert f"got {hd}; use 25" in line


@pytest.mark.parametrize(
    "given",
    [
        "data check FILE --context 0",
        "plan-train RECIPE --gpus 0",
        "plan-train RECIPE --gpu-memory 0",
        "train RECIPE --data FILE:999",
        "train RECIPE --data FILE --save-every 0",
        "bench speed --layers 0",
        "bench speed --repeats 0",
        "eval docvqa_val --endpoint http://localhost:1 --parallel 0",
        "serve --max-hd 999",
        "plan 10x10 --text-tokens -1",
    ],
)
def test_main_numbers_out_of_range(refused: Refusal, tmp_path: Path, given: str) -> None:
    file = tmp_path / "records.jsonl"
    file.write_text("{}\n")
    words = given.replace("FILE", str(file)).replace("RECIPE", str(RECIPE)).split()
    code, line = refused(*words)
    assert code == 2
    assert words[-1].rpartition(":")[2] in line


@pytest.mark.parametrize("device", ["tpu", "cpu:", "cpu:1", "cuda:x"])
def test_ask_unknown_device(refused: Refusal, tiny_folder: Path, page: Path, device: str) -> None:
    code, line = refused("ask", page, QUESTION, "--model", tiny_folder, "--device", device)
    assert code == 2
    assert f"device {device!r}" in line or f"device {device} " in line


# -- models -----------------------------------------------------------------------------------------------------------


def test_ask_unknown_model_folder(refused: Refusal, page: Path, tmp_path: Path) -> None:
    code, line = refused("ask", page, QUESTION, "--model", tmp_path / "none")
    assert code == 2
    assert re.search(r"no model folder .*none; check the path", line)


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "tokenizer.json"])
def test_ask_folder_with_a_file_missing(
    refused: Refusal, tiny_folder: Path, page: Path, tmp_path: Path, name: str
) -> None:
    folder = copied(tiny_folder, tmp_path / "model")
    (folder / name).unlink()
    code, line = refused("ask", page, QUESTION, "--model", folder)
    assert code == 1
    assert re.search(rf"has no .*{re.escape(name)}", line)


@pytest.mark.parametrize("share", [0.0, 0.001, 0.5, 0.999])
def test_ask_truncated_safetensors_file(
    refused: Refusal, tiny_folder: Path, page: Path, tmp_path: Path, share: float
) -> None:
    folder = copied(tiny_folder, tmp_path / "model")
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[: int(weights.stat().st_size * share)])
    code, line = refused("ask", page, QUESTION, "--model", folder)
    assert code == 1
    assert re.search(r"model\.safetensors is damaged or cut off .*fetch it again", line)

    before = sorted(tmp_path.iterdir())
    code, line = refused("import-weights", folder, tmp_path / "imported")
    assert code == 1
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "processor_config.json", "generation_config.json"])
@pytest.mark.parametrize("content", ["", "{", "[1]"])
def test_ask_damaged_settings(
    refused: Refusal, tiny_folder: Path, page: Path, tmp_path: Path, name: str, content: str
) -> None:
    folder = copied(tiny_folder, tmp_path / "model")
    (folder / name).write_text(content)
    code, line = refused("ask", page, QUESTION, "--model", folder)
    assert code == 1
    fault = "holds a list, a JSON object needed" if content == "[1]" else r"is not JSON \(.*\)"
    assert re.search(rf"{re.escape(name)} {fault}; fetch it again", line)


@pytest.mark.parametrize("fields", [{"hidden_size": "abc"}, {"text_config": [1]}, {"tie_word_embeddings": True}])
def test_ask_configuration_no_model_has(
    refused: Refusal, tiny_folder: Path, page: Path, tmp_path: Path, fields: dict[str, object]
) -> None:
    folder = copied(tiny_folder, tmp_path / "model")
    (folder / "config.json").write_text(json.dumps({"model_type": "ixc", **fields}))
    code, line = refused("ask", page, QUESTION, "--model", folder)
    assert code == 1
    assert re.search(rf"config\.json describes no model of ours .*{next(iter(fields))}.*fetch it again", line)


@pytest.mark.parametrize(
    ("name", "group", "key", "value"),
    [
        ("config.json", None, "image_token_id", 50),
        ("config.json", None, "newline", False),
        ("processor_config.json", None, "overview", False),
        ("processor_config.json", None, "tokens_per_side", 4),
        ("processor_config.json", "image_processor", "hd", "9"),
    ],
)
def test_ask_settings_that_do_not_fit_together(
    refused: Refusal,
    tiny_folder: Path,
    page: Path,
    tmp_path: Path,
    name: str,
    group: str | None,
    key: str,
    value: object,
) -> None:
    folder = copied(tiny_folder, tmp_path / "model")
    settings = json.loads((folder / name).read_text())
    (settings[group] if group else settings)[key] = value
    (folder / name).write_text(json.dumps(settings))
    _, line = refused("ask", page, QUESTION, "--model", folder)
    assert key in line
    assert str(value) in line


@pytest.mark.parametrize("content", ["{", "[1]", "{}"])
def test_ask_damaged_index_of_shards(
    refused: Refusal, tiny_folder: Path, page: Path, tmp_path: Path, content: str
) -> None:
    folder = copied(tiny_folder, tmp_path / "model")
    (folder / "model.safetensors").rename(folder / "model.safetensors.index.json")
    (folder / "model.safetensors.index.json").write_text(content)
    code, line = refused("ask", page, QUESTION, "--model", folder)
    assert code == 1
    assert re.search(r"index\.json (is not JSON|holds a list|has no weight_map).*fetch it again", line)


def test_import_weights_to_where_nothing_can_be_written(refused: Refusal, tiny_folder: Path, page: Path) -> None:
    code, line = refused("import-weights", tiny_folder, page / "native")
    assert code == 1
    assert page.name in line


# -- folders ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["-n", 0], "0 documents asked for, at least 1"),
        (["--seed", -1], "seed is -1, at least 0"),
        (["--kind", "poem"], "'poem' of document; use one of form"),
    ],
)
def test_synth_used_wrongly(refused: Refusal, tmp_path: Path, options: list[object], words: str) -> None:
    code, line = refused("synth", tmp_path / "out", *options)
    assert code == 2
    assert words in line
    assert list(tmp_path.iterdir()) == []


def test_synth_never_writes_over_a_folder(refused: Refusal, tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    code, line = refused("synth", tmp_path)
    assert code == 2
    assert "1 entry; name a new or an empty folder" in line
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


# -- exit codes -------------------------------------------------------------------------------------------------------


NAMED = (
    "ask NONE.png What?",
    "ask PAGE What? --model NONE",
    "chat NONE.png",
    "chat PAGE --model NONE",
    "read NONE.pdf",
    "read PAGE --model NONE",
    "read PAGE --out NONE/out.md",
    "plan NONE.png",
    "plan PAGE --model NONE",
    "import-weights NONE NEW",
    "quantize NONE NEW",
    "train NONE.py",
    "train RECIPE --data NONE.jsonl",
    "train RECIPE --data FILE --eval-data NONE.jsonl",
    "train RECIPE --data FILE --model NONE",
    "merge NONE NEW",
    "plan-train NONE.py",
    "data check NONE.jsonl",
    "data check NONE",
    "data check FILE --images NONE",
    "data check FILE --model NONE",
    "data pages NONE --out NEW",
    "data questions NONE --out NEW",
    "eval docvqa_val --model NONE",
    "eval docvqa_val --data NONE",
    "eval score NONE.jsonl",
    "eval report NONE",
    "eval synth --model NONE",
    "eval pages NONE",
    "serve --model NONE",
    "bench speed --model NONE",
)
"""Commands that name a file or folder that does not exist."""

MET = (
    "ask BROKEN What?",
    "ask PAGE What? --model EMPTY",
    "read BROKEN",
    "import-weights EMPTY NEW",
    "quantize EMPTY NEW",
    "data check DAMAGED",
    "data check FILE --model EMPTY",
    "eval score DAMAGED",
    "eval synth --model EMPTY",
)
"""Commands whose files exist and are damaged."""


def words_of(command: str, folder: Path, page: Path) -> list[str]:
    """The words of a command, capitals replaced by paths of the folder."""
    broken, file, damaged, empty = folder / "broken.png", folder / "r.jsonl", folder / "d.jsonl", folder / "empty"
    broken.write_bytes(page.read_bytes()[:60])
    file.write_text('{"conversations": []}\n')
    damaged.write_text("{\n")
    empty.mkdir(exist_ok=True)
    paths = {"PAGE": page, "RECIPE": RECIPE, "FILE": file, "BROKEN": broken, "DAMAGED": damaged, "EMPTY": empty}
    paths |= {"NEW": folder / "new"}
    words = [str(paths.get(word, word)) for word in command.split()]
    return [str(folder / word.lower()) if word.startswith("NONE") else word for word in words]


@pytest.mark.parametrize("command", NAMED)
def test_exit_code_of_a_path_that_is_not_there(refused: Refusal, page: Path, tmp_path: Path, command: str) -> None:
    code, line = refused(*words_of(command, tmp_path, page))
    assert (code, "none" in line) == (2, True), line
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("command", MET)
def test_exit_code_of_a_damaged_file(run: Run, page: Path, tmp_path: Path, command: str) -> None:
    code, _, err = run(*words_of(command, tmp_path, page))
    assert code == 1, err
    assert not (tmp_path / "new").exists()


MISSING = (
    ("read PAGE.pdf", "pypdfium2", "pdf"),
    ("eval docvqa_val --endpoint http://localhost:1 --prompts clean", "openai", "eval"),
    ("serve --engine light", "fastapi", "serve"),
    ("serve --engine vllm", "vllm", "vllm"),
)
"""(command, package that is not there, extra that brings it)."""


@pytest.mark.parametrize(("command", "package", "extra"), MISSING)
def test_exit_code_of_a_missing_package(
    refused: Refusal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str, package: str, extra: str
) -> None:
    """The same command works once the package is installed: 1, as of anything that the command meets."""
    pdf = tmp_path / "page.pdf"
    pdf.write_bytes(b"%PDF-1.7")
    monkeypatch.setitem(sys.modules, package, None)
    found = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *more: None if name == package else found(name, *more)
    )
    code, line = refused(*(str(pdf) if word == "PAGE.pdf" else word for word in command.split()))
    assert code == 1
    assert package in line
    assert f"pip install 'ixc-4khd[{extra}]'" in line
