"""From a recipe to trained parts of a model: packages, pages, windows, training, what is kept.

CACHE/packages --build_pages--> CACHE/train, CACHE/test; CACHE/train, fonts --build_typeset--> CACHE/typeset
    CACHE/train, CACHE/typeset --build_windows--> CACHE/shards
    stage 1: CACHE/shards --run--> CACHE/run/vision_pretrain.pt --keep--> encoder.safetensors
    stage 2: CACHE/train --run_page_lm--> CACHE/run/page_lm.pt --keep--> page_lm.safetensors
"""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from ixc.errors import WeightsError
from ixc.nano import state
from ixc.nano.config import PagesRecipe
from ixc.nano.data.debian_packages import fetch
from ixc.nano.data.page_folder import read_index, write_pages
from ixc.nano.data.pdf_sources import find_documents, read_keep_out
from ixc.nano.data.text_images import find_fonts
from ixc.nano.data.typeset.folder import Typesetter, text_of_pages, write_typeset
from ixc.nano.data.window_shards import write_shards
from ixc.nano.growth import doubled_encoder
from ixc.nano.loop import StepReport, train
from ixc.nano.stages.vision_pretrain import CharacterClassifier, VisionPretrain, VisionPretrainConfig
from ixc.utils.files import atomic_file, atomic_write

PACKAGES, TRAIN, TYPESET, TEST, SHARDS, RUN = "packages", "train", "typeset", "test", "shards", "run"
"""Folders of a cache."""
KEPT, NOTES = "encoder.safetensors", "training.json"
"""What is kept of a stage: weights in float16, and how they were made."""
PUBLISHED = "vit.vision_tower.vision_model."
"""What the names of the encoder's weights begin with in a model folder."""


def fetch_packages(recipe: PagesRecipe, cache: Path) -> int:
    """Download and unpack the recipe's packages; the number of new ones."""
    split = recipe.packages
    wanted = split.train | split.test | split.fonts
    return sum(fetch(name, version, cache / PACKAGES) for name, version in wanted.items())


def build_pages(recipe: PagesRecipe, cache: Path) -> int:
    """Pages of the training and of the test packages, each in a folder of its own; the number of new ones."""
    split, count = recipe.packages, 0
    keep_out = read_keep_out(split.keep_out) if split.keep_out else None
    for name, wanted, config in ((TEST, split.test, recipe.test_pages), (TRAIN, split.train, recipe.train_pages)):
        sources = [cache / PACKAGES / package for package in wanted]
        documents = find_documents(sources, keep_out)
        count += sum(outcome.pages for outcome in write_pages(documents, cache / name, config))
    return count


def build_typeset(recipe: PagesRecipe, cache: Path, *, count: int) -> int:
    """So many files of typeset pages, with the words of the training pages; the number of new pages."""
    typesetter = Typesetter(font_folders(recipe, cache))
    text = text_of_pages(cache / TRAIN)
    made = write_typeset(cache / TYPESET, count, recipe.typeset, typesetter=typesetter, text=text)
    return sum(outcome.pages for outcome in made)


def font_folders(recipe: PagesRecipe, cache: Path) -> tuple[Path, ...]:
    """Folders of the font packages that are there."""
    folders = (cache / PACKAGES / package for package in recipe.packages.fonts)
    return tuple(folder for folder in folders if folder.is_dir())


def training_pages(cache: Path) -> list[Path]:
    """Folders of pages that a cache trains on."""
    return [folder for folder in (cache / TRAIN, cache / TYPESET) if read_index(folder)]


def build_windows(recipe: PagesRecipe, cache: Path, *, count: int) -> int:
    """Shards of windows from the pages that are there by now; the number of new ones."""
    fonts = find_fonts(font_folders(recipe, cache))
    return sum(1 for _ in write_shards(cache / SHARDS, training_pages(cache), fonts, recipe.shards, count=count))


def build_classifier(recipe: PagesRecipe) -> CharacterClassifier:
    """The model of stage 1 as training begins."""
    model = CharacterClassifier(recipe.vision, seed=recipe.loop.seed)
    if recipe.init_from is not None:
        load_initial(model, recipe.init_from, seed=recipe.loop.seed)
    return model


def load_initial(model: CharacterClassifier, source: Path, *, seed: int) -> None:
    """Weights of a model folder's vision encoder, or of a classifier written by `keep`.

    Raises:
        WeightsError: they do not fit.
    """
    try:
        if (source / KEPT).is_file():
            model.load_state_dict({k: v.float() for k, v in load_file(source / KEPT).items()})
            return
        found = load_file(source / "model.safetensors")
        weights = {k.removeprefix(PUBLISHED): v.float() for k, v in found.items() if k.startswith(PUBLISHED)}
        if 2 * weights["embeddings.class_embedding"].shape[0] == model.encoder.config.hidden_size:
            weights = doubled_encoder(weights, seed=seed)
        model.encoder.load_state_dict(weights)
    except (OSError, RuntimeError, KeyError) as error:
        text = " ".join(str(error).split())[:200]
        raise WeightsError(f"{source} holds no fitting vision encoder ({text}); name a model folder") from error


def run(
    recipe: PagesRecipe, shards: Path, out: Path, *, watch: Callable[[StepReport], Any] | None = None
) -> CharacterClassifier:
    """Train stage 1 on shards of windows, or go on with it."""
    config = VisionPretrainConfig(
        shards=shards,
        seed=recipe.loop.seed,
        windows=recipe.windows,
        blank=recipe.blank,
        sparse=recipe.sparse,
        first=note_start(out, VisionPretrain.name, recipe.init_from),
    )
    task = VisionPretrain(config, build_classifier(recipe))
    train(task, recipe.loop, out, watch=watch)
    return task.model


def began_file(stage: str) -> str:
    """File in the folder of a run: when the stage began, and from what."""
    return "began.json" if stage == VisionPretrain.name else f"{stage}_began.json"


def note_start(out: Path, stage: str, init_from: Path | None) -> int:
    """Note when a run begins and from what, unless it has begun; the steps of the stage's runs before it.

    `keep` replaces what it kept of the same run before. A run's data goes on behind that of the runs before.
    """
    path = out / began_file(stage)
    if not path.is_file():
        out.mkdir(parents=True, exist_ok=True)
        began = datetime.now(UTC).isoformat(timespec="seconds")
        earlier = earlier_steps(init_from, stage) if init_from else 0
        notes = {"began": began, "init_from": init_from.name if init_from else "", "earlier_steps": earlier}
        path.write_text(json.dumps(notes))
    return json.loads(path.read_text()).get("earlier_steps", 0)


def earlier_steps(folder: Path, stage: str) -> int:
    """Steps of a stage's runs whose weights a folder keeps."""
    path = folder / NOTES
    runs = json.loads(path.read_text())["runs"] if path.is_file() else []
    return sum(run["steps"] for run in runs if run.get("stage", VisionPretrain.name) == stage)


def averaged(recipe: PagesRecipe, path: Path) -> tuple[CharacterClassifier, dict[str, Any]]:
    """The classifier of a state file with its averaged weights; how far the run was, with its running means.

    Raises:
        WeightsError: no state there.
    """
    model = CharacterClassifier(recipe.vision)
    return model, load_averaged(model, path)


def load_averaged(model: nn.Module, path: Path) -> dict[str, Any]:
    """Load the averaged weights of a state file into a model; how far the run was, with its running means.

    Raises:
        WeightsError: no state there.
    """
    saved = state.load(path)
    if saved is None:
        raise WeightsError(f"no training state {path}; train first")
    model.load_state_dict(saved["average"] or saved["model"])
    model.eval()
    return saved["run"] | {"scores": saved["means"]}


def keep(recipe: PagesRecipe, cache: Path, folder: Path) -> None:
    """Write the averaged weights of stage 1 in float16 and notes beside them.

    The optimizer's state is not kept: a run that begins from the kept weights warms up again (`LoopConfig.warmup`).
    """
    model, counts = averaged(recipe, cache / RUN / f"{VisionPretrain.name}.pt")
    save_weights(model, folder / KEPT)
    made = run_notes(recipe, cache, VisionPretrain.name, counts) | {
        "windows": counts["examples"],
        "fonts": recipe.packages.fonts,
        "muon_lr": recipe.loop.muon_lr,
        "adam_lr": recipe.loop.adam_lr,
        "windows_a_step": recipe.windows,
    }
    add_notes(folder, made)


def save_weights(model: nn.Module, path: Path) -> None:
    """The weights of a model in float16, in one piece."""
    path.parent.mkdir(parents=True, exist_ok=True)
    weights: dict[str, Tensor] = {k: v.to(torch.float16).contiguous() for k, v in model.state_dict().items()}
    with atomic_file(path) as draft:
        save_file(weights, draft)


def add_notes(folder: Path, made: dict[str, Any]) -> None:
    """Enter a run into the notes of a folder; a run's notes replace its own older ones."""
    path = folder / NOTES
    before = json.loads(path.read_text())["runs"] if path.is_file() else []
    notes = {"runs": [*(one for one in before if one["began"] != made["began"]), made]}
    atomic_write(path, json.dumps(notes, indent=1, ensure_ascii=False) + "\n")


def run_notes(recipe: PagesRecipe, cache: Path, stage: str, counts: dict[str, Any]) -> dict[str, Any]:
    """How a run's weights were made."""
    index = [outcome for folder in training_pages(cache) for outcome in read_index(folder)]
    return json.loads((cache / RUN / began_file(stage)).read_text()) | {
        "stage": stage,
        "steps": counts["step"],
        "cpu_seconds": round(counts["cpu_seconds"]),
        "running_means": {name: round(value, 4) for name, value in counts["scores"].items()},
        "documents": sum(outcome.pages > 0 for outcome in index),
        "pages": sum(outcome.pages for outcome in index),
        "packages": recipe.packages.train,
    }
