"""The walls of the house: who may import whom, read from the source. Imports flow down: L0 <- L1 <- L2 <- L3 <- cli.

L0  errors, geometry, layout, chat, lazily     pure: no torch, no Pillow, no transformers, no numpy
L1  model | processing                 do not know each other
L2  inference | data | train | evals   do not know each other, save `SIBLINGS`
L3  serving | bench
cli, cli_eval, cli_serve, cli_words, terminal, auto
"""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "src" / "ixc"
FILES = sorted(SOURCE.rglob("*.py"))

LEVELS = {
    **dict.fromkeys(["errors", "geometry", "layout", "chat", "lazily"], 0),
    **dict.fromkeys(["model", "processing"], 1),
    **dict.fromkeys(["inference", "data", "train", "evals"], 2),
    **dict.fromkeys(["serving", "bench"], 3),
    **dict.fromkeys(
        [
            "cli",
            "cli_bench",
            "cli_checks",
            "cli_data",
            "cli_train",
            "cli_eval",
            "cli_read",
            "cli_serve",
            "cli_synth",
            "cli_words",
        ],
        4,
    ),
    **dict.fromkeys(["terminal", "auto", "__init__", "__main__"], 4),
}
"""Room -> level. A new room is entered here first."""

SIBLINGS = {("train", "data"), ("evals", "data")}
"""L2 rooms that may use another: the embedded model is taught and examined on the documents `data.synth` draws."""

HEAVY = {"torch", "PIL", "transformers", "numpy", "tokenizers", "safetensors", "torchvision"}
LIGHT_FILES = {
    "inference/plan.py": {"torch", "transformers", "numpy"},
    "inference/settings.py": {"torch", "transformers", "numpy", "PIL"},
    "inference/draw.py": {"torch", "transformers"},
    "inference/documents.py": {"torch", "transformers"},
    "model/sizes.py": {"torch", "transformers", "numpy"},
    "model/checkpoint_files.py": {"torch", "transformers", "numpy"},
    "train/adapter_files.py": {"torch", "transformers", "numpy"},
    "train/reading.py": {"torch", "transformers", "numpy"},
    "bench/names.py": {"torch", "transformers", "numpy"},
    "serving/backend.py": {"torch", "transformers", "numpy"},
    "processing/standalone.py": {"torch", "transformers"},
    "inference/lazy.py": {"torch", "transformers", "numpy", "PIL"},
    "model/standalone.py": {"transformers"},
    "model/image_encoder.py": {"transformers"},
}
"""Files outside L0 that must load quickly too -> what they may not import."""


def room(path: Path) -> str:
    return path.relative_to(SOURCE).parts[0].removesuffix(".py")


def imports(path: Path) -> set[str]:
    """Dotted names of everything a file imports, at its top or inside its functions."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path.name} line {node.lineno}: relative import; write it in full"
            found.add(node.module or "")
            if node.module == "ixc":
                found |= {f"ixc.{alias.name}" for alias in node.names}
    return found


def rooms_used(path: Path) -> set[str]:
    return {name.split(".")[1] for name in imports(path) if name.startswith("ixc.") and name.split(".")[1] in LEVELS}


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_imports_flow_down(path: Path) -> None:
    here = room(path)
    assert here in LEVELS, f"{here} is a new room: give it a level"
    wrong = {
        other
        for other in rooms_used(path) - {here}
        if LEVELS[other] > LEVELS[here]
        or (LEVELS[other] == LEVELS[here] and LEVELS[here] in (1, 2) and (here, other) not in SIBLINGS)
    }
    assert not wrong, f"{path.relative_to(SOURCE)} (level {LEVELS[here]}) imports {', '.join(sorted(wrong))}"


@pytest.mark.parametrize("path", [p for p in FILES if LEVELS.get(room(p)) == 0], ids=lambda path: path.name)
def test_the_lowest_level_is_pure(path: Path) -> None:
    assert not {name.split(".")[0] for name in imports(path)} & HEAVY


@pytest.mark.parametrize("name", sorted(LIGHT_FILES))
def test_light_files(name: str) -> None:
    assert not {imported.split(".")[0] for imported in imports(SOURCE / name)} & LIGHT_FILES[name]


def test_importing_the_package_loads_nothing_heavy() -> None:
    code = (
        "import sys, ixc, ixc.geometry, ixc.layout, ixc.errors\n"
        "print(sorted({'torch', 'PIL', 'transformers'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
