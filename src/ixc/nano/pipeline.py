"""From a recipe to a trained vision encoder: what is begun from, what is learned, what is kept.

    init_from or kept state -> CharacterClassifier -> nano.loop -> OUT/vision_pretrain.pt -> kept.safetensors
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from ixc.errors import WeightsError
from ixc.nano.config import PagesRecipe
from ixc.nano.growth import doubled_encoder
from ixc.nano.loop import StepReport, train
from ixc.nano.stages.vision_pretrain import CharacterClassifier, VisionPretrain, VisionPretrainConfig
from ixc.train import state

KEPT = "encoder.safetensors"
"""The kept weights of a stage."""
PUBLISHED = "vit.vision_tower.vision_model."
"""What the names of the encoder's weights begin with in a model folder."""


def build_classifier(recipe: PagesRecipe) -> CharacterClassifier:
    """The model of stage 1 as training begins."""
    model = CharacterClassifier(recipe.vision, seed=recipe.loop.seed)
    if recipe.init_from is not None:
        load_initial(model, recipe.init_from, seed=recipe.loop.seed)
    return model


def load_initial(model: CharacterClassifier, source: Path, *, seed: int) -> None:
    """Weights of a model folder's vision encoder, or of a classifier kept by `keep`.

    Raises:
        WeightsError: they do not fit.
    """
    try:
        if (source / KEPT).is_file():
            model.load_state_dict({k: v.float() for k, v in load_file(source / KEPT).items()})
            return
        found = load_file(source / "model.safetensors")
        weights = {k.removeprefix(PUBLISHED): v.float() for k, v in found.items() if k.startswith(PUBLISHED)}
        narrow = next(v.shape[0] for k, v in weights.items() if k.endswith("class_embedding"))
        if 2 * narrow == model.encoder.config.hidden_size:
            weights = doubled_encoder(weights, seed=seed)
        model.encoder.load_state_dict(weights)
    except (OSError, RuntimeError, StopIteration) as error:
        text = " ".join(str(error).split())[:200]
        raise WeightsError(f"{source} holds no fitting vision encoder ({text}); name a model folder") from error


def run(
    recipe: PagesRecipe, shards: Path, out: Path, *, watch: Callable[[StepReport], Any] | None = None
) -> CharacterClassifier:
    """Train stage 1 on shards of windows, or go on with it."""
    config = VisionPretrainConfig(
        shards=shards, seed=recipe.loop.seed, windows=recipe.windows, blank=recipe.blank, sparse=recipe.sparse
    )
    task = VisionPretrain(config, build_classifier(recipe))
    train(task, recipe.loop, out, watch=watch)
    return task.model


def averaged(recipe: PagesRecipe, path: Path) -> tuple[CharacterClassifier, dict[str, Any]]:
    """The classifier of a state file with its averaged weights, and how far the run was.

    Raises:
        WeightsError: no state there.
    """
    saved = state.load(path)
    if saved is None:
        raise WeightsError(f"no training state {path}; train first")
    model = CharacterClassifier(recipe.vision)
    model.load_state_dict(saved["average"] or saved["model"])
    return model.eval(), saved["run"]


def keep(recipe: PagesRecipe, path: Path, folder: Path, notes: dict[str, Any]) -> None:
    """Write the averaged weights of a state in float16, and notes beside them; both replace older ones whole."""
    model, run_notes = averaged(recipe, path)
    folder.mkdir(parents=True, exist_ok=True)
    weights: dict[str, Tensor] = {k: v.to(torch.float16).contiguous() for k, v in model.state_dict().items()}
    beside = folder / f".{KEPT}.partial"
    save_file(weights, beside)
    os.replace(beside, folder / KEPT)
    (folder / "training.json").write_text(json.dumps(run_notes | notes, indent=1, ensure_ascii=False) + "\n")
