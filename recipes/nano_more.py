"""The embedded model taken further: the joint stage again, from the weights in the package.

ixc train recipes/nano_more.py --out runs/more
"""

from dataclasses import replace
from pathlib import Path

import ixc
from ixc.train.recipe import NanoRecipe, read_recipe


def recipe() -> NanoRecipe:
    """`nano.py` with its joint stage begun from the embedded model."""
    first = read_recipe(Path(__file__).parent / "nano.py")
    begin = Path(ixc.__file__).parent / "models" / "nano"
    return replace(first, begin=begin, joint=replace(first.joint, seed=11, tower_from=0.0))
