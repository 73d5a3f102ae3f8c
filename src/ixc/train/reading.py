"""A recipe file: Python whose `recipe()` returns what is to run. The one reader of all kinds of recipes."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import TypeVar

from ixc.errors import UsageError

Kind = TypeVar("Kind")


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
