"""What a command imports: help, plans and refusals load no torch, and `ixc ask` loads no transformers.

Modules are looked up, no clock is read: the figures are those of benchmarks/startup_*.json (dev/startup.py).
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from ixc.inference.model_folder import EMBEDDED

RECIPES = Path(__file__).parents[1] / "recipes"
EXAMPLES = Path(__file__).parents[1] / "examples"

HEAVY = ("torch", "transformers", "huggingface_hub", "pandas", "datasets", "fastapi", "sklearn", "torchvision")
"""What no refusal may import."""

NOT_FOR_A_QUESTION = (
    *("transformers", "huggingface_hub", "accelerate", "peft", "datasets", "pandas", "sklearn", "torchvision"),
    *("torch._dynamo", "torch.distributed.tensor", "sympy", "fastapi", "jinja2"),
)
"""What `ixc ask` on the embedded model has no use for. (typer 0.29 imports pydantic where it is there.)"""

CHILD = """
import io, json, sys
from ixc.cli.main import main
heavy, cases, done, before = json.loads(sys.argv[1]), json.loads(sys.argv[2]), [], set()
for arguments in cases:
    sys.argv = ["ixc", *arguments]
    out, err, code = io.StringIO(), io.StringIO(), None
    kept = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = out, err
    try:
        main()
    except SystemExit as left:
        code = left.code
    finally:
        sys.stdout, sys.stderr = kept
    loaded = {name for name in heavy if name in sys.modules}
    done.append({"code": code, "out": out.getvalue(), "err": err.getvalue(), "loaded": sorted(loaded - before)})
    before |= loaded
print(json.dumps(done))
"""

LIGHT = {
    "help": "--help",
    "version": "--version",
    **{f"help of {name}": f"{name} --help" for name in (
        "ask", "chat", "plan", "read", "serve", "train", "merge", "plan-train", "quantize", "import-weights", "synth",
        "data check", "eval", "eval run", "eval score", "eval report", "eval synth", "bench speed",
    )},
    "plan of a size": "plan 3840x2160 --hd 55",
    "plan of a picture": "plan PAGE",
    "plan of a folder": "plan PAGE --model EMBEDDED",
}  # fmt: skip
"""Name -> a command that ends well."""

REFUSED = {
    "ask, no picture": "ask TEXT What?",
    "ask, a picture cut off": "ask CUT What?",
    "ask, hd": "ask PAGE What? --hd 0",
    "ask, partition": "ask PAGE What? --partition x",
    "ask, answer": "ask PAGE What? --max-new-tokens 0",
    "ask, longest answer": "ask PAGE What? --max-new-tokens 40000",
    "ask, hd too large": "ask PAGE What? --hd 999",
    "ask, seed alone": "ask PAGE What? --seed 1",
    "ask, temperature": "ask PAGE What? --temperature nan",
    "ask, beams": "ask PAGE What? --beams 99",
    "ask, stop": "ask PAGE What? --stop=",
    "ask, system": "ask PAGE What? --system Hi",
    "chat, seed alone": "chat PAGE --seed 1",
    "chat, system": "chat PAGE --system Hi",
    "read, seed alone": "read PAGE --seed 1",
    "read, system": "read PAGE --system Hi",
    "ask, device": "ask PAGE What? --device tpu",
    "ask, dtype": "ask PAGE What? --dtype f8",
    "ask, plora": "ask PAGE What? --plora x",
    "ask, compile": "ask PAGE What? --plora folded --compile",
    "ask, no folder": "ask PAGE What? --model NONE",
    "ask, an empty folder": "ask PAGE What? --model EMPTY",
    "ask, damaged settings": "ask PAGE What? --model DAMAGED",
    "ask, weights cut off": "ask PAGE What? --model CUT_OFF",
    "ask, sizes": "ask PAGE What? --model ODD",
    "chat, no picture": "chat TEXT",
    "chat, hd": "chat PAGE --hd 0",
    "chat, no folder": "chat PAGE --model NONE",
    "chat, cache": "chat PAGE --prefix-cache 4 --compile",
    "read, no picture": "read TEXT",
    "read, no folder": "read PAGE --model NONE",
    "read, device": "read PAGE --device tpu",
    "read, format": "read PAGE --format x",
    "plan, no picture": "plan TEXT",
    "plan, no folder": "plan PAGE --model NONE",
    "plan, dtype": "plan PAGE --dtype x",
    "import-weights, no folder": "import-weights NONE NEW",
    "import-weights, weights cut off": "import-weights CUT_OFF NEW",
    "import-weights, taken": "import-weights EMBEDDED DAMAGED",
    "synth, kind": "synth NEW --kind x",
    "synth, taken": "synth PAGE",
    "train, no recipe": "train NONE.py",
    "train, no function": "train NO_RECIPE",
    "train, no Python": "train BROKEN",
    "train, no data": "train LORA --data NONE.jsonl",
    "train, no folder": "train LORA --data RECORDS --model NONE",
    "train, device": "train LORA --data RECORDS --device tpu",
    "train, tracker": "train LORA --data RECORDS --track x",
    "merge, no adapter": "merge EMPTY NEW",
    "merge, taken": "merge EMPTY DAMAGED",
    "plan-train, no recipe": "plan-train NO_RECIPE",
    "quantize, no folder": "quantize NONE NEW",
    "quantize, bits": "quantize EMBEDDED NEW --bits 3",
    "quantize, weights cut off": "quantize CUT_OFF NEW",
    "serve, hd": "serve --hd 0",
    "serve, engine": "serve --engine x",
    "serve, no folder": "serve --engine light --model NONE",
    "serve, device": "serve --device tpu",
    "serve, host": "serve --fetch-from a/b",
    "eval, name": "eval nothing",
    "eval, no folder": "eval docvqa_val --model NONE",
    "eval, no data": "eval docvqa_val --data NONE",
    "eval, device": "eval docvqa_val --device tpu",
    "eval, prompts": "eval docvqa_val --prompts x",
    "eval score, no file": "eval score NONE.jsonl",
    "eval report, no folder": "eval report NONE",
    "eval synth, kind": "eval synth --kind x",
    "eval synth, no folder": "eval synth --model NONE",
    "data check, no file": "data check NONE.jsonl",
    "data check, no folder": "data check RECORDS --model NONE",
    "data check, no tables": "data check EMPTY",
    "data check, hd": "data check RECORDS --hd 0",
    "bench speed, geometry": "bench speed --geometry x",
    "bench speed, section": "bench speed --only x",
    "bench speed, bits": "bench speed --bits 3",
}
"""Name -> a command with one thing wrong."""


def prepared(folder: Path) -> dict[str, str]:
    """Word of the tables -> a path."""
    page = folder / "page.png"
    Image.new("RGB", (400, 300), "white").save(page)
    for name, text in (("text.png", "no picture"), ("no_recipe.py", "x = 1\n"), ("broken.py", "def (\n"),
                       ("records.jsonl", "{}\n")):  # fmt: skip
        (folder / name).write_text(text)
    (folder / "cut.png").write_bytes(page.read_bytes()[:-200])
    (folder / "empty").mkdir()
    (folder / "damaged").mkdir()
    (folder / "damaged" / "config.json").write_text("{")
    small = shutil.ignore_patterns("*.safetensors", "*.md", "scores*")
    for name in ("cut_off", "odd"):
        shutil.copytree(EMBEDDED, folder / name, ignore=small)
    with (EMBEDDED / "model.safetensors").open("rb") as file:
        (folder / "cut_off" / "model.safetensors").write_bytes(file.read(1 << 20))
    shutil.copyfile(EMBEDDED / "model.safetensors", folder / "odd" / "model.safetensors")
    settings = json.loads((folder / "odd" / "config.json").read_text())
    settings["text_config"]["hidden_size"] = -3
    (folder / "odd" / "config.json").write_text(json.dumps(settings))
    words = {"PAGE": page, "TEXT": folder / "text.png", "CUT": folder / "cut.png", "NONE": folder / "none",
             "NONE.py": folder / "none.py", "NONE.jsonl": folder / "none.jsonl", "NEW": folder / "new",
             "EMPTY": folder / "empty", "DAMAGED": folder / "damaged", "CUT_OFF": folder / "cut_off",
             "ODD": folder / "odd", "EMBEDDED": EMBEDDED, "NO_RECIPE": folder / "no_recipe.py",
             "BROKEN": folder / "broken.py", "RECORDS": folder / "records.jsonl",
             "LORA": RECIPES / "lora_nano.py"}  # fmt: skip
    return {word: str(path) for word, path in words.items()}


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Every command of the tables, one after the other in one fresh process: what it said and what it newly loaded."""
    words = prepared(tmp_path_factory.mktemp("startup"))
    cases = LIGHT | REFUSED
    arguments = [[words.get(word, word) for word in line.split()] for line in cases.values()]
    done = subprocess.run(
        [sys.executable, "-c", CHILD, json.dumps(HEAVY), json.dumps(arguments)],
        capture_output=True, text=True, check=True, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    return dict(zip(cases, json.loads(done.stdout.splitlines()[-1]), strict=True))


@pytest.mark.parametrize("name", LIGHT)
def test_main_light_commands_load_no_torch(ran: dict[str, Any], name: str) -> None:
    assert (ran[name]["code"], ran[name]["err"], ran[name]["loaded"]) == (0, "", [])
    assert ran[name]["out"]


@pytest.mark.parametrize("name", REFUSED)
def test_main_refusals_load_no_torch(ran: dict[str, Any], name: str) -> None:
    found = ran[name]
    assert found["code"] in (1, 2), found
    assert found["err"].splitlines()[-1].startswith("error: ")
    assert found["loaded"] == []


def test_ixc_import_loads_nothing() -> None:
    code = f"import sys, ixc; print([name for name in {HEAVY!r} if name in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_ask_loads_torch_and_no_transformers() -> None:
    question = [["ask", str(EXAMPLES / "receipt.png"), "What is the TOTAL?"]]
    asked = [sys.executable, "-c", CHILD, json.dumps(["torch", *NOT_FOR_A_QUESTION]), json.dumps(question)]
    done = subprocess.run(asked, capture_output=True, text=True, check=True, stdin=subprocess.DEVNULL)
    (found,) = json.loads(done.stdout.splitlines()[-1])
    assert (found["code"], found["out"], found["err"], found["loaded"]) == (0, "641.57\n", "", ["torch"])
