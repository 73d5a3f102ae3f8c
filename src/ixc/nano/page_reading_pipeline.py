"""Stage 3 from a recipe: the whole model on pictures of pages, and the model folder that it gives.

encoder.safetensors, page_lm.safetensors --fit_projector--> CACHE/run/page_reading.pt --keep--> page_reading.safetensors
                                                                                     --export--> model folder
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from ixc.core.chat_format import IMAGE_PLACEHOLDER
from ixc.errors import UsageError, WeightsError
from ixc.model.configuration import IxcConfig
from ixc.nano import page_lm_pipeline, pipeline
from ixc.nano.config import PagesRecipe
from ixc.nano.data.question_packing import page_tokenizer
from ixc.nano.export import export
from ixc.nano.loop import StepReport, train
from ixc.nano.stages.page_reading import PageReader, PageReadingTask, fit_projector
from ixc.processing.tokenization import PAGE_VOCABULARY

KEPT = "page_reading.safetensors"
"""What is kept of the stage: weights in float16."""
FITTED = "page_reading_fitted.pt"
"""Weights of a run as training began: the projector is fitted once."""


def build_reader(recipe: PagesRecipe) -> PageReader:
    """The model of stage 3, with random weights.

    Raises:
        UsageError: the recipe has no stage 3.
    """
    if recipe.text is None or recipe.joint is None:
        raise UsageError("the recipe has no language model or no joint stage (text=, joint=)")
    image = PAGE_VOCABULARY.index(IMAGE_PLACEHOLDER)
    config = IxcConfig(vision_config=recipe.vision, text_config=recipe.text, image_token_id=image)
    return PageReader(config, seed=recipe.joint.seed)


def load_parts(reader: PageReader, folder: Path) -> bool:
    """Load what a folder keeps of this stage, else of the two before; whether the projector is learned already.

    Raises:
        WeightsError: neither, or weights of another shape.
    """
    inner = reader.model.model
    try:
        if (folder / KEPT).is_file():
            reader.load_state_dict(_read(folder / KEPT))
            return True
        encoder, page_lm = _read(folder / pipeline.KEPT), _read(folder / page_lm_pipeline.KEPT)
        inner.vision_tower.load_state_dict(_part(encoder, "encoder."))
        inner.language_model.load_state_dict(_part(page_lm, "decoder."))
        reader.slot_tokens.load_state_dict(_part(page_lm, "slot_tokens."))
    except (OSError, RuntimeError) as error:
        text = " ".join(str(error).split())[:200]
        raise WeightsError(f"{folder} lacks weights of stages 1 and 2 ({text}); train and keep them first") from error
    return False


def _read(path: Path) -> dict[str, Tensor]:
    return {name: value.float() for name, value in load_file(path).items()}


def _part(weights: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {k.removeprefix(prefix): v for k, v in weights.items() if k.startswith(prefix)}


def run_page_reading(
    recipe: PagesRecipe, init_from: Path, cache: Path, *, watch: Callable[[StepReport], Any] | None = None
) -> PageReader:
    """Train stage 3 on the pages of a cache, or go on with it.

    Args:
        init_from: folder of the weights of stages 1 and 2, or of this one.
    """
    reader = build_reader(recipe)
    assert recipe.joint is not None
    out = cache / pipeline.RUN
    first = pipeline.note_start(out, PageReadingTask.name, init_from)
    task = PageReadingTask(replace(recipe.page_reading, first=first), pipeline.training_pages(cache), reader)
    if not (out / f"{task.name}.pt").is_file() and not load_parts(reader, init_from):
        _fit(task, out / FITTED)
    train(task, recipe.joint, out, watch=watch)
    reader.tie()
    return reader


def _fit(task: PageReadingTask, path: Path) -> None:
    if path.is_file():
        task.model.load_state_dict(torch.load(path, weights_only=True))
        return
    named = fit_projector(task)
    print(f"projector fitted: {named:.3f} of the characters named", flush=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(task.model.state_dict(), path)


def averaged_reader(recipe: PagesRecipe, cache: Path) -> tuple[PageReader, dict[str, Any]]:
    """The reader of a run with its averaged weights, and how far the run was."""
    reader = build_reader(recipe)
    counts = pipeline.load_averaged(reader, cache / pipeline.RUN / f"{PageReadingTask.name}.pt")
    reader.tie()
    return reader, counts


def keep_page_reading(recipe: PagesRecipe, cache: Path, folder: Path) -> None:
    """Write the averaged weights of stage 3 in float16 and notes beside them."""
    reader, counts = averaged_reader(recipe, cache)
    assert recipe.joint is not None
    pipeline.save_weights(reader, folder / KEPT)
    loop = {"muon_lr": recipe.joint.muon_lr, "adam_lr": recipe.joint.adam_lr}
    notes = pipeline.run_notes(recipe, cache, PageReadingTask.name, counts)
    pipeline.add_notes(folder, notes | {"images": counts["examples"]} | loop)


def export_reader(recipe: PagesRecipe, cache: Path, folder: Path) -> None:
    """Write the averaged weights of stage 3 as a model folder that loads like any other."""
    reader, counts = averaged_reader(recipe, cache)
    notes = pipeline.run_notes(recipe, cache, PageReadingTask.name, counts)
    export(
        reader.model,
        reader.slot_tokens,
        folder,
        hd=recipe.hd,
        training=notes,
        stored=torch.float16,
        tokenizer=page_tokenizer(),
    )


__all__ = ["build_reader", "export_reader", "keep_page_reading", "load_parts", "run_page_reading"]
