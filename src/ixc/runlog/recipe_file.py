"""A recipe file: Python whose `recipe()` returns what is to run. The one reader of all kinds of recipes."""

from __future__ import annotations

import ast
import importlib.util
from pathlib import Path
from typing import TypeVar

from ixc.errors import UsageError

Kind = TypeVar("Kind")


def check_source(path: Path) -> None:
    """The file can be a recipe; nothing of it is run, so nothing that it imports is loaded.

    Raises:
        UsageError: no such file, no Python, or no function `recipe`.
    """
    if not path.is_file():
        raise UsageError(f"no recipe {path}; the ones of this package are in recipes/")
    try:
        tree = ast.parse(path.read_bytes(), filename=str(path))
    except (SyntaxError, ValueError, OSError) as error:
        raise UsageError(f"{path} is not a Python file ({error}); a recipe is one with a function recipe()") from error
    named = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
    named |= {node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
    named |= {alias.asname or alias.name for node in ast.walk(tree) if isinstance(node, ast.ImportFrom | ast.Import)
              for alias in node.names}  # fmt: skip
    if not named & {"recipe", "*"}:
        raise UsageError(f"{path} has no function recipe(); see recipes/")


def read(path: Path, *kinds: type[Kind]) -> Kind:
    """What `recipe()` of a file returns.

    Args:
        kinds: what it may be, at least one.

    Raises:
        UsageError: no such file, no such function, or it returns something else.
    """
    if not path.is_file():
        raise UsageError(f"no recipe {path}; the ones of this package are in recipes/")
    spec = importlib.util.spec_from_file_location("recipe", path)
    if spec is None or spec.loader is None:
        raise UsageError(f"{path} is not a Python file; a recipe is one with a function recipe()")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    made = module.recipe() if hasattr(module, "recipe") else None
    if not isinstance(made, kinds):
        wanted = " or a ".join(kind.__name__ for kind in kinds)
        raise UsageError(f"recipe() of {path} gives {type(made).__name__}, a {wanted} needed; see recipes/")
    return made
