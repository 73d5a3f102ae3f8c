"""The embedded model's first two stages taken further, from the weights where their first run stopped.

    ixc train recipes/nano_more.py --out runs/more

The language model goes back to a full rate on the lessons of four and nine tiles, where it was weakest.
"""

from dataclasses import replace
from pathlib import Path

from ixc.train.recipe import NanoRecipe, read_recipe

FOLDER = Path(__file__).parent
START = FOLDER / "nano_start.safetensors"


def recipe() -> NanoRecipe:
    """`nano.py` with its first stages begun from `nano_start.safetensors`."""
    first = read_recipe(FOLDER / "nano.py")
    return replace(
        first,
        language=replace(first.language, start=START, steps=8000, decay_from=5500, seed=6),
        sight=replace(first.sight, start=START, steps=6000, decay_from=4000, seed=4),
        joint=replace(first.joint, seed=10, steps=4000),
    )
