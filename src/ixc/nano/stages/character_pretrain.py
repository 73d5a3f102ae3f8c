"""Character pre-training: the vision tower classifies, for every 14-px patch, the characters centred in it.

The supervision is dense, a thousand labels an image. The linear head is dropped afterwards. The tower encodes windows
of 12 x 12 patches at random positions of its position table, a quarter of the cost of a tile.

    lines of text -> image (drawn, perhaps resized) -> 168-px windows -> VisionTower -> head -> characters of a patch

Shapes: N windows, P = 144 patches of a window, R = RANKS, K = 96 codes (0 = nothing), C width.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
import torch
from numpy.random import Generator
from torch import Tensor, nn
from torch.nn import functional as F

from ixc.model.configuration import IxcVisionConfig
from ixc.model.vision import VisionBlock, VisionTower
from ixc.nano import bf16_cpu, state
from ixc.nano.data.character_images import IMAGE_SIDE, TEXT_IMAGES, CharacterImageConfig, page_image, text_image
from ixc.nano.data.glyph_tokens import PATCH, RANKS, ranks
from ixc.nano.stages.layout_lm import optimisers, rate_at, set_rate
from ixc.nano.step_report import StageLog, Watch, running
from ixc.synth.config import FAMILY, PageFamily
from ixc.synth.page import SPACE

CODES = SPACE + 1
WINDOW = 12  # patches
MEAN = torch.tensor((0.48145466, 0.4578275, 0.40821073)).view(1, 3, 1, 1)  # CLIP, spec (a) 9
DEVIATION = torch.tensor((0.26862954, 0.26130258, 0.27577711)).view(1, 3, 1, 1)


@dataclass(frozen=True, kw_only=True)
class CharacterPretrainConfig:
    """Options of the character pre-training."""

    vision: IxcVisionConfig
    seed: int = 3
    steps: int = 4300
    decay_from: int = 3300
    images: int = 12
    """Images a step; four windows are cut from each."""
    family: PageFamily = FAMILY
    text_images: CharacterImageConfig = TEXT_IMAGES
    pages: float = 0.4
    """Share of images that are tiles of pages; the others are filled with text and hold more labels."""
    muon_lr: float = 0.02
    adam_lr: float = 2e-3
    blank: float = 0.3
    """Weight of the class `no character`."""
    save_every: int = 200
    pace: float = 1.0
    """Expected seconds a step, for the estimate of the time left."""


def window_labels(codes: np.ndarray, x: np.ndarray, y: np.ndarray, *, window: int = WINDOW) -> np.ndarray:
    """Label the patches of a window, `window` patches a side, with the characters at pixels x, y: (P, R) codes."""
    side = window * PATCH
    labels = np.zeros((window * window, RANKS), np.int64)
    inside = (x >= 0) & (y >= 0) & (x < side) & (y < side)
    codes, x, y = codes[inside], x[inside], y[inside]
    order = np.lexsort((x, y))
    codes, x, y = codes[order], x[order], y[order]
    patch = (y // PATCH).astype(np.int64) * window + (x // PATCH).astype(np.int64)
    rank = ranks(patch)
    kept = rank < RANKS
    labels[patch[kept], rank[kept]] = codes[kept]
    return labels


def window_batch(
    rng: Generator,
    images: int,
    *,
    pages: float = 0.4,
    family: PageFamily = FAMILY,
    text_images: CharacterImageConfig = TEXT_IMAGES,
) -> tuple[Tensor, Tensor, Tensor]:
    """Cut four windows from each image: pixels (N, 3, 168, 168) normalised, places (N, P), labels (N, P, R)."""
    side, pixels, places, labels = WINDOW * PATCH, [], [], []
    for _ in range(images):
        is_page = rng.random() < pages
        image, codes, x, y = page_image(rng, family) if is_page else text_image(rng, family, text_images)
        for _ in range(4):
            left, top = (int(v) for v in rng.integers(0, IMAGE_SIDE - side + 1, size=2))
            pixels.append(image[top : top + side, left : left + side])
            labels.append(window_labels(codes, x - left, y - top))
            row, column = (int(v) for v in rng.integers(0, 24 - WINDOW + 1, size=2))
            places.append(((np.arange(WINDOW) + row)[:, None] * 24 + np.arange(WINDOW) + column).reshape(-1))
    x = torch.from_numpy(np.stack(pixels)).permute(0, 3, 1, 2).float() / 255
    return (x - MEAN) / DEVIATION, torch.from_numpy(np.stack(places)), torch.from_numpy(np.stack(labels))


def sincos(side: int, width: int) -> Tensor:
    """Sine-cosine position embeddings of a square grid: (side * side, width), amplitude 1."""
    quarter = width // 4
    frequency = 1 / 100 ** (torch.arange(quarter) / quarter)
    angle = torch.arange(side)[:, None] * frequency
    axis = torch.cat([angle.sin(), angle.cos()], 1)  # (side, width / 2)
    rows, columns = axis[:, None].expand(-1, side, -1), axis[None].expand(side, -1, -1)
    return torch.cat([rows, columns], -1).reshape(side * side, width)


@torch.no_grad()
def prepare(tower: VisionTower, *, seed: int, pixels: Tensor | None = None) -> None:
    """Initialise whitened patches (principal components, randomly rotated), sine-cosine positions and the blocks.

    Args:
        pixels: (N, 3, S, S) normalised, images of the kind that will be encoded; None = windows of this stage.
    """
    if pixels is None:
        pixels, _, _ = window_batch(np.random.default_rng([seed, 1]), 24)
    patches = F.unfold(pixels.mean(1, keepdim=True), PATCH, stride=PATCH).transpose(1, 2).reshape(-1, PATCH * PATCH)
    mean = patches.mean(0)
    _, s, v = torch.linalg.svd(patches - mean, full_matrices=False)
    width = tower.config.hidden_size
    power = s[:width] / len(patches) ** 0.5
    filters = v[:width] / (power + 0.05 * power[0])[:, None]
    generator = torch.Generator().manual_seed(seed)
    filters = torch.linalg.qr(torch.randn(width, width, generator=generator))[0] @ filters  # (C, 196)
    embeddings = tower.embeddings
    embeddings.patch_embedding.weight.copy_((filters / 3).view(width, 1, PATCH, PATCH).expand(-1, 3, -1, -1))
    embeddings.position_embedding.weight[1:] = 0.5 * sincos(tower.config.patches_per_side, width) - filters @ mean
    silence(tower, generator=generator)


@torch.no_grad()
def silence(tower: VisionTower, *, generator: torch.Generator | None = None) -> None:
    """Initialise the blocks: unit-variance maps, residual branches that add nothing."""
    width = tower.config.hidden_size
    for layer in (cast(VisionBlock, layer) for layer in tower.encoder.layers):
        for linear in (layer.self_attn.q_proj, layer.self_attn.k_proj, layer.self_attn.v_proj, layer.mlp.fc1):
            nn.init.normal_(linear.weight, std=width**-0.5, generator=generator)
        nn.init.zeros_(layer.self_attn.out_proj.weight)
        nn.init.zeros_(layer.mlp.fc2.weight)


class DrawnCharacterClassifier(nn.Module):
    """The vision tower with a linear head that is dropped after this stage."""

    def __init__(self, config: IxcVisionConfig, *, seed: int, pixels: Tensor | None = None) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.tower = VisionTower(config)
        self.norm = nn.LayerNorm(config.hidden_size)
        self.head = nn.Linear(config.hidden_size, RANKS * CODES)
        prepare(self.tower, seed=seed, pixels=pixels)

    def forward(self, pixels: Tensor, places: Tensor | None) -> Tensor:
        """Classify the patches of windows (N, 3, 168, 168): logits (N, P, R, K)."""
        with bf16_cpu.tower_attention(self.tower):
            features = self.tower(pixels, window=places)
        return self.head(self.norm(features)).unflatten(-1, (RANKS, CODES))


def batch(recipe: CharacterPretrainConfig, *numbers: int, images: int) -> tuple[Tensor, Tensor, Tensor]:
    """Draw `window_batch` of a recipe from its seed and further numbers."""
    rng = np.random.default_rng([recipe.seed, *numbers])
    return window_batch(rng, images, pages=recipe.pages, family=recipe.family, text_images=recipe.text_images)


def run(recipe: CharacterPretrainConfig, out: Path, *, watch: Watch | None = None) -> DrawnCharacterClassifier:
    """Train, or resume from `out/character_pretrain.pt`."""
    classifier = DrawnCharacterClassifier(
        recipe.vision, seed=recipe.seed, pixels=batch(recipe, 1, images=2 * recipe.images)[0]
    )
    optims = optimisers(classifier, classifier.tower.encoder.layers, muon_lr=recipe.muon_lr, adam_lr=recipe.adam_lr)
    set_rate(optims, 1.0)
    step, path, means = 0, out / "character_pretrain.pt", {}
    if (saved := state.load(path, old="sight.pt")) is not None:
        classifier.load_state_dict(saved["classifier"])
        for optim, kept in zip(optims, saved["optims"], strict=True):
            optim.load_state_dict(kept)
        step, means = saved["step"], {"characters": saved["accuracy"]}
    log = StageLog("character_pretrain", recipe.steps, out, watch)
    while step < recipe.steps:
        pixels, places, labels = batch(recipe, 2, step, images=recipe.images)
        loss, right = backward(classifier, pixels, places, labels, blank=recipe.blank)
        set_rate(optims, rate_at(step, steps=recipe.steps, decay_from=recipe.decay_from))
        for optim in optims:
            optim.step()
            optim.zero_grad(set_to_none=True)
        step += 1
        running(means, "characters", right)
        log(step, loss=loss, tokens=labels.shape[0] * labels.shape[1] // 4, scores=means)
        if step % recipe.save_every == 0 or step == recipe.steps:
            weights, optimised = classifier.state_dict(), [o.state_dict() for o in optims]
            state.save(
                {"classifier": weights, "optims": optimised, "step": step, "accuracy": means["characters"]}, path
            )
    return classifier


def backward(
    classifier: DrawnCharacterClassifier, pixels: Tensor, places: Tensor, labels: Tensor, *, blank: float
) -> tuple[float, float]:
    """Compute the gradients of one step; returns the loss and the share of characters recognised."""
    weight = torch.ones(CODES)
    weight[0] = blank
    logits = classifier(pixels, places)
    loss = F.cross_entropy(logits.flatten(0, 2), labels.flatten(), weight=weight)
    loss.backward()
    nn.utils.clip_grad_norm_(classifier.parameters(), 1.0)
    return loss.item(), (logits.argmax(-1) == labels)[labels > 0].float().mean().item()
