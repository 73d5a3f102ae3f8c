"""Names of tests: `test_<symbol>_<case>`, where the symbol is what is tested."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
CODE = ("src", "studies", "dev", "recipes", "examples")
PRODUCTS = frozenset({"readme", "wheel", "deploy", "embedded", "docs"})
"""What is tested as a whole: the README, the built wheel, the files of deploy/, the embedded model, the documents."""


def snake(name: str) -> str:
    """`TileCache` -> `tile_cache`; `IxcImageProcessor`, `_private` and `CONSTANT` likewise."""
    if not name.isupper():
        name = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name)
    return name.lower().strip("_")


def defined(tree: ast.Module) -> Iterator[str]:
    """Names of functions, methods, classes, and of constants at the top of a module."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.name
    for node in tree.body:
        targets = (
            node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
        )
        yield from (each.id for each in targets if isinstance(each, ast.Name))


def symbols() -> frozenset[str]:
    """Functions, classes, constants, modules and packages (commands are functions), and `PRODUCTS`."""
    found = set(PRODUCTS)
    for path in (path for folder in CODE for path in (ROOT / folder).rglob("*.py")):
        found |= {path.stem, path.parent.name, *map(snake, defined(ast.parse(path.read_text(encoding="utf-8"))))}
    return frozenset(found)


SYMBOLS = symbols()


@pytest.mark.parametrize("path", sorted((ROOT / "tests").rglob("test_*.py")), ids=lambda path: path.stem)
def test_names_begin_with_a_symbol(path: Path) -> None:
    tests = [each for each in defined(ast.parse(path.read_text(encoding="utf-8"))) if each.startswith("test_")]
    words = {test: test.removeprefix("test_").split("_") for test in tests}
    wrong = [test for test, w in words.items() if not {"_".join(w[:n]) for n in range(1, len(w) + 1)} & SYMBOLS]
    assert not wrong, f"{', '.join(wrong)}: begin with test_<function, class, module or command that is tested>_"
