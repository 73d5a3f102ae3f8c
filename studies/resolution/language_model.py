"""The language model of the studies, trained once, without pixels: the ladder of `train.lessons` on their own pages.

    page -> symbols (what a perfect eye would read) -> SymbolEmbedding -> Decoder -> answers to packed questions

From cut-outs of a few tokens to whole pages at HD-55. Newlines, overview and the any-resolution order are drawn at
random for every step, so that the start favours no variant.
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
from ixc.inference.model_folder import EMBEDDED
from ixc.nano import state
from ixc.nano.data.glyph_tokens import TOKEN, GlyphTokenEmbedding, GlyphTokens, grid_symbols, with_newlines
from ixc.nano.data.question_packing import choose, markup, pack
from ixc.nano.export import begin, reader, weights
from ixc.nano.losses.answers import answer_logits, score
from ixc.nano.stages.layout_lm import LayoutLm, optimisers, rate_at, set_rate
from ixc.synth.page import CENTRE, DrawnPage, PageQuestion, characters
from studies.resolution import pages, views
from studies.resolution.scale import LEGIBLE, TEXT
from studies.resolution.views import ANYRES, View

log_to = logging.getLogger(__name__)
FROM = 10**9


@dataclass(frozen=True, kw_only=True)
class Lesson:
    """One size of page: a cut-out of rows x columns tokens, or, with `hd`, a whole page."""

    rows: int = 0
    columns: int = 0
    letters: tuple[int, int] = (0, 0)
    """Font sizes of a cut-out, canvas pixels."""
    hd: int = 0
    pages: int
    """A step."""
    questions: int
    """A page."""


LESSONS = (
    Lesson(rows=2, columns=10, letters=(13, 18), pages=64, questions=4),
    Lesson(rows=4, columns=10, letters=(12, 18), pages=40, questions=6),
    Lesson(rows=5, columns=12, letters=(11, 24), pages=26, questions=8),
    Lesson(rows=8, columns=14, letters=(9, 32), pages=16, questions=10),
    Lesson(hd=9, pages=10, questions=12),
    Lesson(hd=16, pages=6, questions=14),
    Lesson(hd=25, pages=4, questions=16),
    Lesson(hd=55, pages=2, questions=16),
)
"""Two items and more from the first lesson on: with one of them there is nothing to choose."""

CLIMBED = (0.01, 0.03, 0.08, 0.14, 0.26, 0.2, 0.16, 0.12)
"""Shares of the lessons once all are reached, and in any case from the step on at which the rate begins to fall."""

ORDERS = ((True, True, "original"), (False, True, "original"), (True, False, "original"), (True, True, ANYRES))
"""Newline, overview, rule: one of them for each step on whole pages."""


@dataclass(frozen=True, kw_only=True)
class HandRecipe:
    """Numbers of the stage."""

    seed: int = 5
    steps: int = 2000
    decay_from: int = 1050
    muon_lr: float = 0.01
    adam_lr: float = 2e-3
    noise: float = 0.3
    """Deviation of the noise on a symbol, as a share of a letter's length."""
    advance: tuple[float, ...] = (0.8, 0.8, 0.75, 0.7, 0.6, 0.6, 0.6)
    """Exact match (running mean) on each lesson at which the next one begins."""
    save_every: int = 100


def draw_lesson(rng: Generator, reached: int) -> int:
    """Half of the steps on the lesson reached, a quarter on the one above, the rest below."""
    if reached == len(LESSONS) - 1:
        return int(rng.choice(len(LESSONS), p=CLIMBED))
    r = rng.random()
    return reached if r < 0.5 else min(reached + 1, len(LESSONS) - 1) if r < 0.75 else int(rng.integers(0, reached + 1))


def cut_out(rng: Generator, lesson: Lesson, *, newline: bool) -> tuple[list[PageQuestion], GlyphTokens]:
    """Questions and symbols of a small grid of tokens with items in rows, or in rows and columns."""
    size = round(exp(rng.uniform(log(lesson.letters[0]), log(lesson.letters[1]))))
    width, height = lesson.columns * TOKEN, lesson.rows * TOKEN
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
    grid = grid_symbols(*characters(page), rows=lesson.rows, columns=lesson.columns)
    return page.questions, with_newlines(*grid, newline=newline)


def whole(rng: Generator, lesson: Lesson) -> tuple[list[list[PageQuestion]], list[GlyphTokens]]:
    """Pages of one form under one order of tokens, all of them legible, with the questions asked of each."""
    newline, overview, rule = ORDERS[int(rng.integers(len(ORDERS)))]
    form = int(rng.integers(pages.FORMS))
    place = View(hd=lesson.hd, rule=rule).place(*pages.shape(form))
    questions, found = [], []
    while len(found) < lesson.pages:
        page = pages.draw(FROM + int(rng.integers(FROM // pages.FORMS)) * pages.FORMS + form)
        if pages.letter_size(page) * place.resized_width / page.width >= LEGIBLE[0]:
            found.append(views.symbols(page, place, newline=newline, overview=overview))
            questions.append(pages.asked(rng, page, lesson.questions, large=overview))
    return questions, found


def lesson_batch(rng: Generator, lesson: Lesson) -> tuple[list[list[PageQuestion]], list[GlyphTokens]]:
    """Questions and symbols of the pages of one step."""
    if lesson.hd:
        return whole(rng, lesson)
    newline, questions, found = bool(rng.random() < 0.7), [], []
    while len(found) < lesson.pages:
        here, symbols = cut_out(rng, lesson, newline=newline)
        if here:
            questions.append(choose(rng, here, lesson.questions))
            found.append(symbols)
    return questions, found


def embedded() -> dict[str, Tensor]:
    """Weights of a `LayoutLm` from the embedded model, which finds keys and copies the values behind them."""
    model, symbols = weights(EMBEDDED), GlyphTokenEmbedding(TEXT.hidden_size)
    begin(EMBEDDED, model, symbols)
    return reader(model, symbols)


class Hand:
    """The reader and where its ladder stands."""

    def __init__(self, recipe: HandRecipe, out: Path) -> None:
        self.recipe, self.path = recipe, out / "hand.pt"
        self.reader = LayoutLm(TEXT, seed=recipe.seed)
        layers = self.reader.decoder.layers
        self.optims = optimisers(self.reader, layers, muon_lr=recipe.muon_lr, adam_lr=recipe.adam_lr)
        set_rate(self.optims, 1.0)
        self.step, self.reached, self.exact = 0, 0, [0.0] * len(LESSONS)
        if (saved := state.load(self.path)) is not None:
            try:
                self.reader.load_state_dict(saved["reader"])
            except RuntimeError as error:
                raise DataError(f"{self.path} is of a language model of another size; name a new folder") from error
            for optim, kept in zip(self.optims, saved["optims"], strict=True):
                optim.load_state_dict(kept)
            self.step, self.reached, self.exact = saved["step"], saved["reached"], saved["exact"]
        else:
            self.reader.load_state_dict(embedded())

    def save(self) -> None:
        """Write the state."""
        kept = {"reader": self.reader.state_dict(), "optims": [o.state_dict() for o in self.optims]}
        state.save(kept | {"step": self.step, "reached": self.reached, "exact": self.exact}, self.path)

    def train_step(self) -> float:
        """One step on one lesson; its loss."""
        recipe, reader = self.recipe, self.reader
        rng = np.random.default_rng([recipe.seed, self.step])
        torch.manual_seed(recipe.seed * 1_000_003 + self.step)
        last = len(LESSONS) - 1
        number = draw_lesson(rng, last if self.step >= recipe.decay_from else self.reached)
        questions, symbols = lesson_batch(rng, LESSONS[number])
        image = reader.embed_image(symbols, noise=recipe.noise)
        packed = pack(questions, prefix=len(markup()[0]) + image.shape[1], form="direct")
        loss, exact = score(answer_logits(reader.decoder, image, packed), packed.labels, packed.questions)
        loss.backward()
        nn.utils.clip_grad_norm_(reader.parameters(), 1.0)
        set_rate(self.optims, rate_at(self.step, steps=recipe.steps, decay_from=recipe.decay_from))
        for optim in self.optims:
            optim.step()
            optim.zero_grad(set_to_none=True)
        self.step += 1
        self.exact[number] = exact if self.exact[number] == 0 else 0.96 * self.exact[number] + 0.04 * exact
        if self.reached < len(LESSONS) - 1 and self.exact[self.reached] >= recipe.advance[self.reached]:
            self.reached += 1
        return loss.item()


def run(recipe: HandRecipe, out: Path) -> Hand:
    """Train, or go on from `out/hand.pt`."""
    hand = Hand(recipe, out)
    while hand.step < recipe.steps:
        loss = hand.train_step()
        if hand.step % 100 == 0:
            means = " ".join(f"{e:.2f}" for e in hand.exact)
            log_to.info("hand: step %d lesson %d loss %.3f exact %s", hand.step, hand.reached, loss, means)
        if hand.step % recipe.save_every == 0 or hand.step == recipe.steps:
            hand.save()
    return hand
