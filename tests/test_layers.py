"""Which package may import which, read from the source: imports flow down the table, and no modules form a cycle.

Also: what stays free of heavy libraries, because `import ixc`, `ixc plan` and every refusal must not wait for them.
"""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "src" / "ixc"
FILES = sorted(SOURCE.rglob("*.py"))

BASE = frozenset({"errors", "core", "utils"})
MODEL = BASE | {"model", "processing"}
"""A model and what prepares its inputs."""

LAYERS: dict[str, frozenset[str]] = {
    "errors": frozenset(),
    "core": frozenset({"errors"}),
    "utils": frozenset({"errors"}),
    "model": BASE,
    "processing": BASE,
    "runlog": BASE,
    "synth": BASE | {"processing"},
    "data": BASE | {"processing"},
    "inference": MODEL,
    "train": MODEL | {"data", "runlog"},
    "nano": MODEL | {"synth", "runlog"},
    "evals": BASE | {"processing", "synth"},
    "apps": BASE | {"processing", "inference", "cluster"},
    "cluster": BASE,
    "serving": MODEL | {"inference"},
    "bench": MODEL | {"inference"},
    "auto": frozenset({"model", "processing"}),
}
"""Package -> packages it may import. A new package is entered here first; `TOP` may import anything."""

TOP = frozenset({"__init__", "__main__", "cli"})

HEAVY = {"torch", "PIL", "transformers", "numpy", "tokenizers", "safetensors", "torchvision"}
PURE = frozenset({"errors", "core"})
"""Packages without any of them."""

WITHOUT_TORCH = frozenset({"torch", "transformers", "numpy"})
LIGHT_FILES = {
    "apps/reading/single.py": {"torch", "transformers"},
    "apps/reading/opening.py": {"torch", "transformers"},
    "apps/reading/records.py": {"torch", "transformers"},
    "bench/names.py": WITHOUT_TORCH,
    "inference/cost.py": WITHOUT_TORCH,
    "inference/lazy.py": HEAVY,
    "inference/settings.py": HEAVY,
    "inference/tiling_figure.py": {"torch", "transformers"},
    "model/checkpoint_files.py": WITHOUT_TORCH,
    "model/image_encoder.py": {"transformers"},
    "model/sizes.py": WITHOUT_TORCH,
    "model/standalone.py": {"transformers"},
    "processing/standalone.py": {"torch", "transformers"},
    "runlog/recipe_file.py": WITHOUT_TORCH,
    "serving/backend.py": WITHOUT_TORCH,
    "train/adapter_files.py": WITHOUT_TORCH,
    "utils/device_names.py": HEAVY,
    "utils/files.py": HEAVY,
}
"""Other files that must load quickly -> what they may not import."""


def package(path: Path) -> str:
    return path.relative_to(SOURCE).parts[0].removesuffix(".py")


def module(path: Path) -> str:
    parts = path.relative_to(SOURCE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module(path): path for path in FILES}


def imports(path: Path, *, at_top: bool = False) -> set[str]:
    """Dotted names of everything a file imports; at_top: only what importing the file itself imports."""
    found: set[str] = set()
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in _run_at_import(tree) if at_top else ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path.name} line {node.lineno}: relative import; write it in full"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def _run_at_import(tree: ast.Module) -> list[ast.stmt]:
    """Statements at the top of a file, those under TYPE_CHECKING left out."""
    found: list[ast.stmt] = []
    for node in tree.body:
        if isinstance(node, ast.If):
            if "TYPE_CHECKING" not in ast.dump(node.test):
                found += node.body
        else:
            found.append(node)
    return found


def own_modules(names: set[str]) -> set[str]:
    """The modules of this package among imported names: a name may be a module, or something in one."""
    return {name if name in MODULES else name.rpartition(".")[0] for name in names if name.startswith("ixc.")} & set(
        MODULES
    )


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_ixc_imports_flow_down(path: Path) -> None:
    here = package(path)
    if here in TOP:
        return
    assert here in LAYERS, f"{here} is a new package: enter it in LAYERS"
    used = {name.split(".")[1] for name in imports(path) if name.startswith("ixc.")}
    wrong = used - LAYERS[here] - {here}
    assert not wrong, f"{path.relative_to(SOURCE)} imports {', '.join(sorted(wrong))}; {here} may not"


def test_ixc_layers_have_no_cycle() -> None:
    """The table itself: packages without what they may import go first, until none is left."""
    left = dict(LAYERS)
    while left:
        free = [name for name, below in left.items() if not below & set(left)]
        assert free, f"{', '.join(sorted(left))} import each other"
        for name in free:
            del left[name]


def test_ixc_modules_have_no_import_cycle() -> None:
    graph = {name: own_modules(imports(path, at_top=True)) - {name} for name, path in MODULES.items()}
    # Importing a module imports its packages first, but a package's lazy table imports nothing.
    done: set[str] = set()

    def visit(name: str, trail: tuple[str, ...]) -> None:
        assert name not in trail, " -> ".join((*trail[trail.index(name) :], name))
        if name not in done:
            for other in sorted(graph[name]):
                visit(other, (*trail, name))
            done.add(name)

    for name in sorted(graph):
        visit(name, ())


@pytest.mark.parametrize("path", [p for p in FILES if package(p) in PURE], ids=lambda path: path.name)
def test_ixc_pure_packages_import_nothing_heavy(path: Path) -> None:
    assert not {name.split(".")[0] for name in imports(path)} & HEAVY


@pytest.mark.parametrize("name", sorted(LIGHT_FILES))
def test_ixc_light_files_import_nothing_heavy(name: str) -> None:
    assert not {imported.split(".")[0] for imported in imports(SOURCE / name)} & LIGHT_FILES[name]


def test_ixc_import_loads_nothing_heavy() -> None:
    code = (
        "import sys, ixc, ixc.core.tiling, ixc.core.token_layout, ixc.errors\n"
        "print(sorted({'torch', 'PIL', 'transformers'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


MOST_PARAMETERS = 7
"""Of one function; self, *args and **kwargs are not counted."""

CONTRACTS = {
    "model/decoder.py": {"forward"},  # what transformers' `generate` and vLLM pass to a decoder
    "model/modeling.py": {"forward"},
    "processing/processing.py": {"__init__", "apply_chat_template"},  # saved settings; ProcessorMixin's method
}
"""Files -> functions whose parameters another library defines."""


def parameters(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    given = function.args
    names = [each.arg for each in (*given.posonlyargs, *given.args, *given.kwonlyargs)]
    return len(names) - (names[:1] in (["self"], ["cls"], ["ctx"]))


@pytest.mark.parametrize("path", FILES, ids=module)
def test_ixc_functions_have_few_parameters(path: Path) -> None:
    allowed = CONTRACTS.get(path.relative_to(SOURCE).as_posix(), set())
    functions = [
        each
        for each in ast.walk(ast.parse(path.read_text()))
        if isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef)
    ]
    many = {each.name for each in functions if parameters(each) > MOST_PARAMETERS}
    assert many <= allowed
