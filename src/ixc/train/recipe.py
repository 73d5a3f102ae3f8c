"""A run is a Python function that returns one of these."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from pathlib import Path

from ixc.errors import UsageError
from ixc.model.config import IxcConfig
from ixc.train.joint import JointRecipe
from ixc.train.language import LanguageRecipe
from ixc.train.sight import SightRecipe
from ixc.train.spelling import SpellingRecipe


@dataclass(frozen=True, kw_only=True)
class NanoRecipe:
    """Training of the embedded model from scratch: hand, eyes, eyes in the hand's letters, both."""

    model: IxcConfig
    language: LanguageRecipe
    sight: SightRecipe
    spelling: SpellingRecipe
    joint: JointRecipe
    begin: Path | None = None
    """Model folder whose weights the joint stage goes on from, instead of the three stages before it."""


def read_recipe(path: Path) -> NanoRecipe:
    """The recipe that `recipe()` of a Python file returns.

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
    if not isinstance(made, NanoRecipe):
        raise UsageError(f"recipe() of {path} gives {type(made).__name__}, a NanoRecipe is needed; see recipes/nano.py")
    return made
