"""Eyes learn to spell in the hand's own letters: tower and projector together, every token of a window at once.

    canvas -> windows -> VisionTower -> four patches a token -> vision_proj -> token (D)
    token * turn of a slot -> likeness to every character's embedding, or to nothing -> cross entropy

The readout is fixed: the language model's embeddings and the slots of `GlyphTokenEmbedding`. The projector learns to
produce what the language model was trained to read, and a thousand labels an image replace the ten of an answer.
Optionally the stage distils from the encoder's features at its start (`feature_distill_weight`).

Shapes: N windows, T = 36 tokens of a window, SLOTS places in a token, K = 95 characters and `nothing`, D width.
"""

from __future__ import annotations

import math
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.random import Generator
from torch import Tensor, nn
from torch.nn import functional as F

from ixc.core.tiling import TILE
from ixc.model.modeling import IxcForConditionalGeneration
from ixc.nano import bf16_cpu, state
from ixc.nano.data.character_images import CANVAS, LETTERING, Canvas, TextImageConfig, page_canvas, text_canvas
from ixc.nano.data.glyph_tokens import FIRST_ID, LEGIBLE, PATCH, SLOTS, GlyphTokenEmbedding, grid_symbols, seen_by
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

TOKENS = WINDOW // 2  # on a side of a window
CROWD = 40
"""Letters of a window that is full of text."""
LOUD = 8.0
"""Least likeness of a letter to itself: embeddings that have not grown to it are taken as if they had, else no letter
would stand out from 95 others and from nothing."""


@dataclass(frozen=True, kw_only=True)
class OcrAlignmentConfig:
    """Numbers of the stage."""

    seed: int = 7
    steps: int = 2500
    decay_from: int = 1200
    parts: int = 1
    """Of a step: each has canvases of its own and a core where there is one; gradients are averaged."""
    canvases: int = 12
    """Canvases a part; four windows are cut from each."""
    family: PageFamily = FAMILY
    lettering: TextImageConfig = LETTERING
    pages: float = 0.45
    """Share of canvases that are tiles of pages; the others are full of text."""
    overviews: float = 0.1
    """Share of canvases that are overviews of pages of several tiles: letters too small to read are `nothing`."""
    muon_lr: float = 0.012
    adam_lr: float = 1.2e-3
    blank: float = 0.3
    """Weight of the label `nothing`."""
    sparse: float = 1.0
    """Most that a letter counts where a window holds fewer than `CROWD`: else large letters, a few to a window, would
    hardly be learned beside small ones."""
    near: float = 0.02
    """Weight of the squared distance to the symbols, which also teaches the rows of lines, newline and separator."""
    held: float = 0.0
    """Weight of the squared distance to what the eyes said before the stage, as a share of its square: a reader that
    has learned more from tokens than their letters still understands them."""
    save_every: int = 100
    pace: float = 1.4
    """Seconds that a step is expected to take, for the time left."""


@torch.no_grad()
def overview_canvas(rng: Generator, family: PageFamily = FAMILY) -> Canvas:
    """The overview of a page of several tiles: pixels, and of its legible characters codes, x, y."""
    hd = 4 if rng.random() < 0.5 else 9
    page = compose(int(rng.integers(1 << 39)), hd=hd, family=family)
    place, codes, x, y, sizes = seen_by(page, hd=hd)
    picture = maybe_degraded(paint(page), rng, family.worn)
    canvas = torch.from_numpy(resize_to_canvas(picture, partition=place)).permute(2, 0, 1)[None].float()
    small = F.interpolate(canvas, size=(TILE, TILE), mode="bicubic", align_corners=False)  # as the model does
    shrunk = small[0].permute(1, 2, 0).clamp(0, 255).byte().numpy()
    legible = sizes * min(1 / place.grid_w, 1 / place.grid_h) >= LEGIBLE
    return shrunk, codes[legible], x[legible] / place.grid_w, y[legible] / place.grid_h


def _canvas(rng: Generator, recipe: OcrAlignmentConfig) -> Canvas:
    r = rng.random()
    if r < recipe.overviews:
        return overview_canvas(rng, recipe.family)
    if r < recipe.overviews + recipe.pages:
        return page_canvas(rng, recipe.family)
    return text_canvas(rng, recipe.family, recipe.lettering)


def windows(rng: Generator, recipe: OcrAlignmentConfig) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Pixels (N, 3, 168, 168) normalised, places (N, P), characters (N, T, SLOTS), rows (N, T, 2) bool."""
    side, pixels, places, chars, rows = WINDOW * PATCH, [], [], [], []
    for _ in range(recipe.canvases):
        image, codes, x, y = _canvas(rng, recipe)
        for _ in range(4):
            left, top = (int(v) for v in rng.integers(0, CANVAS - side + 1, size=2))
            pixels.append(image[top : top + side, left : left + side])
            c, f = grid_symbols(codes, x - left, y - top, rows=TOKENS, columns=TOKENS)
            chars.append(c.reshape(-1, SLOTS))
            rows.append(f.reshape(-1, 2))
            row, column = (2 * int(v) for v in rng.integers(0, (24 - WINDOW) // 2 + 1, size=2))
            places.append(((np.arange(WINDOW) + row)[:, None] * 24 + np.arange(WINDOW) + column).reshape(-1))
    x = torch.from_numpy(np.stack(pixels)).permute(0, 3, 1, 2).float() / 255
    numbers = (torch.from_numpy(np.stack(a)) for a in (places, chars, rows))
    return ((x - MEAN) / DEVIATION, *numbers)  # type: ignore[return-value]


def likeness(shown: Tensor, embedding: GlyphTokenEmbedding, table: Tensor) -> Tensor:
    """Tokens (n, D) -> logits (n, SLOTS, K): how much each slot looks like each character; the last is `nothing`."""
    letters = table[torch.arange(SPACE) + FIRST_ID]  # (95, D)
    turned = torch.einsum("nd,sed->nse", shown, embedding.turns)  # each place's turn undone
    own = letters.square().sum(-1).mean()
    loud = (LOUD / own).clamp(min=1)
    nothing = (loud * own + math.log(SPACE)) / 2  # half-way between a letter and none of many
    return torch.cat([turned @ (loud * letters).T, nothing.expand(*turned.shape[:2], 1)], -1)


def labels(chars: Tensor) -> Tensor:
    """Codes (n, SLOTS), 0 for nothing -> classes of `likeness`."""
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
    """Cross entropy of naming every slot of tokens (n, D), and the share of characters named rightly.

    Args:
        blank: weight of the label `nothing`. weight: (n,) of a token's characters; None: 1.
    """
    logits, wanted = likeness(shown, embedding, table), labels(chars)
    heavy = torch.ones(len(shown)) if weight is None else weight
    heavy = torch.where(wanted == SPACE, blank, heavy[:, None])
    wrong = F.cross_entropy(logits.flatten(0, 1), wanted.flatten(), reduction="none")
    loss = (wrong * heavy.flatten()).sum() / heavy.sum()
    right = (logits.argmax(-1) == wanted)[chars > 0]
    return loss, right.float().mean().item() if len(right) else 1.0


class OcrAligner:
    """Tower, projector, newline and separator of a model; its language model and the symbols stand still."""

    def __init__(
        self,
        model: IxcForConditionalGeneration,
        symbols: GlyphTokenEmbedding,
        recipe: OcrAlignmentConfig,
        parts: DataParallel | None = None,
    ) -> None:
        inner, self.parts = model.model, parts or DataParallel(recipe.parts)
        self.model, self.symbols, self.recipe = inner, symbols, recipe
        self.table = model.get_input_embeddings().weight.detach().clone()
        self.marks = [inner.plora_sub_GN, inner.plora_glb_GN]
        self.before = deepcopy([inner.vision_tower, inner.vision_proj]) if recipe.held else None
        blocks = [p for p in inner.vision_tower.encoder.layers.parameters() if p.ndim == 2]
        taken = {id(p) for p in blocks}
        rest = [p for p in inner.vision_tower.parameters() if id(p) not in taken]
        self.optims: list[torch.optim.Optimizer] = [
            Muon(blocks, lr=recipe.muon_lr),
            torch.optim.AdamW(
                [*rest, *inner.vision_proj.parameters(), *self.marks],
                lr=recipe.adam_lr,
                betas=(0.9, 0.98),
                weight_decay=0.0,
            ),
        ]
        set_rate(self.optims, 1.0)

    def step(self, number: int) -> tuple[float, float, float]:
        """One step -> loss, squared distance a token (`held`: from before, as a share), share of characters named."""
        recipe, parts = self.recipe, self.parts
        rng = np.random.default_rng([recipe.seed, 4, number])
        notes = [self._part(parts.draws(rng, recipe.seed, 4, number, part=part)) for part in parts.here]
        learned = [p for o in self.optims for g in o.param_groups for p in g["params"]]
        parts.mean(learned)
        nn.utils.clip_grad_norm_(learned, 1.0)
        set_rate(self.optims, rate_at(number, steps=recipe.steps, decay_from=recipe.decay_from))
        for optim in self.optims:
            optim.step()
            optim.zero_grad(set_to_none=True)
        notes = parts.all(notes)
        loss, far, right = (sum(note[i] for note in notes) / len(notes) for i in range(3))
        return loss, far, right

    def _part(self, rng: Generator) -> tuple[float, float, float]:
        """Canvases of one part of a step, forward and backward; as `step`."""
        recipe = self.recipe
        pixels, places, chars, rows = windows(rng, recipe)
        shown = self.shown(self.model.vision_tower, self.model.vision_proj, pixels, places)
        with torch.no_grad():
            nowhere = torch.zeros(chars.shape[:2], dtype=torch.long)
            said = self.symbols(chars, rows, nowhere, self.table, noise=0.0).flatten(0, 1)
        many = (chars > 0).sum((1, 2), keepdim=True).clamp(min=1)  # (N, 1, 1)
        heavy = (CROWD / many).clamp(1.0, recipe.sparse).expand(-1, TOKENS**2, 1).flatten()
        loss, right = character_loss(
            shown[:-2], chars.flatten(0, 1), self.symbols, self.table, blank=recipe.blank, weight=heavy
        )
        far = ((shown - torch.cat([said, self.symbols.marks.detach()])) ** 2).sum(-1)
        far = torch.cat([far[:-2].mean()[None], far[-2:]]).sum()
        moved = shown.new_zeros(())
        if self.before is not None:
            with torch.no_grad():
                known = self.shown(*self.before, pixels, places)
            moved = (shown - known).square().sum(-1).mean() / known.square().sum(-1).mean()
        (loss + recipe.near * far + recipe.held * moved).backward()
        return loss.item(), moved.item() if recipe.held else far.item(), right

    def shown(self, tower: nn.Module, proj: nn.Module, pixels: Tensor, places: Tensor) -> Tensor:
        """Tokens (N * T + 2, D) of windows; the last two are newline and separator."""
        with bf16_cpu.eyes(tower):
            patches = tower(pixels, window=places)  # (N, P, C)
        count, _, width = patches.shape
        four = patches.view(count, TOKENS, 2, TOKENS, 2, width).transpose(2, 3).reshape(-1, 4 * width)
        return proj(torch.cat([four, *(m.view(1, -1) for m in self.marks)]))

    def learned(self) -> dict[str, Tensor]:
        """Weights of the parts that learn, by their names in the model."""
        kept = ("vision_tower.", "vision_proj.", "plora_")
        return {k: v for k, v in self.model.state_dict().items() if k.startswith(kept)}


def run(
    model: IxcForConditionalGeneration,
    symbols: GlyphTokenEmbedding,
    recipe: OcrAlignmentConfig,
    out: Path,
    *,
    watch: Watch | None = None,
    parts: DataParallel | None = None,
) -> None:
    """Train the eyes of `model` in place, or go on from `out/spelling.pt`.

    Args:
        parts: those of each step that this process does; None: all of them.
    """
    speller = OcrAligner(model, symbols, recipe, parts)
    writes = speller.parts.writes
    step, path, means = 0, out / "spelling.pt", {}
    if (saved := state.load(path)) is not None:
        model.model.load_state_dict(saved["eyes"], strict=False)
        for optim, kept in zip(speller.optims, saved["optims"], strict=True):
            optim.load_state_dict(kept)
        step, means = saved["step"], {"characters": saved["accuracy"]}
    tell = StageLog("spelling", recipe.steps, out, watch) if writes else None
    while step < recipe.steps:
        loss, far, right = speller.step(step)
        step += 1
        running(means, "characters", right)
        if tell is None:
            continue
        tokens = 4 * recipe.parts * recipe.canvases * TOKENS**2
        tell(step, loss=loss, tokens=tokens, scores=means | {"far": far})
        if step % recipe.save_every == 0 or step == recipe.steps:
            eyes, optims = speller.learned(), [o.state_dict() for o in speller.optims]
            state.save({"eyes": eyes, "optims": optims, "step": step, "accuracy": means["characters"]}, path)
