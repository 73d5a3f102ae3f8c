"""The command line: what each command prints, what it imports, how it ends."""

from __future__ import annotations

import json
import resource
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from commands import Run
from model_folder import foreign_files
from PIL import Image
from safetensors import safe_open

from ixc import __version__
from ixc.cli import plan
from ixc.synth.dataset_folder import QUESTIONS, write_folder

QUESTION = "What is the title?"
COMMANDS = (
    "ask",
    "chat",
    "plan",
    "serve",
    "import-weights",
    "synth",
    "train",
    "merge",
    "eval run",
    "eval score",
    "eval report",
    "eval synth",
)

GOLDEN_CHECKPOINT = Path(__file__).parents[1] / "goldens" / "reference" / "checkpoint"

ATTEMPTS = 12
"""Runs of a timed command: other tests may be running beside it, and one quick run proves the speed."""

LIMIT = 0.3
"""CPU seconds `ixc plan` may take, on a machine where Python with a few of its own modules starts in QUICK_START."""

QUICK_START = 0.05
"""Seconds; on a slower or busier machine the limit grows as this does, on a quicker one it stays."""


def python(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *arguments], capture_output=True, text=True, timeout=120, check=False)


# -- help and weight --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", COMMANDS)
def test_main_help_has_examples(run: Run, command: str) -> None:
    code, out, _ = run(*command.split(), "--help")
    assert code == 0
    assert "Examples:" in out
    assert f"ixc {command} " in out


def test_main_help_lists_the_commands(run: Run) -> None:
    code, out, _ = run("--help")
    assert code == 0
    assert all(command.split()[0] in out for command in COMMANDS)
    assert run("--version") == (0, f"ixc {__version__}\n", "")


@pytest.mark.parametrize("arguments", [["--help"], ["ask", "--help"], ["plan", "3840x2160"], ["plan", "PAGE"]])
def test_main_light_commands_import_nothing_heavy(arguments: list[str], page: Path) -> None:
    arguments = [str(page) if argument == "PAGE" else argument for argument in arguments]
    code = (
        "import sys\nfrom ixc.cli.main import main\nsys.argv[0] = 'ixc'\n"
        "try:\n    main()\nexcept SystemExit as left:\n    assert left.code == 0, left.code\n"
        "print(sorted({'torch', 'transformers', 'numpy'} & set(sys.modules)), file=sys.stderr)\n"
    )
    done = python("-c", code, *arguments)
    assert done.stderr.strip() == "[]"
    assert done.returncode == 0


def seconds_of(*arguments: str) -> tuple[float, str]:
    """CPU seconds and standard output of one run of Python: other tests may be running beside it, so no wall clock."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = python(*arguments)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, done.stdout


def test_plan_answers_in_a_blink(tmp_path: Path) -> None:
    path = tmp_path / "4k.png"
    Image.new("RGB", (3840, 2160)).save(path, compress_level=1)
    ratios = []
    for _ in range(ATTEMPTS):
        bare, _ = seconds_of("-c", "import argparse, json, decimal, email.message")
        took, out = seconds_of("-m", "ixc", "plan", str(path), "--hd", "55")
        assert "6 rows x 9 columns" in out
        assert "8,005" in out
        ratios.append(took / max(bare, QUICK_START))
        if ratios[-1] < LIMIT / QUICK_START:
            return
    pytest.fail(f"no run of {ATTEMPTS} took less than {LIMIT / QUICK_START:.1f} starts of Python: {ratios}")


# -- ask and chat -----------------------------------------------------------------------------------------------------


def test_ask_prints_the_answer(run: Run, tiny_folder: Path, page: Path) -> None:
    code, out, err = run("ask", page, QUESTION, "--model", tiny_folder, "--max-new-tokens", 5, "--device", "cpu")
    assert (code, err) == (0, "")
    assert out.endswith("\n")
    code, text, _ = run("ask", page, QUESTION, "--model", tiny_folder, "--max-new-tokens", 5, "--json")
    found = json.loads(text)
    assert found["text"] == out.removesuffix("\n")
    assert found["images"] == [str(page)]
    assert (found["hd"], found["partition"], found["grids"]) == (9, "native", [[1, 2]])


def test_ask_reads_standard_input_and_several_images(run: Run, tiny_folder: Path, page: Path) -> None:
    options = ["--model", tiny_folder, "--max-new-tokens", 3, "--json"]
    code, out, _ = run("ask", "-", page, QUESTION, *options, "--hd", 1, stdin=page.read_bytes())
    assert code == 0
    assert json.loads(out)["grids"] == [[1, 1], [1, 1]]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([QUESTION], "0 images"),
        (["PAGE"], "a question must follow"),
        (["PAGE", "PAGE"], "a question must follow"),
        (["PAGE", "-"], "a question must follow"),
        (["PAGE", " "], "question is empty"),
        (["-", "-", QUESTION], "named 2 times"),
        (["-", QUESTION], "0 bytes"),
        ([], "Missing argument"),
        (["PAGE", QUESTION, "--colour"], "No such option"),
        (["PAGE", QUESTION, "--hd", "many"], "'--hd'"),
    ],
)
def test_ask_used_wrongly(run: Run, page: Path, arguments: list[str], words: str) -> None:
    code, out, err = run("ask", *(page if argument == "PAGE" else argument for argument in arguments))
    assert (code, out) == (2, "")
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert words in err


def test_chat_keeps_history_and_obeys(run: Run, tiny_folder: Path, page: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from ixc.inference.engine import Engine

    seen: list[tuple[str, int | None, int]] = []

    def stream(
        self: Engine, images: object, question: str, *, history: tuple[object, ...], hd: int | None, **_: object
    ):
        seen.append((question, hd, len(history)))
        return iter(["ans", "wer"])

    monkeypatch.setattr(Engine, "stream", stream)
    lines = b"first\n\n/hd 1\nsecond\n/clear\nthird\n/quit\nnever\n"
    code, out, err = run("chat", page, "--model", tiny_folder, stdin=lines)
    assert (code, out, err) == (0, "answer\n" * 3, "")
    assert seen == [("first", None, 0), ("second", 1, 1), ("third", 1, 0)]


def test_chat_with_a_model(run: Run, tiny_folder: Path, page: Path) -> None:
    code, out, _ = run("chat", page, "--model", tiny_folder, "--max-new-tokens", 3, stdin=b"a\nb\n")
    assert code == 0
    assert out.count("\n") >= 2


@pytest.mark.parametrize("line", ["/hd 0", "/hd", "/hd x", "/fly"])
def test_chat_refuses_other_commands(run: Run, tiny_folder: Path, page: Path, line: str) -> None:
    code, _, err = run("chat", page, "--model", tiny_folder, stdin=line.encode())
    assert code == 2
    assert f"no command {line!r}" in err


def test_chat_refuses_bytes_that_are_no_text(run: Run, tiny_folder: Path, page: Path) -> None:
    code, _, err = run("chat", page, "--model", tiny_folder, stdin=b"caf\xe9\n")
    assert code == 2
    assert err == "error: standard input is no utf-8 (byte 0xe9); save the text in UTF-8\n"


# -- plan -------------------------------------------------------------------------------------------------------------


def test_plan_as_json_and_drawn(run: Run, page: Path, tmp_path: Path) -> None:
    out = tmp_path / "tiles.png"
    code, text, _ = run("plan", page, "--hd", 9, "--partition", "native", "--draw", out, "--json")
    found = json.loads(text)
    assert code == 0
    assert (found["grid_h"], found["grid_w"], found["tiles"]) == (1, 2, 2)
    assert found["image_tokens"] == 457
    with Image.open(out) as drawn:
        assert drawn.width > 400
    assert [path.name for path in tmp_path.iterdir()] == ["tiles.png"]


def test_plan_of_a_size(run: Run) -> None:
    code, out, _ = run("plan", "3840X2160", "--hd", 55)
    assert code == 0
    assert "6 rows x 9 columns = 54" in out
    assert "8,005" in out


def test_plan_honours_exif(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "turned.jpg"
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (700, 300)).save(path, exif=exif)
    _, out, _ = run("plan", path, "--json")
    assert (json.loads(out)["width"], json.loads(out)["height"]) == (300, 700)


def test_plan_of_a_model_folder(run: Run, tiny_folder: Path, page: Path) -> None:
    code, out, _ = run("plan", page, "--model", tiny_folder, "--json")
    assert code == 0
    found = json.loads(out)
    assert found["positions"] == 2048
    assert (found["hd"], found["rule"]) == (9, "native")  # the folder's, as `ixc ask` takes them
    _, out, _ = run("plan", page, "--model", tiny_folder, "--json", "--hd", 1, "--partition", "fit")
    assert (json.loads(out)["hd"], json.loads(out)["rule"]) == (1, "fit")
    _, out, _ = run("plan", page, "--json")
    assert (json.loads(out)["hd"], json.loads(out)["rule"]) == (25, "original")


def test_plan_names_its_model(run: Run, tiny_folder: Path) -> None:
    out = run("plan", "800x600")[1]
    assert out.startswith("model         internlm-xcomposer2-4khd-7b (the published 7B); another: --model FOLDER\n")
    assert run("plan", "800x600", "--model", tiny_folder)[1].startswith(f"model         {tiny_folder}\n")


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["png", "jpg", "webp"])
def test_read_size_equals_the_size_after_opening(tmp_path: Path, kind: str, orientation: int) -> None:
    from ixc.processing import image_io

    path = tmp_path / f"page.{kind}"
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.new("RGB", (30, 20)).save(path, exif=exif)
    assert image_io.read_size(path) == image_io.open_image(path).size


# -- folders ----------------------------------------------------------------------------------------------------------


def test_synth_draws_the_same_pages_again(run: Run, tmp_path: Path) -> None:
    code, out, err = run("synth", tmp_path / "a", "-n", 3, "--seed", 7, "--kind", "receipt")
    assert (code, out, err) == (0, f"{tmp_path / 'a'}\n", "")
    run("synth", tmp_path / "b", "-n", 1, "--seed", 9, "--kind", "receipt")
    names = sorted(path.name for path in (tmp_path / "a").iterdir())
    assert names == ["000007-receipt.png", "000008-receipt.png", "000009-receipt.png", QUESTIONS]
    again = tmp_path / "b" / names[2]
    assert again.read_bytes() == (tmp_path / "a" / names[2]).read_bytes()
    lines = [json.loads(line) for line in (tmp_path / "a" / QUESTIONS).read_text().splitlines()]
    assert {line["image"] for line in lines} <= set(names)
    assert all(line["answer"] and line["question"] for line in lines)


def test_synth_writes_conversations_fit_to_learn_from(run: Run, tmp_path: Path) -> None:
    out = tmp_path / "forms"
    assert run("synth", out, "-n", 4, "--hd", 1, "--format", "conversations")[0] == 0
    talks = [json.loads(line) for line in (out / "conversations.jsonl").read_text().splitlines()]
    assert not (out / QUESTIONS).exists()
    for talk in talks:
        assert (out / talk["image"][0]).is_file()
        assert [turn["from"] for turn in talk["conversations"][:2]] == ["user", "assistant"]
        assert talk["conversations"][0]["value"].startswith("<ImageHere>")
        assert "<ImageHere>" not in "".join(turn["value"] for turn in talk["conversations"][1:])
    assert run("data", "check", out / "conversations.jsonl")[0] == 0


@pytest.mark.parametrize(("option", "words"), [("--hd", "no pages for HD-2"), ("--format", "no format '2'")])
def test_synth_used_wrongly(run: Run, tmp_path: Path, option: str, words: str) -> None:
    code, _, err = run("synth", tmp_path / "out", option, 2)
    assert (code, words in err) == (2, True)


def test_synth_leaves_nothing_when_it_is_stopped(tmp_path: Path) -> None:
    done = write_folder(tmp_path / "out", count=10)
    assert next(done) == 1
    done.close()
    assert list(tmp_path.iterdir()) == []


def test_import_weights(run: Run, tiny_folder: Path, tmp_path: Path) -> None:
    target = tmp_path / "native"
    code, out, err = run("import-weights", tiny_folder, target)
    assert (code, out, err) == (0, f"{target}\n", "")
    assert foreign_files(target) == set()
    with safe_open(target / "model.safetensors", "pt") as file:
        assert "plora_glb_GN" in file.keys()  # noqa: SIM118 - the file is no mapping
    code, _, err = run("import-weights", tiny_folder, target)
    assert code == 2
    assert "name a new or an empty folder" in err


def sentencepiece_model(pieces: list[tuple[str, int]]) -> bytes:
    """A `tokenizer.model` of (text, kind): field 1 of its message, with text 1 and kind 3."""
    bodies = [b"\x0a" + bytes([len(text.encode())]) + text.encode() + bytes([0x18, kind]) for text, kind in pieces]
    return b"".join(b"\x0a" + bytes([len(body)]) + body for body in bodies)


def test_import_weights_makes_a_native_folder(run: Run, page: Path, tmp_path: Path) -> None:
    source, target = tmp_path / "published", tmp_path / "native"
    shutil.copytree(GOLDEN_CHECKPOINT, source)
    control, byte, unused, own = 3, 6, 5, 4
    pieces = [("<unk>", 2), ("<s>", control), ("</s>", control), *((f"<0x{n:02X}>", byte) for n in range(256))]
    pieces += [(f"filler {n}", unused) for n in range(len(pieces), 512)]
    pieces[505], pieces[510], pieces[511] = ((f"[UNUSED_TOKEN_{n}]", own) for n in (140, 145, 146))
    (source / "tokenizer.model").write_bytes(sentencepiece_model(pieces))
    assert run("import-weights", source, target) == (0, f"{target}\n", "")
    assert {"tokenizer.json", "processor_config.json", "config.json"} <= {path.name for path in target.iterdir()}
    options = ["--hd", 1, "--max-new-tokens", 4, "--json"]
    answers = [json.loads(run("ask", page, "x", "--model", folder, *options)[1]) for folder in (source, target)]
    assert [answer.pop("seconds") > 0 for answer in answers] == [True, True]
    assert answers[0] == answers[1]

    (source / "tokenizer.model").write_bytes(b"no model")
    code, _, err = run("import-weights", source, tmp_path / "other")
    assert code == 1
    assert "is not a sentencepiece model" in err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["native", "published"]


def test_eval_synth_prints_a_table(run: Run, tiny_folder: Path, tmp_path: Path) -> None:
    options = ["--model", tiny_folder, "-n", 2, "--keep", tmp_path / "cases.jsonl"]
    code, out, err = run("eval", "synth", *options)
    assert (code, err) == (0, "")
    assert "exact match" in out
    code, out, _ = run("eval", "synth", *options, "--json")
    assert json.loads(out)["cases"]


def test_train_wants_a_recipe(run: Run, tmp_path: Path) -> None:
    code, _, err = run("train", tmp_path / "none.py", "--out", tmp_path / "run")
    assert code == 2
    assert "no file" in err
    assert not (tmp_path / "run").exists()


# -- endings ----------------------------------------------------------------------------------------------------------


def test_main_interrupt_ends_with_130(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(name: str) -> Path:
        raise KeyboardInterrupt

    monkeypatch.setattr(plan, "existing", interrupt)
    code, _, err = run("plan", "page.png")
    assert code == 130
    assert "Traceback" not in err


def test_main_closed_pipe_is_no_error() -> None:
    writer = subprocess.Popen(
        [sys.executable, "-m", "ixc", "plan", "10x10"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert writer.stdout is not None
    assert writer.stderr is not None
    writer.stdout.close()
    with writer.stderr as stderr:
        assert stderr.read() == b""
    assert writer.wait(60) in (0, 1)


def test_main_as_a_module() -> None:
    done = python("-m", "ixc", "--version")
    assert (done.returncode, done.stdout) == (0, f"ixc {__version__}\n")


def test_eval_synth_equals_with_two_processes(run: Run) -> None:
    asked = "eval", "synth", "-n", 2, "--kind", "sign", "--hd", 1, "--json"
    code, alone, _ = run(*asked)
    beside = run(*asked, "--processes", 2)
    assert (code, beside[0]) == (0, 0)
    assert len(json.loads(alone)["cases"]) == 2
    assert json.loads(beside[1]) == json.loads(alone)
