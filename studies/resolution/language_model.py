"""The language model of the studies, trained once on ground-truth glyph tokens, over a curriculum of their own pages.

    page -> GlyphTokens -> GlyphTokenEmbedding -> Decoder -> answers to packed questions

The curriculum goes from cut-outs of a few tokens to whole pages at HD-55. Newline, overview and the any-resolution
order are drawn at random for every step, so that the start favours no variant.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from itertools import islice
from math import exp, log
from pathlib import Path

import numpy as np
import torch
from numpy.random import Generator
from torch import Tensor, nn

from ixc.errors import DataError
from ixc.model.configuration import IxcConfig
from ixc.nano import state
from ixc.nano.data.glyph_tokens import TOKEN, GlyphTokenEmbedding, GlyphTokens, glyph_grid, with_newlines
from ixc.nano.data.question_packing import choose, markup, pack
from ixc.nano.export import layout_lm_weights, load_initial, weights
from ixc.nano.losses.answers import answer_logits, score
from ixc.nano.stages.layout_lm import LayoutLm, optimisers, rate_at, set_rate
from ixc.synth.page import CENTRE, DrawnPage, PageQuestion, characters
from studies.resolution import pages, views
from studies.resolution.results import words_of
from studies.resolution.scale import LEGIBLE, TEXT
from studies.resolution.views import ANYRES, View

logger = logging.getLogger(__name__)
FIRST_START = "5fb345b"
"""Commit with the embedded model's second version, from which the language model of all result files started."""
FROM = 10**9  # page numbers from here on train the start


@dataclass(frozen=True, kw_only=True)
class PageStage:
    """A stage of the curriculum: cut-outs of rows x columns tokens or, with `hd`, whole pages."""

    rows: int = 0
    columns: int = 0
    letters: tuple[int, int] = (0, 0)
    """Smallest and largest font size of a cut-out, canvas pixels."""
    hd: int = 0
    """Setting of whole pages."""
    pages: int
    """Pages a step."""
    questions: int
    """Questions a page."""


CURRICULUM = (
    PageStage(rows=2, columns=10, letters=(13, 18), pages=64, questions=4),
    PageStage(rows=4, columns=10, letters=(12, 18), pages=40, questions=6),
    PageStage(rows=5, columns=12, letters=(11, 24), pages=26, questions=8),
    PageStage(rows=8, columns=14, letters=(9, 32), pages=16, questions=10),
    PageStage(hd=9, pages=10, questions=12),
    PageStage(hd=16, pages=6, questions=14),
    PageStage(hd=25, pages=4, questions=16),
    PageStage(hd=55, pages=2, questions=16),
)
"""Pages have two items or more from the first stage on: with one item, keys need not be read."""

FINAL_MIX = (0.01, 0.03, 0.08, 0.14, 0.26, 0.2, 0.16, 0.12)
"""Shares of the stages once all are reached, and in any case from the step on at which the rate begins to fall."""

ORDERS = ((True, True, "original"), (False, True, "original"), (True, False, "original"), (True, True, ANYRES))
"""(newline, overview, rule), one of them for each step on whole pages."""


@dataclass(frozen=True, kw_only=True)
class LanguageModelConfig:
    """Options of the training of the language model."""

    seed: int = 5
    steps: int = 2000
    decay_from: int = 1050
    muon_lr: float = 0.01
    adam_lr: float = 2e-3
    noise: float = 0.3
    """Standard deviation of the noise on a glyph token, relative to the norm of a character embedding."""
    advance: tuple[float, ...] = (0.8, 0.8, 0.75, 0.7, 0.6, 0.6, 0.6)
    """Exact match (running mean) on each stage at which the next one begins."""
    save_every: int = 100


def draw_stage(rng: Generator, reached: int) -> int:
    """Draw the stage of a step: half on the stage reached, a quarter on the one above, the rest below."""
    if reached == len(CURRICULUM) - 1:
        return int(rng.choice(len(CURRICULUM), p=FINAL_MIX))
    r = rng.random()
    return (
        reached if r < 0.5 else min(reached + 1, len(CURRICULUM) - 1) if r < 0.75 else int(rng.integers(0, reached + 1))
    )


def cut_out(rng: Generator, stage: PageStage, *, newline: bool) -> tuple[list[PageQuestion], GlyphTokens]:
    """Draw a small grid of tokens with items in rows, or in rows and columns: its questions and glyph tokens."""
    size = round(exp(rng.uniform(log(stage.letters[0]), log(stage.letters[1]))))
    width, height = stage.columns * TOKEN, stage.rows * TOKEN
    page = DrawnPage(kind="cut", width=width, height=height, font=pages.FONT)
    high, wide = max(1, int(height / max(TOKEN, pages.PITCH * size))), max(1, int(width / (pages.CELL * size)))
    slots = np.sort(rng.choice(high, int(rng.integers(1, high + 1)), replace=False))
    columns = int(rng.integers(1, wide + 1)) if rng.random() < 0.5 else 0
    names = iter(pages.items(rng, 26))
    shift, lines = rng.uniform(0, width - wide * pages.CELL * size), []
    for slot in slots:
        y = round((slot + rng.uniform(0.2, 0.8)) * height / high + CENTRE * size)
        count = columns or int(rng.integers(1, wide + 1))
        line = list(islice(names, count))
        for i, (key, value) in enumerate(line):
            x = shift + i * pages.CELL * size + (0 if columns else rng.uniform(0, 1.5) * size)
            pages.put(page, key + value, x=round(x), y=y, size=size)
        lines.append(line)
    pages.ask(page, [line for line in lines if line], bool(columns))
    grid = glyph_grid(*characters(page), rows=stage.rows, columns=stage.columns)
    return page.questions, with_newlines(*grid, newline=newline)


def whole_pages(rng: Generator, stage: PageStage) -> tuple[list[list[PageQuestion]], list[GlyphTokens]]:
    """Draw legible pages of one form under one order of tokens: the questions and glyph tokens of each."""
    newline, overview, rule = ORDERS[int(rng.integers(len(ORDERS)))]
    form = int(rng.integers(pages.FORMS))
    place = View(hd=stage.hd, rule=rule).place(*pages.shape(form))
    questions, found = [], []
    while len(found) < stage.pages:
        page = pages.draw(FROM + int(rng.integers(FROM // pages.FORMS)) * pages.FORMS + form)
        if pages.letter_size(page) * place.resized_width / page.width >= LEGIBLE[0]:
            found.append(views.glyph_tokens(page, place, newline=newline, overview=overview))
            questions.append(pages.asked(rng, page, stage.questions, large=overview))
    return questions, found


def stage_batch(rng: Generator, stage: PageStage) -> tuple[list[list[PageQuestion]], list[GlyphTokens]]:
    """Draw the pages of one step: the questions and glyph tokens of each."""
    if stage.hd:
        return whole_pages(rng, stage)
    newline, questions, found = bool(rng.random() < 0.7), [], []
    while len(found) < stage.pages:
        here, glyph_tokens = cut_out(rng, stage, newline=newline)
        if here:
            questions.append(choose(rng, here, stage.questions))
            found.append(glyph_tokens)
    return questions, found


def initial_weights(folder: Path) -> dict[str, Tensor]:
    """Load the weights of a `LayoutLm` from a model folder; the embedded model finds keys and copies their values.

    Raises:
        DataError: its language model has another shape than `scale.TEXT`.
    """
    text = IxcConfig.from_pretrained(folder).text_config
    found, wanted = ((config.hidden_size, config.num_hidden_layers) for config in (text, TEXT))
    if found != wanted:
        raise DataError(
            f"{folder} holds a language model {words_of(found)}, and the studies' is {words_of(wanted)}; name a folder "
            f"of that shape with --init-from (git worktree add ../ixc-v2 {FIRST_START}, then "
            "--init-from ../ixc-v2/src/ixc/models/nano)"
        )
    model, glyph_tokens = weights(folder), GlyphTokenEmbedding(TEXT.hidden_size)
    load_initial(folder, model, glyph_tokens)
    return layout_lm_weights(model, glyph_tokens)


class LanguageModel:
    """The language model in training and its position in the curriculum."""

    def __init__(self, recipe: LanguageModelConfig, out: Path, init_from: Path) -> None:
        """Resume from `out/language_model.pt`, or start from the model folder `init_from`."""
        self.recipe, self.path = recipe, out / "language_model.pt"
        self.model = LayoutLm(TEXT, seed=recipe.seed)
        layers = self.model.decoder.layers
        self.optims = optimisers(self.model, layers, muon_lr=recipe.muon_lr, adam_lr=recipe.adam_lr)
        set_rate(self.optims, 1.0)
        self.step, self.reached, self.exact = 0, 0, [0.0] * len(CURRICULUM)
        if (saved := state.load(self.path, old="hand.pt")) is not None:
            try:
                self.model.load_state_dict(saved["model"])
            except RuntimeError as error:
                raise DataError(f"{self.path} is of a language model of another size; name a new folder") from error
            for optim, kept in zip(self.optims, saved["optims"], strict=True):
                optim.load_state_dict(kept)
            self.step, self.reached, self.exact = saved["step"], saved["reached"], saved["exact"]
        else:
            self.model.load_state_dict(initial_weights(init_from))

    def save(self) -> None:
        """Write the state."""
        kept = {"model": self.model.state_dict(), "optims": [o.state_dict() for o in self.optims]}
        state.save(kept | {"step": self.step, "reached": self.reached, "exact": self.exact}, self.path)

    def train_step(self) -> float:
        """Train one step on one stage of the curriculum; returns the loss."""
        recipe, model = self.recipe, self.model
        rng = np.random.default_rng([recipe.seed, self.step])
        torch.manual_seed(recipe.seed * 1_000_003 + self.step)
        last = len(CURRICULUM) - 1
        number = draw_stage(rng, last if self.step >= recipe.decay_from else self.reached)
        questions, glyph_tokens = stage_batch(rng, CURRICULUM[number])
        image = model.embed_image(glyph_tokens, noise=recipe.noise)
        packed = pack(questions, prefix=len(markup()[0]) + image.shape[1], form="direct")
        loss, exact = score(answer_logits(model.decoder, image, packed), packed.labels, packed.questions)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        set_rate(self.optims, rate_at(self.step, steps=recipe.steps, decay_from=recipe.decay_from))
        for optim in self.optims:
            optim.step()
            optim.zero_grad(set_to_none=True)
        self.step += 1
        self.exact[number] = exact if self.exact[number] == 0 else 0.96 * self.exact[number] + 0.04 * exact
        if self.reached < len(CURRICULUM) - 1 and self.exact[self.reached] >= recipe.advance[self.reached]:
            self.reached += 1
        return loss.item()


def run(recipe: LanguageModelConfig, out: Path, init_from: Path) -> LanguageModel:
    """Train from the model folder `init_from`, or resume from `out/language_model.pt`."""
    training = LanguageModel(recipe, out, init_from)
    while training.step < recipe.steps:
        loss = training.train_step()
        if training.step % 100 == 0:
            means = " ".join(f"{e:.2f}" for e in training.exact)
            logger.info("step %d stage %d loss %.3f exact match %s", training.step, training.reached, loss, means)
        if training.step % recipe.save_every == 0 or training.step == recipe.steps:
            training.save()
    return training
