"""Stage 1: the vision encoder names every character of a window (dense supervision of each 14-px patch).

    window (336 px) -> four quarters of 168 px, wear -> VisionTower -> norm, linear head -> 4 characters a patch

A quarter of a tile costs less than a quarter of it, because attention is shorter; each stands at a random place of the
position table, so whole tiles work as well. The head is dropped where the encoder goes on into the language model.

Shapes: N quarters, P = 144 patches, 4 slots a patch, K classes of the alphabet.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from io import BytesIO
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageFilter
from torch import Tensor, nn
from torch.nn import functional as F

from ixc.errors import DataError
from ixc.model.configuration import IxcVisionConfig
from ixc.model.vision import VisionTower
from ixc.nano import bf16_cpu
from ixc.nano.data.alphabet import CLASSES
from ixc.nano.data.window_shards import COUNT, read_shard
from ixc.nano.data.windows import IGNORED, PATCH, SIDE, SLOTS, Window, window_labels
from ixc.nano.loop import StepResult
from ixc.nano.stages.character_pretrain import DEVIATION, MEAN

QUARTER = SIDE // 2
PATCHES = QUARTER // PATCH
TABLE = SIDE // PATCH
"""Patches of a side of a tile: the position table."""


@dataclass(frozen=True, kw_only=True)
class WearConfig:
    """Random changes of a picture, so that the same window is never seen twice."""

    inverted: float = 0.08
    coloured: float = 0.15
    """Share of grey windows whose ink and paper get colours."""
    noise: float = 0.2
    blurred: float = 0.12
    jpeg: float = 0.12


@dataclass(frozen=True, kw_only=True)
class VisionPretrainConfig:
    """What the stage sees in a step."""

    shards: Path
    """Folder of window shards."""
    seed: int = 0
    first: int = 0
    """Steps of earlier runs: windows go on behind theirs."""
    windows: int = 12
    """Windows a step; each gives four quarters."""
    blank: float = 0.3
    """Weight of an empty slot in the loss."""
    sparse: float = 3.0
    """Most that a character counts in a quarter with few of them, so that large type is learned too."""
    wear: WearConfig = field(default_factory=WearConfig)


class CharacterClassifier(nn.Module):
    """The vision encoder and a linear head that names characters."""

    def __init__(self, config: IxcVisionConfig, *, seed: int = 0) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.encoder = VisionTower(config)
        self.norm = nn.LayerNorm(config.hidden_size)
        self.head = nn.Linear(config.hidden_size, SLOTS * CLASSES)

    def forward(self, pixels: Tensor, places: Tensor | None = None) -> Tensor:
        """(N, 3, S, S) normalised, (N, P) places in the position table or None for whole tiles -> (N, P, 4, K)."""
        with bf16_cpu.tower_attention(self.encoder):
            features = self.encoder(pixels, window=places)
        return self.head(self.norm(features)).unflatten(-1, (SLOTS, CLASSES))


class VisionPretrain:
    """The stage as a task of the training loop."""

    name = "vision_pretrain"

    def __init__(self, config: VisionPretrainConfig, model: CharacterClassifier) -> None:
        self.config, self.model = config, model

    def blocks(self) -> nn.Module:
        """Transformer blocks of the encoder."""
        return self.model.encoder.encoder

    def step(self, number: int) -> StepResult:
        """Cross entropy of all slots of the step's quarters."""
        pixels, places, labels = quarter_batch(self.config, self.config.first + number)
        logits = self.model(pixels, places)
        loss, named = character_loss(logits, labels, blank=self.config.blank, sparse=self.config.sparse)
        return StepResult(loss=loss, examples=self.config.windows, scores={"characters": named})


def character_loss(logits: Tensor, labels: Tensor, *, blank: float, sparse: float) -> tuple[Tensor, float]:
    """Weighted cross entropy of (N, P, 4, K) against (N, P, 4), and the share of characters named rightly."""
    filled = labels > 0
    count = filled.flatten(1).sum(1).clamp(min=1)
    weight = torch.where(filled, (40 / count).clamp(1, sparse)[:, None, None], blank) * (labels != IGNORED)
    losses = F.cross_entropy(logits.flatten(0, 2), labels.clamp(min=0).flatten(), reduction="none")
    loss = (losses * weight.flatten()).sum() / weight.sum().clamp(min=1)
    right = (logits.argmax(-1) == labels)[filled]
    return loss, right.float().mean().item() if len(right) else 0.0


def quarter_batch(config: VisionPretrainConfig, step: int) -> tuple[Tensor, Tensor, Tensor]:
    """Quarters of a step's windows: pixels (N, 3, 168, 168), places (N, P), labels (N, P, 4).

    Windows are taken in the order of the shards; when all have been seen they come again, with other wear.
    """
    rng = np.random.default_rng([config.seed, step])
    pixels, places, labels = [], [], []
    for window in _windows_of(config, step):
        picture = worn(window.picture, rng, config.wear)
        for top in (0, QUARTER):
            for left in (0, QUARTER):
                pixels.append(picture[top : top + QUARTER, left : left + QUARTER])
                labels.append(window_labels(window.classes, window.x - left, window.y - top, side=QUARTER)[0])
                places.append(_random_places(rng))
    return normalised(np.stack(pixels)), torch.from_numpy(np.stack(places)), torch.from_numpy(np.stack(labels))


def normalised(pixels: np.ndarray) -> Tensor:
    """(N, S, S, 3) uint8 -> (N, 3, S, S) float32 as the encoder takes them."""
    return (torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255 - MEAN) / DEVIATION


def _random_places(rng: np.random.Generator) -> np.ndarray:
    row, column = (int(v) for v in rng.integers(0, TABLE - PATCHES + 1, size=2))
    return ((np.arange(PATCHES) + row)[:, None] * TABLE + np.arange(PATCHES) + column).reshape(-1)


def _windows_of(config: VisionPretrainConfig, step: int) -> Sequence[Window]:
    """Windows number `step * windows` and following."""
    first = step * config.windows
    found = []
    for number in range(first, first + config.windows):
        shard, place = divmod(number, COUNT)
        found.append(_shard(config.shards, shard)[place])
    return found


def _shard(folder: Path, number: int) -> list[Window]:
    """The shard of a number; where there are not so many yet, an earlier one again."""
    path = folder / f"{number:05d}.npz"
    if not path.exists():
        count = len(list(folder.glob("[0-9]" * 5 + ".npz")))
        if not count:
            raise DataError(f"0 shards of windows in {folder}; build them first (recipes/nano_pages.py windows)")
        path = folder / f"{number % count:05d}.npz"
    return _loaded(path)


@lru_cache(maxsize=2)
def _loaded(path: Path) -> list[Window]:
    return read_shard(path)


def worn(picture: np.ndarray, rng: np.random.Generator, config: WearConfig) -> np.ndarray:
    """(S, S) or (S, S, 3) uint8 -> (S, S, 3) uint8 with colours, noise, blur and JPEG by chance."""
    if picture.ndim == 2:
        picture = _in_colours(picture, rng) if rng.random() < config.coloured else np.stack([picture] * 3, -1)
    if rng.random() < config.inverted:
        picture = 255 - picture
    if rng.random() < config.blurred:
        picture = np.asarray(Image.fromarray(picture).filter(ImageFilter.GaussianBlur(float(rng.uniform(0.3, 1.1)))))
    if rng.random() < config.noise:
        noise = rng.normal(0, rng.uniform(2, 16), size=picture.shape)
        picture = np.clip(picture + noise, 0, 255).astype(np.uint8)
    if rng.random() < config.jpeg:
        file = BytesIO()
        Image.fromarray(picture).save(file, "JPEG", quality=int(rng.integers(25, 90)))
        picture = np.asarray(Image.open(file))
    return picture


def _in_colours(grey: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Black becomes a dark colour, white a light one."""
    ink, paper = rng.uniform(0, 110, size=3), rng.uniform(150, 255, size=3)
    share = grey[..., None].astype(np.float32) / 255
    return (ink + (paper - ink) * share).astype(np.uint8)


__all__ = ["CharacterClassifier", "VisionPretrain", "VisionPretrainConfig", "character_loss", "quarter_batch"]
