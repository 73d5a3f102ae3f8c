"""The vision tower of the studies, trained once to classify, for every patch, the characters centred in it.

    page full of words, or a page of the studies -> tiles and overviews -> VisionTower -> head -> characters of a patch

All variants use this tower, frozen (the paper starts from CLIP and trains it). The method is that of
`nano.stages.character_pretrain`; the head is dropped.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from math import exp, log
from pathlib import Path

import numpy as np
import torch
from numpy.random import Generator
from torch import Tensor, nn
from torch.nn import functional as F

from ixc.core.tiling import Partition
from ixc.nano import state
from ixc.nano.data.glyph_tokens import PATCH, seen_on
from ixc.nano.stages.character_pretrain import CODES, DrawnCharacterClassifier, window_labels
from ixc.nano.stages.layout_lm import optimisers, rate_at, set_rate
from ixc.synth.page import DrawnPage, PlacedText, text_width
from studies.resolution import pages, views
from studies.resolution.scale import LEGIBLE, TILE, VISION
from studies.resolution.views import View

logger = logging.getLogger(__name__)
TILES, TILES_A_SIDE = 16, 4  # of a page full of words
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
SEEN, LATER = (8.0, 46.0), (8.0, 34.0)  # font sizes of words in the two rounds, canvas pixels
BEGIN, GENTLE = 24.0, 350  # smallest font size at the first step; step from which on SEEN holds
FROM = 10**9  # page numbers from here on train the start


@dataclass(frozen=True, kw_only=True)
class VisionEncoderConfig:
    """Options of the training of the vision tower."""

    seed: int = 3
    steps: int = 1800
    second: int = 1200
    """Step at which the second round begins: characters as far apart as those of items, half the rate."""
    decay_from: int = 600
    """Step of the first round from which the rate falls to 0 at its end; in the second round it falls all the way."""
    images: tuple[int, int] = (2, 1)
    """Pages full of words a step, in the two rounds, 16 tiles each."""
    pages: int = 2
    """Pages of the studies a step: of each the overview and the tiles with most letters."""
    tiles: int = 6
    """Tiles of a page of the studies."""
    overviews: tuple[int, int] = (8, 14)
    """Further overviews a step, from `decay_from` on and in the second round: large numbers are rarer than letters."""
    muon_lr: float = 0.02
    adam_lr: float = 2e-3
    blank: float = 0.3
    """Weight of the class `no character`."""
    save_every: int = 100


def word_page(rng: Generator, seen: float, *, apart: bool) -> tuple[DrawnPage, Partition]:
    """Draw a square page full of words for 4 x 4 tiles, with letters of `seen` canvas pixels, optionally far apart."""
    size = max(9, round(seen / rng.uniform(0.3, 1.3)))
    side = round(TILES_A_SIDE * TILE * size / seen)
    page = DrawnPage(kind="words", width=side, height=side, font=pages.FONT, ink=pages.PALE)
    y = rng.uniform(0.5, 1.5) * size
    while y < side + 0.3 * size:
        x = rng.uniform(-1, 1) * size
        while x < side:
            word = "".join(LETTERS[i] for i in rng.integers(0, len(LETTERS), int(rng.integers(1, 5))))
            if apart:
                pages.put(page, word, x=round(x), y=round(y), size=size)
                wide = pages.SPREAD * size * len(word)
            else:
                page.texts.append(
                    PlacedText(string=word, x=round(x), y=round(y), size=size, bold=True, ink=pages.BLACK)
                )
                wide = text_width(word, pages.FONT, size)
            x += wide + rng.uniform(0.3, 2.5) * size
        y += rng.uniform(1.0, 2.5) * size
    return page, View(hd=TILES).place(side, side)


def labels(page: DrawnPage, place: Partition) -> np.ndarray:
    """Label every patch of overview and tiles: (1 + h * w, P, R) codes, 0 = no character."""
    codes, x, y, sizes = seen_on(page, place)
    window = TILE // PATCH
    near = (sizes >= LEGIBLE[0]) & (sizes <= LEGIBLE[1])
    shrink = np.array([1 / place.grid_w, 1 / place.grid_h])
    far = (sizes * shrink.min() >= LEGIBLE[0]) & (sizes * shrink.min() <= LEGIBLE[1])
    found = [window_labels(codes[far], x[far] * shrink[0], y[far] * shrink[1], window=window)]
    for row in range(place.grid_h):
        for column in range(place.grid_w):
            local = codes[near], x[near] - column * TILE, y[near] - row * TILE
            found.append(window_labels(*local, window=window))
    return np.stack(found)


def batch(rng: Generator, recipe: VisionEncoderConfig, step: int) -> tuple[Tensor, Tensor]:
    """Draw tiles (N, 3, 112, 112), normalised, and labels (N, P, R)."""
    pictures, named = [], []
    apart = step >= recipe.second
    low, high = LATER if apart else (BEGIN + (SEEN[0] - BEGIN) * min(1.0, step / GENTLE), SEEN[1])
    for _ in range(recipe.images[apart]):
        page, place = word_page(rng, exp(rng.uniform(log(low), log(high))), apart=apart)
        pictures.append(views.shown(page, place)[1:])
        named.append(torch.from_numpy(labels(page, place)[1:]))
    for _ in range(recipe.pages):
        page = pages.draw(FROM + int(rng.integers(FROM)))
        place = View(hd=int(rng.choice((9, 16, 25, 55)))).place(page.width, page.height)
        found = torch.from_numpy(labels(page, place))
        full = (found > 0).flatten(1).sum(1).float() + 0.5 * torch.from_numpy(rng.random(len(found))).float()
        full[0] = torch.inf  # the overview
        kept = full.topk(min(len(full), 1 + recipe.tiles)).indices
        pictures.append(views.shown(page, place)[kept])
        named.append(found[kept])
    for _ in range(recipe.overviews[apart] if step >= recipe.decay_from else 0):
        page = pages.draw(FROM + int(rng.integers(FROM)))
        place = View(hd=9).place(page.width, page.height)
        pictures.append(views.shown(page, place)[:1])
        named.append(torch.from_numpy(labels(page, place)[:1]))
    return torch.cat(pictures), torch.cat(named)


def run(recipe: VisionEncoderConfig, out: Path) -> tuple[DrawnCharacterClassifier, float]:
    """Train, or resume from `out/vision_encoder.pt`; returns the classifier and its running share of characters."""
    first = batch(np.random.default_rng([recipe.seed, 1]), recipe, GENTLE)[0]
    classifier = DrawnCharacterClassifier(VISION, seed=recipe.seed, pixels=first)
    optims = optimisers(classifier, classifier.tower.encoder.layers, muon_lr=recipe.muon_lr, adam_lr=recipe.adam_lr)
    set_rate(optims, 1.0)
    step, accuracy, path = 0, 0.0, out / "vision_encoder.pt"
    if (saved := state.load(path, old="eyes.pt")) is not None:
        classifier.load_state_dict(saved["classifier"])
        for optim, kept in zip(optims, saved["optims"], strict=True):
            optim.load_state_dict(kept)
        step, accuracy = saved["step"], saved["accuracy"]
    while step < recipe.steps:
        loss, right = _step(classifier, optims, recipe, step)
        step += 1
        accuracy = right if step < 3 else 0.97 * accuracy + 0.03 * right
        if step % 50 == 0:
            logger.info("step %d loss %.3f characters %.3f", step, loss, accuracy)
        if step % recipe.save_every == 0 or step == recipe.steps:
            kept = {"classifier": classifier.state_dict(), "optims": [o.state_dict() for o in optims]}
            state.save(kept | {"step": step, "accuracy": accuracy}, path)
    return classifier, accuracy


def rate(recipe: VisionEncoderConfig, step: int) -> float:
    """Learning rate as a share of the peak."""
    if step < recipe.second:
        return rate_at(step, steps=recipe.second, decay_from=recipe.decay_from)
    return 0.5 * rate_at(step - recipe.second, steps=recipe.steps - recipe.second, decay_from=0)


def _step(
    classifier: DrawnCharacterClassifier, optims: list[torch.optim.Optimizer], recipe: VisionEncoderConfig, number: int
) -> tuple[float, float]:
    """Train one step; returns the loss and the share of characters recognised."""
    pixels, named = batch(np.random.default_rng([recipe.seed, 2, number]), recipe, number)
    weight = torch.ones(CODES)
    weight[0] = recipe.blank
    logits = classifier(pixels, None)
    loss = F.cross_entropy(logits.flatten(0, 2), named.flatten(), weight=weight)
    loss.backward()
    nn.utils.clip_grad_norm_(classifier.parameters(), 1.0)
    set_rate(optims, rate(recipe, number))
    for optim in optims:
        optim.step()
        optim.zero_grad(set_to_none=True)
    return loss.item(), (logits.argmax(-1) == named)[named > 0].float().mean().item()
