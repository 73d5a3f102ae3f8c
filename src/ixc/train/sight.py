"""The vision tower learns to see letters: every 14-px patch names the characters whose centre lies in it.

A thousand labels an image and no alignment to find (dense supervision). The linear head is dropped afterwards. The
tower sees windows of 12 x 12 patches at random places of the position table: a quarter of the cost of a tile.

    lines of text -> canvas (drawn, perhaps resized) -> 168-px windows -> VisionTower -> head -> characters a patch

Shapes: N windows, P = 144 patches of a window, R = RANKS, K = 96 codes (0 = nothing), C width.
"""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.random import Generator
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F

from ixc.data.synth import fonts, values
from ixc.data.synth.compose import colours, compose
from ixc.data.synth.page import SPACE, Page, Text, characters
from ixc.data.synth.paint import paint
from ixc.model.config import IxcVisionConfig
from ixc.model.vision import VisionTower
from ixc.processing.picture import resize_to_canvas
from ixc.train import state
from ixc.train.language import optimisers, rate_at, set_rate
from ixc.train.symbols import PATCH, RANKS, ranks, seen_by

log = logging.getLogger(__name__)
CODES = SPACE + 1
WINDOW = 12  # patches
CANVAS = 336
PAGES = 0.4  # share of canvases that are pages of the family; the others are full of text, more labels each
MEAN = torch.tensor((0.48145466, 0.4578275, 0.40821073)).view(1, 3, 1, 1)  # CLIP, spec (a) 9
DEVIATION = torch.tensor((0.26862954, 0.26130258, 0.27577711)).view(1, 3, 1, 1)


@dataclass(frozen=True, kw_only=True)
class SightRecipe:
    """Numbers of the dense pre-training."""

    vision: IxcVisionConfig
    seed: int = 3
    steps: int = 4300
    decay_from: int = 3300
    canvases: int = 12
    """Canvases a step; four windows are cut from each."""
    muon_lr: float = 0.02
    adam_lr: float = 2e-3
    blank: float = 0.3
    """Weight of the label `nothing`."""
    save_every: int = 200


def line_of_text(rng: Generator, length: int) -> str:
    """Values, words and scrambled characters up to a length."""
    line = ""
    while len(line) < length:
        r = rng.random()
        piece = values.scramble(rng) if r < 0.08 else values.key(rng) if r < 0.35 else values.value(rng)
        line += piece + (":" if rng.random() < 0.1 else "") + " " * int(rng.integers(1, 3))
    return line


def page_canvas(rng: Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """A tile of a page of the family, white padding and all; the same outputs as `text_canvas`."""
    hd = 1 if rng.random() < 0.6 else 4
    page = compose(int(rng.integers(1 << 39)), hd=hd)
    place, codes, x, y, _ = seen_by(page, hd=hd)
    canvas = resize_to_canvas(paint(page), partition=place)
    left, top = (CANVAS * int(rng.integers(n)) for n in (place.grid_w, place.grid_h))
    return canvas[top : top + CANVAS, left : left + CANVAS], codes, x - left, y - top


def text_canvas(rng: Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """A canvas full of text: pixels (336, 336, 3) uint8, codes, x, y of its characters in canvas pixels."""
    seen = float(np.clip(np.exp(rng.normal(np.log(27), 0.15)), 18, 38))
    if rng.random() < 0.12:
        seen = float(rng.uniform(26, 48))
    sx = sy = float(np.exp(rng.uniform(np.log(0.6), 0.0))) if rng.random() < 0.25 else 1.0
    if rng.random() < 0.06:
        sx *= float(rng.uniform(0.6, 1.0))
    size = max(8, round(seen / sy))
    names = fonts.FIRST_FONTS
    ink, paper = colours(rng)
    width, height = round(CANVAS / sx), round(CANVAS / sy)
    page = Page(kind="sight", width=width, height=height, font=names[rng.integers(len(names))], ink=ink, paper=paper)
    y = float(rng.uniform(0.2, 1.2)) * size
    while y < height + size * 0.3:
        x = int(rng.integers(-size, 2 * size))
        page.texts.append(
            Text(
                string=line_of_text(rng, int(2.4 * width / size)),
                x=x,
                y=round(y),
                size=size,
                bold=bool(rng.random() < 0.08),
            )
        )
        if rng.random() < 0.05:
            page.rules.append((0, round(y + size * 0.45), width, round(y + size * 0.45)))
        y += size * rng.uniform(1.1, 1.9)
    image = paint(page)
    if (width, height) != (CANVAS, CANVAS):
        image = image.resize((CANVAS, CANVAS), Image.Resampling.BILINEAR)
    codes, cx, cy = characters(page)
    return np.asarray(image), codes, cx * CANVAS / width, cy * CANVAS / height


def window_labels(codes: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Characters at window pixels -> (P, R) codes."""
    side = WINDOW * PATCH
    labels = np.zeros((WINDOW * WINDOW, RANKS), np.int64)
    inside = (x >= 0) & (y >= 0) & (x < side) & (y < side)
    codes, x, y = codes[inside], x[inside], y[inside]
    order = np.lexsort((x, y))
    codes, x, y = codes[order], x[order], y[order]
    patch = (y // PATCH).astype(np.int64) * WINDOW + (x // PATCH).astype(np.int64)
    rank = ranks(patch)
    kept = rank < RANKS
    labels[patch[kept], rank[kept]] = codes[kept]
    return labels


def window_batch(rng: Generator, canvases: int) -> tuple[Tensor, Tensor, Tensor]:
    """Four windows from each canvas: pixels (N, 3, 168, 168) normalised, places (N, P), labels (N, P, R)."""
    side, pixels, places, labels = WINDOW * PATCH, [], [], []
    for _ in range(canvases):
        image, codes, x, y = page_canvas(rng) if rng.random() < PAGES else text_canvas(rng)
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
def prepare(tower: VisionTower, *, seed: int) -> None:
    """Whitened patches (principal components, randomly rotated) and sine-cosine positions; silent residual branches."""
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
    embeddings.position_embedding.weight[1:] = 0.5 * sincos(24, width) - filters @ mean
    for layer in tower.encoder.layers:
        for linear in (layer.self_attn.q_proj, layer.self_attn.k_proj, layer.self_attn.v_proj, layer.mlp.fc1):
            nn.init.normal_(linear.weight, std=width**-0.5, generator=generator)
        nn.init.zeros_(layer.self_attn.out_proj.weight)
        nn.init.zeros_(layer.mlp.fc2.weight)


class Spotter(nn.Module):
    """The tower and its throw-away head."""

    def __init__(self, config: IxcVisionConfig, *, seed: int) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.tower = VisionTower(config)
        self.norm = nn.LayerNorm(config.hidden_size)
        self.head = nn.Linear(config.hidden_size, RANKS * CODES)
        prepare(self.tower, seed=seed)

    def forward(self, pixels: Tensor, places: Tensor | None) -> Tensor:
        """Windows (N, 3, 168, 168) -> logits (N, P, R, K)."""
        return self.head(self.norm(self.tower(pixels, window=places))).unflatten(-1, (RANKS, CODES))


def run(recipe: SightRecipe, out: Path, *, stop_after: float = float("inf")) -> Spotter:
    """Train, or go on from `out/sight.pt`. `stop_after` bounds this call in seconds."""
    spotter = Spotter(recipe.vision, seed=recipe.seed)
    optims = optimisers(spotter, spotter.tower.encoder.layers, muon_lr=recipe.muon_lr, adam_lr=recipe.adam_lr)
    set_rate(optims, 1.0)
    step, accuracy, path = 0, 0.0, out / "sight.pt"
    if (saved := state.load(path)) is not None:
        spotter.load_state_dict(saved["spotter"])
        for optim, kept in zip(optims, saved["optims"], strict=True):
            optim.load_state_dict(kept)
        step, accuracy = saved["step"], saved["accuracy"]
    weight = torch.ones(CODES)
    weight[0] = recipe.blank
    began, since = time.monotonic(), step
    while step < recipe.steps and time.monotonic() - began < stop_after:
        pixels, places, labels = window_batch(np.random.default_rng([recipe.seed, 2, step]), recipe.canvases)
        logits = spotter(pixels, places)
        loss = F.cross_entropy(logits.flatten(0, 2), labels.flatten(), weight=weight)
        loss.backward()
        nn.utils.clip_grad_norm_(spotter.parameters(), 1.0)
        set_rate(optims, rate_at(step, steps=recipe.steps, decay_from=recipe.decay_from))
        for optim in optims:
            optim.step()
            optim.zero_grad(set_to_none=True)
        step += 1
        right = (logits.argmax(-1) == labels)[labels > 0].float().mean().item()
        accuracy = right if step - since < 3 else 0.95 * accuracy + 0.05 * right
        if step % 50 == 0:
            pace = (time.monotonic() - began) / (step - since)
            log.info("step %d loss %.3f characters %.3f  %.3f s/step", step, loss.item(), accuracy, pace)
        if step % recipe.save_every == 0 or step == recipe.steps:
            state.save(
                {
                    "spotter": spotter.state_dict(),
                    "optims": [o.state_dict() for o in optims],
                    "step": step,
                    "accuracy": accuracy,
                },
                path,
            )
    return spotter
