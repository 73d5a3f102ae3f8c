"""Stage 2 from a recipe: the language model that reads glyph tokens of real pages.

CACHE/train --run_page_lm--> CACHE/run/page_lm.pt --keep_page_lm--> page_lm.safetensors
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from ixc.errors import UsageError, WeightsError
from ixc.nano.config import PagesRecipe
from ixc.nano.loop import StepReport, train
from ixc.nano.pipeline import (
    RUN,
    add_notes,
    load_averaged,
    note_start,
    run_notes,
    save_weights,
    training_pages,
)
from ixc.nano.stages.page_lm import PageLm, PageLmTask

KEPT = "page_lm.safetensors"
"""What is kept of the stage: weights in float16."""
PUBLISHED = "model."
"""What the names of the decoder's weights begin with in a model folder."""


def build_page_lm(recipe: PagesRecipe, init_from: Path | None) -> PageLm:
    """The model of stage 2 as training begins.

    Args:
        init_from: a folder written by `keep_page_lm`, or a model folder whose decoder is of the same width and not
            deeper: its layers come first, those behind them add nothing as training begins, and so does its vocabulary.

    Raises:
        UsageError: the recipe has no stage 2.
        WeightsError: the weights do not fit.
    """
    if recipe.text is None or recipe.reading is None:
        raise UsageError("the recipe has no language model (text=, reading=)")
    model = PageLm(recipe.text, seed=recipe.reading.seed)
    if init_from is not None:
        load_initial(model, init_from)
    return model


def load_initial(model: PageLm, source: Path) -> None:
    """Load a folder's weights, as in `build_page_lm`."""
    try:
        if (source / KEPT).is_file():
            model.load_state_dict({k: v.float() for k, v in load_file(source / KEPT).items()})
            return
        found = load_file(source / "model.safetensors")
        given = {_own_name(k): v.float() for k, v in found.items() if k.startswith(PUBLISHED)}
        _load_part(model.decoder, given)
    except (OSError, RuntimeError, KeyError) as error:
        text = " ".join(str(error).split())[:200]
        raise WeightsError(f"{source} holds no fitting language model ({text}); name a model folder") from error


def _own_name(name: str) -> str:
    """Published names have no `base` in maps with low-rank updates."""
    name = name.removeprefix(PUBLISHED)
    inner = any(f".{part}.weight" in name for part in ("wqkv", "wo", "w1", "w2", "w3"))
    return name.replace(".weight", ".base.weight") if inner else name


@torch.no_grad()
def _load_part(decoder: nn.Module, given: dict[str, Tensor]) -> None:
    own = decoder.state_dict()
    table = own["tok_embeddings.weight"].clone()
    table[: len(given["tok_embeddings.weight"])] = given["tok_embeddings.weight"]
    if unknown := set(given) - set(own):
        raise KeyError(f"no place for {sorted(unknown)[0]}")
    decoder.load_state_dict(own | given | {"tok_embeddings.weight": table})


def run_page_lm(
    recipe: PagesRecipe, init_from: Path | None, cache: Path, *, watch: Callable[[StepReport], Any] | None = None
) -> PageLm:
    """Train stage 2 on the pages of a cache, or go on with it."""
    model = build_page_lm(recipe, init_from)
    assert recipe.reading is not None
    first = note_start(cache / RUN, PageLmTask.name, init_from)
    task = PageLmTask(replace(recipe.page_lm, first=first), training_pages(cache), model)
    train(task, recipe.reading, cache / RUN, watch=watch)
    return model


def keep_page_lm(recipe: PagesRecipe, cache: Path, folder: Path) -> None:
    """Write the averaged weights of stage 2 in float16 and notes beside them."""
    model = build_page_lm(recipe, None)
    assert recipe.reading is not None
    counts = load_averaged(model, cache / RUN / f"{PageLmTask.name}.pt")
    save_weights(model, folder / KEPT)
    loop = {"muon_lr": recipe.reading.muon_lr, "adam_lr": recipe.reading.adam_lr}
    add_notes(folder, run_notes(recipe, cache, PageLmTask.name, counts) | {"images": counts["examples"]} | loop)


__all__ = ["build_page_lm", "keep_page_lm", "load_initial", "run_page_lm"]
