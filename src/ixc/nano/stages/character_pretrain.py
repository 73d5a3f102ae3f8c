"""The vision tower learns to see letters: every 14-px patch names the characters whose centre lies in it.

A thousand labels an image and no alignment to find (dense supervision). The linear head is dropped afterwards. The
tower sees windows of 12 x 12 patches at random places of the position table: a quarter of the cost of a tile.

    lines of text -> canvas (drawn, perhaps resized) -> 168-px windows -> VisionTower -> head -> characters a patch

Shapes: N windows, P = 144 patches of a window, R = RANKS, K = 96 codes (0 = nothing), C width.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.random import Generator
from torch import Tensor, nn
from torch.nn import functional as F

from ixc.model.configuration import IxcVisionConfig
from ixc.model.vision import VisionTower
from ixc.nano import bf16_cpu, state
from ixc.nano.data.character_images import CANVAS, LETTERING, TextImageConfig, page_canvas, text_canvas
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
class VisionPretrainConfig:
    """Numbers of the dense pre-training."""

    vision: IxcVisionConfig
    seed: int = 3
    steps: int = 4300
    decay_from: int = 3300
    canvases: int = 12
    """Canvases a step; four windows are cut from each."""
    family: PageFamily = FAMILY
    lettering: TextImageConfig = LETTERING
    pages: float = 0.4
    """Share of canvases that are tiles of pages; the others are full of text, more labels each."""
    muon_lr: float = 0.02
    adam_lr: float = 2e-3
    blank: float = 0.3
    """Weight of the label `nothing`."""
    save_every: int = 200
    pace: float = 1.0
    """Seconds that a step is expected to take, for the time left."""


def window_labels(codes: np.ndarray, x: np.ndarray, y: np.ndarray, *, window: int = WINDOW) -> np.ndarray:
    """Characters at pixels of a window of so many patches a side -> (P, R) codes."""
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
    canvases: int,
    *,
    pages: float = 0.4,
    family: PageFamily = FAMILY,
    lettering: TextImageConfig = LETTERING,
) -> tuple[Tensor, Tensor, Tensor]:
    """Four windows from each canvas: pixels (N, 3, 168, 168) normalised, places (N, P), labels (N, P, R)."""
    side, pixels, places, labels = WINDOW * PATCH, [], [], []
    for _ in range(canvases):
        is_page = rng.random() < pages
        image, codes, x, y = page_canvas(rng, family) if is_page else text_canvas(rng, family, lettering)
        for _ in range(4):
            left, top = (int(v) for v in rng.integers(0, CANVAS - side + 1, size=2))
            pixels.append(image[top : top + side, left : left + side])
            labels.append(window_labels(codes, x - left, y - top))
            row, column = (int(v) for v in rng.integers(0, 24 - WINDOW + 1, size=2))
            places.append(((np.arange(WINDOW) + row)[:, None] * 24 + np.arange(WINDOW) + column).reshape(-1))
    x = torch.from_numpy(np.stack(pixels)).permute(0, 3, 1, 2).float() / 255
    return (x - MEAN) / DEVIATION, torch.from_numpy(np.stack(places)), torch.from_numpy(np.stack(labels))


def sincos(side: int, width: int) -> Tensor:
    """Sine-cosine positions of a square grid: (side * side, width), amplitude 1."""
    quarter = width // 4
    frequency = 1 / 100 ** (torch.arange(quarter) / quarter)
    angle = torch.arange(side)[:, None] * frequency
    axis = torch.cat([angle.sin(), angle.cos()], 1)  # (side, width / 2)
    rows, columns = axis[:, None].expand(-1, side, -1), axis[None].expand(side, -1, -1)
    return torch.cat([rows, columns], -1).reshape(side * side, width)


@torch.no_grad()
def prepare(tower: VisionTower, *, seed: int, pixels: Tensor | None = None) -> None:
    """Whitened patches (principal components, randomly rotated) and sine-cosine positions; silent residual branches.

    Args:
        pixels: (N, 3, S, S) normalised, pictures of the kind that will be seen; None = windows of this stage.
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
    """Blocks as they begin: unit-variance maps, residual branches that add nothing."""
    width = tower.config.hidden_size
    for layer in tower.encoder.layers:
        for linear in (layer.self_attn.q_proj, layer.self_attn.k_proj, layer.self_attn.v_proj, layer.mlp.fc1):
            nn.init.normal_(linear.weight, std=width**-0.5, generator=generator)
        nn.init.zeros_(layer.self_attn.out_proj.weight)
        nn.init.zeros_(layer.mlp.fc2.weight)


class CharacterClassifier(nn.Module):
    """The tower and its throw-away head."""

    def __init__(self, config: IxcVisionConfig, *, seed: int, pixels: Tensor | None = None) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.tower = VisionTower(config)
        self.norm = nn.LayerNorm(config.hidden_size)
        self.head = nn.Linear(config.hidden_size, RANKS * CODES)
        prepare(self.tower, seed=seed, pixels=pixels)

    def forward(self, pixels: Tensor, places: Tensor | None) -> Tensor:
        """Windows (N, 3, 168, 168) -> logits (N, P, R, K)."""
        with bf16_cpu.eyes(self.tower):
            seen = self.tower(pixels, window=places)
        return self.head(self.norm(seen)).unflatten(-1, (RANKS, CODES))


def batch(recipe: VisionPretrainConfig, *numbers: int, canvases: int) -> tuple[Tensor, Tensor, Tensor]:
    """`window_batch` of a recipe, drawn from its seed and further numbers."""
    rng = np.random.default_rng([recipe.seed, *numbers])
    return window_batch(rng, canvases, pages=recipe.pages, family=recipe.family, lettering=recipe.lettering)


def run(recipe: VisionPretrainConfig, out: Path, *, watch: Watch | None = None) -> CharacterClassifier:
    """Train, or go on from `out/sight.pt`."""
    spotter = CharacterClassifier(
        recipe.vision, seed=recipe.seed, pixels=batch(recipe, 1, canvases=2 * recipe.canvases)[0]
    )
    optims = optimisers(spotter, spotter.tower.encoder.layers, muon_lr=recipe.muon_lr, adam_lr=recipe.adam_lr)
    set_rate(optims, 1.0)
    step, path, means = 0, out / "sight.pt", {}
    if (saved := state.load(path)) is not None:
        spotter.load_state_dict(saved["spotter"])
        for optim, kept in zip(optims, saved["optims"], strict=True):
            optim.load_state_dict(kept)
        step, means = saved["step"], {"characters": saved["accuracy"]}
    tell = StageLog("sight", recipe.steps, out, watch)
    while step < recipe.steps:
        pixels, places, labels = batch(recipe, 2, step, canvases=recipe.canvases)
        loss, right = spot(spotter, pixels, places, labels, blank=recipe.blank)
        set_rate(optims, rate_at(step, steps=recipe.steps, decay_from=recipe.decay_from))
        for optim in optims:
            optim.step()
            optim.zero_grad(set_to_none=True)
        step += 1
        running(means, "characters", right)
        tell(step, loss=loss, tokens=labels.shape[0] * labels.shape[1] // 4, scores=means)
        if step % recipe.save_every == 0 or step == recipe.steps:
            weights, optimised = spotter.state_dict(), [o.state_dict() for o in optims]
            state.save({"spotter": weights, "optims": optimised, "step": step, "accuracy": means["characters"]}, path)
    return spotter


def spot(
    spotter: CharacterClassifier, pixels: Tensor, places: Tensor, labels: Tensor, *, blank: float
) -> tuple[float, float]:
    """Gradients of one step -> loss, share of characters named rightly."""
    weight = torch.ones(CODES)
    weight[0] = blank
    logits = spotter(pixels, places)
    loss = F.cross_entropy(logits.flatten(0, 2), labels.flatten(), weight=weight)
    loss.backward()
    nn.utils.clip_grad_norm_(spotter.parameters(), 1.0)
    return loss.item(), (logits.argmax(-1) == labels)[labels > 0].float().mean().item()
