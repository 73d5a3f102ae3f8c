"""The one reader of recipe files: Python whose `recipe()` returns the configuration of a run."""

from __future__ import annotations

import ast
import functools
import importlib.util
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

from ixc.errors import UsageError

Kind = TypeVar("Kind")

MOVED_MODULES = {
    "ixc.train.stage": "ixc.train.config, where Stage is TrainConfig and Trained is TrainedPart",
    "ixc.model.config": "ixc.model.configuration",
    "ixc.model.weights": "ixc.model.loading",
}
"""Module that recipes of version 0.x import -> where its names are now."""


def refuse_old_fields(renamed: Mapping[str, str]) -> Callable[[type[Kind]], type[Kind]]:
    """Make a dataclass refuse the field names of an older version with one line that names the new ones.

    Args:
        renamed: old field -> new field, or words on what to do instead. `dataclasses.replace` is covered as well,
            because it calls the class.
    """

    def decorate(cls: type[Kind]) -> type[Kind]:
        original: Any = cls.__init__

        @functools.wraps(original)
        def checked(self: Any, *values: Any, **fields: Any) -> None:
            old = [f"{name} is {renamed[name]}" for name in fields if name in renamed]
            if old:
                raise UsageError(
                    f"{cls.__name__} has {len(old)} fields under the names of an older version: {'; '.join(old)}"
                )
            original(self, *values, **fields)

        setattr(cls, "__init__", checked)  # noqa: B010  (an assignment is an error to type checkers)
        return cls

    return decorate


def check_source(path: Path) -> None:
    """Check that a file can be a recipe without running it, so that nothing it imports is loaded.

    Raises:
        UsageError: no such file, not Python, or no function `recipe`.
    """
    if not path.is_file():
        raise UsageError(f"no recipe {path}; the ones of this package are in recipes/")
    try:
        tree = ast.parse(path.read_bytes(), filename=str(path))
    except (SyntaxError, ValueError, OSError) as error:
        raise UsageError(f"{path} is not a Python file ({error}); a recipe is one with a function recipe()") from error
    names = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
    names |= {node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
    names |= {alias.asname or alias.name for node in ast.walk(tree) if isinstance(node, ast.ImportFrom | ast.Import)
              for alias in node.names}  # fmt: skip
    if not names & {"recipe", "*"}:
        raise UsageError(f"{path} has no function recipe(); see recipes/")


def read(path: Path, *kinds: type[Kind]) -> Kind:
    """Return what `recipe()` of a file returns.

    Args:
        kinds: types it may have, at least one.

    Raises:
        UsageError: no such file, no function `recipe`, another type returned, or names of an older version.
    """
    if not path.is_file():
        raise UsageError(f"no recipe {path}; the ones of this package are in recipes/")
    spec = importlib.util.spec_from_file_location("recipe", path)
    if spec is None or spec.loader is None:
        raise UsageError(f"{path} is not a Python file; a recipe is one with a function recipe()")
    module = importlib.util.module_from_spec(spec)
    found = _called(path, module, spec.loader)
    if not isinstance(found, kinds):
        expected = " or a ".join(kind.__name__ for kind in kinds)
        raise UsageError(f"recipe() of {path} gives {type(found).__name__}, a {expected} needed; see recipes/")
    return found


def _called(path: Path, module: ModuleType, loader: Any) -> Any:
    """Execute the file and call its `recipe()`; None if it has none."""
    try:
        loader.exec_module(module)
        return module.recipe() if hasattr(module, "recipe") else None
    except ModuleNotFoundError as error:
        if error.name in MOVED_MODULES:
            raise UsageError(f"{path}: the module {error.name} is now {MOVED_MODULES[error.name]}") from error
        raise
    except UsageError as error:
        raise UsageError(f"{path}: {error}") from error
