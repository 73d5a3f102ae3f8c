"""OCR alignment: vision tower and projector learn to produce glyph tokens, supervised at every token of a window.

    image -> windows -> VisionTower -> four patches a token -> vision_proj -> token (D)
    token, rotated back by each slot -> similarity to every character's embedding, or to none -> cross entropy

The readout is fixed: the language model's embeddings and the slots of `GlyphTokenEmbedding`. The projector learns to
produce what the language model was trained to read, and a thousand labels an image replace the ten of an answer.
Optionally the stage distils from the encoder's features at its start (`feature_distill_weight`).

Shapes: N windows, T = 36 tokens of a window, SLOTS places in a token, K = 95 characters and `no character`, D width.
"""

from __future__ import annotations

import math
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
import torch
from numpy.random import Generator
from torch import Tensor, nn
from torch.nn import functional as F

from ixc.core.tiling import TILE
from ixc.model.modeling import IxcForConditionalGeneration
from ixc.model.vision import VisionTower
from ixc.nano import bf16_cpu, state
from ixc.nano.data.character_images import (
    IMAGE_SIDE,
    TEXT_IMAGES,
    CharacterImageConfig,
    LabelledImage,
    page_image,
    text_image,
)
from ixc.nano.data.glyph_tokens import FIRST_ID, LEGIBLE, PATCH, SLOTS, GlyphTokenEmbedding, glyph_grid, seen_by
from ixc.nano.data_parallel import DataParallel
from ixc.nano.optim import Muon
from ixc.nano.stages.character_pretrain import DEVIATION, MEAN, WINDOW
from ixc.nano.stages.layout_lm import rate_at, set_rate
from ixc.nano.step_report import StageLog, Watch, running
from ixc.processing.canvas import resize_to_canvas
from ixc.synth.config import FAMILY, PageFamily
from ixc.synth.degradation import maybe_degraded
from ixc.synth.page import SPACE
from ixc.synth.page_sampling import compose
from ixc.synth.render import paint

TOKENS = WINDOW // 2  # tokens on a side of a window
CROWD = 40
"""Characters of a window that is filled with text."""
LEAST_SELF_SIMILARITY = 8.0
"""Smallest logit of a character for itself. Embeddings of smaller norm are scaled up to it, else no character would
stand out from 95 others and from `no character`."""


@dataclass(frozen=True, kw_only=True)
class OcrAlignmentConfig:
    """Options of the OCR alignment."""

    seed: int = 7
    steps: int = 2500
    decay_from: int = 1200
    data_parallel: int = 1
    """Replicas of a step: each draws its own images and has a core where there is one; gradients are averaged."""
    images: int = 12
    """Images a replica; four windows are cut from each."""
    family: PageFamily = FAMILY
    text_images: CharacterImageConfig = TEXT_IMAGES
    pages: float = 0.45
    """Share of images that are tiles of pages; the others are filled with text."""
    overviews: float = 0.1
    """Share of images that are overviews of pages of several tiles; illegible letters are labelled `no character`."""
    muon_lr: float = 0.012
    adam_lr: float = 1.2e-3
    blank: float = 0.3
    """Weight of the class `no character`."""
    sparse: float = 1.0
    """Largest weight of a character in a window that holds fewer than `CROWD`: else large letters, a few to a window,
    would hardly be learned beside small ones."""
    glyph_mse_weight: float = 0.02
    """Weight of the squared distance to the glyph tokens, which also trains the row vectors, newline and separator."""
    feature_distill_weight: float = 0.0
    """Weight of the squared distance to the tokens before the stage, relative to their square. It preserves what the
    language model has learned to read from tokens beyond their characters."""
    save_every: int = 100
    pace: float = 1.4
    """Expected seconds a step, for the estimate of the time left."""


@torch.no_grad()
def overview_image(rng: Generator, family: PageFamily = FAMILY) -> LabelledImage:
    """Draw the overview of a page of several tiles: pixels, and code, x, y of its legible characters."""
    hd = 4 if rng.random() < 0.5 else 9
    page = compose(int(rng.integers(1 << 39)), hd=hd, family=family)
    place, codes, x, y, sizes = seen_by(page, hd=hd)
    picture = maybe_degraded(paint(page), rng, family.degraded)
    canvas = torch.from_numpy(resize_to_canvas(picture, partition=place)).permute(2, 0, 1)[None].float()
    small = F.interpolate(canvas, size=(TILE, TILE), mode="bicubic", align_corners=False)  # as the model does
    shrunk = small[0].permute(1, 2, 0).clamp(0, 255).byte().numpy()
    legible = sizes * min(1 / place.grid_w, 1 / place.grid_h) >= LEGIBLE
    return shrunk, codes[legible], x[legible] / place.grid_w, y[legible] / place.grid_h


def _canvas(rng: Generator, recipe: OcrAlignmentConfig) -> LabelledImage:
    r = rng.random()
    if r < recipe.overviews:
        return overview_image(rng, recipe.family)
    if r < recipe.overviews + recipe.pages:
        return page_image(rng, recipe.family)
    return text_image(rng, recipe.family, recipe.text_images)


def windows(rng: Generator, recipe: OcrAlignmentConfig) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Pixels (N, 3, 168, 168) normalised, places (N, P), characters (N, T, SLOTS), rows (N, T, 2) bool."""
    side, pixels, places, chars, rows = WINDOW * PATCH, [], [], [], []
    for _ in range(recipe.images):
        image, codes, x, y = _canvas(rng, recipe)
        for _ in range(4):
            left, top = (int(v) for v in rng.integers(0, IMAGE_SIDE - side + 1, size=2))
            pixels.append(image[top : top + side, left : left + side])
            c, f = glyph_grid(codes, x - left, y - top, rows=TOKENS, columns=TOKENS)
            chars.append(c.reshape(-1, SLOTS))
            rows.append(f.reshape(-1, 2))
            row, column = (2 * int(v) for v in rng.integers(0, (24 - WINDOW) // 2 + 1, size=2))
            places.append(((np.arange(WINDOW) + row)[:, None] * 24 + np.arange(WINDOW) + column).reshape(-1))
    x = torch.from_numpy(np.stack(pixels)).permute(0, 3, 1, 2).float() / 255
    numbers = (torch.from_numpy(np.stack(a)) for a in (places, chars, rows))
    return ((x - MEAN) / DEVIATION, *numbers)  # type: ignore[return-value]


def similarity(shown: Tensor, embedding: GlyphTokenEmbedding, table: Tensor) -> Tensor:
    """Compare each slot of tokens (n, D) with each character: logits (n, SLOTS, K), the last for `no character`."""
    letters = table[torch.arange(SPACE) + FIRST_ID]  # (95, D)
    slots = torch.einsum("nd,sed->nse", shown, embedding.slot_rotations)  # the rotation of each slot undone
    own = letters.square().sum(-1).mean()
    scale = (LEAST_SELF_SIMILARITY / own).clamp(min=1)
    none = (scale * own + math.log(SPACE)) / 2  # half-way between a character's own logit and that of no match
    return torch.cat([slots @ (scale * letters).T, none.expand(*slots.shape[:2], 1)], -1)


def labels(chars: Tensor) -> Tensor:
    """Map codes (n, SLOTS), 0 for none, to classes of `similarity`."""
    return torch.where(chars > 0, chars % SPACE, SPACE)


def character_loss(
    shown: Tensor,
    chars: Tensor,
    embedding: GlyphTokenEmbedding,
    table: Tensor,
    *,
    blank: float,
    weight: Tensor | None = None,
) -> tuple[Tensor, float]:
    """Cross entropy of classifying every slot of tokens (n, D), and the share of characters recognised.

    Args:
        blank: weight of the class `no character`.
        weight: (n,) weights of the tokens' characters; None: 1.
    """
    logits, wanted = similarity(shown, embedding, table), labels(chars)
    weights = torch.ones(len(shown)) if weight is None else weight
    weights = torch.where(wanted == SPACE, blank, weights[:, None])
    wrong = F.cross_entropy(logits.flatten(0, 1), wanted.flatten(), reduction="none")
    loss = (wrong * weights.flatten()).sum() / weights.sum()
    right = (logits.argmax(-1) == wanted)[chars > 0]
    return loss, right.float().mean().item() if len(right) else 1.0


class OcrAligner:
    """Trains vision tower, projector, newline and separator of a model; language model and glyph tokens are frozen."""

    def __init__(
        self,
        model: IxcForConditionalGeneration,
        glyph_tokens: GlyphTokenEmbedding,
        recipe: OcrAlignmentConfig,
        parallel: DataParallel | None = None,
    ) -> None:
        inner, self.parallel = model.model, parallel or DataParallel(recipe.data_parallel)
        self.model, self.glyph_tokens, self.recipe = inner, glyph_tokens, recipe
        self.table = cast(nn.Embedding, model.get_input_embeddings()).weight.detach().clone()
        self.special_embeddings = [inner.plora_sub_GN, inner.plora_glb_GN]
        self.teacher = deepcopy((inner.vision_tower, inner.vision_proj)) if recipe.feature_distill_weight else None
        blocks = [p for p in inner.vision_tower.encoder.layers.parameters() if p.ndim == 2]
        taken = {id(p) for p in blocks}
        rest = [p for p in inner.vision_tower.parameters() if id(p) not in taken]
        self.optims: list[torch.optim.Optimizer] = [
            Muon(blocks, lr=recipe.muon_lr),
            torch.optim.AdamW(
                [*rest, *inner.vision_proj.parameters(), *self.special_embeddings],
                lr=recipe.adam_lr,
                betas=(0.9, 0.98),
                weight_decay=0.0,
            ),
        ]
        set_rate(self.optims, 1.0)

    def step(self, number: int) -> tuple[float, float, float]:
        """Train one step; returns loss, mean squared distance a token, share of characters recognised.

        The distance is that to the glyph tokens or, with `feature_distill_weight`, the relative one to the teacher's.
        """
        recipe, parallel = self.recipe, self.parallel
        rng = np.random.default_rng([recipe.seed, 4, number])
        results = [
            self._backward(parallel.generator(rng, recipe.seed, 4, number, rank=rank)) for rank in parallel.local_ranks
        ]
        learned = [p for o in self.optims for g in o.param_groups for p in g["params"]]
        parallel.average_gradients(learned)
        nn.utils.clip_grad_norm_(learned, 1.0)
        set_rate(self.optims, rate_at(number, steps=recipe.steps, decay_from=recipe.decay_from))
        for optim in self.optims:
            optim.step()
            optim.zero_grad(set_to_none=True)
        results = parallel.gather(results)
        loss, distance, right = (sum(result[i] for result in results) / len(results) for i in range(3))
        return loss, distance, right

    def _backward(self, rng: Generator) -> tuple[float, float, float]:
        """Compute the gradients of one replica; returns as `step`."""
        recipe = self.recipe
        pixels, places, chars, rows = windows(rng, recipe)
        shown = self.encode(self.model.vision_tower, self.model.vision_proj, pixels, places)
        with torch.no_grad():
            no_special = torch.zeros(chars.shape[:2], dtype=torch.long)
            target = self.glyph_tokens(chars, rows, no_special, self.table, noise=0.0).flatten(0, 1)
        many = (chars > 0).sum((1, 2), keepdim=True).clamp(min=1)  # (N, 1, 1)
        weight = (CROWD / many).clamp(1.0, recipe.sparse).expand(-1, TOKENS**2, 1).flatten()
        loss, right = character_loss(
            shown[:-2], chars.flatten(0, 1), self.glyph_tokens, self.table, blank=recipe.blank, weight=weight
        )
        distance = ((shown - torch.cat([target, self.glyph_tokens.special_embeddings.detach()])) ** 2).sum(-1)
        distance = torch.cat([distance[:-2].mean()[None], distance[-2:]]).sum()
        distilled = shown.new_zeros(())
        if self.teacher is not None:
            with torch.no_grad():
                before = self.encode(*self.teacher, pixels, places)
            distilled = (shown - before).square().sum(-1).mean() / before.square().sum(-1).mean()
        (loss + recipe.glyph_mse_weight * distance + recipe.feature_distill_weight * distilled).backward()
        return loss.item(), distilled.item() if self.teacher is not None else distance.item(), right

    def encode(self, tower: VisionTower, proj: nn.Module, pixels: Tensor, places: Tensor) -> Tensor:
        """Encode windows to tokens (N * T + 2, D); the last two are newline and separator."""
        with bf16_cpu.tower_attention(tower):
            patches = tower(pixels, window=places)  # (N, P, C)
        count, _, width = patches.shape
        four = patches.view(count, TOKENS, 2, TOKENS, 2, width).transpose(2, 3).reshape(-1, 4 * width)
        return proj(torch.cat([four, *(v.view(1, -1) for v in self.special_embeddings)]))

    def learned(self) -> dict[str, Tensor]:
        """Weights of the modules trained here, by their names in the model."""
        kept = ("vision_tower.", "vision_proj.", "plora_")
        return {k: v for k, v in self.model.state_dict().items() if k.startswith(kept)}


def run(
    model: IxcForConditionalGeneration,
    glyph_tokens: GlyphTokenEmbedding,
    recipe: OcrAlignmentConfig,
    out: Path,
    *,
    watch: Watch | None = None,
    parallel: DataParallel | None = None,
) -> None:
    """Train the vision tower and the projector of `model` in place, or resume from `out/ocr_alignment.pt`.

    Args:
        model: the whole model; its language model is frozen.
        glyph_tokens: embedding of the target tokens.
        recipe: options of the stage.
        out: folder of the state and the log.
        watch: called after each step.
        parallel: the replicas that this process computes; None: all of them.
    """
    aligner = OcrAligner(model, glyph_tokens, recipe, parallel)
    is_main = aligner.parallel.is_main
    step, path, means = 0, out / "ocr_alignment.pt", {}
    if (saved := state.load(path, old="spelling.pt")) is not None:
        model.model.load_state_dict(saved["vision"], strict=False)
        for optim, kept in zip(aligner.optims, saved["optims"], strict=True):
            optim.load_state_dict(kept)
        step, means = saved["step"], {"characters": saved["accuracy"]}
    log = StageLog("ocr_alignment", recipe.steps, out, watch) if is_main else None
    while step < recipe.steps:
        loss, distance, right = aligner.step(step)
        step += 1
        running(means, "characters", right)
        if log is None:
            continue
        tokens = 4 * recipe.data_parallel * recipe.images * TOKENS**2
        log(step, loss=loss, tokens=tokens, scores=means | {"distance": distance})
        if step % recipe.save_every == 0 or step == recipe.steps:
            vision, optims = aligner.learned(), [o.state_dict() for o in aligner.optims]
            state.save({"vision": vision, "optims": optims, "step": step, "accuracy": means["characters"]}, path)
