"""Stage 2: the language model reads glyph tokens of real pages: it copies them first, then answers questions.

    region of a page -> SlotTokens, misread by chance -> SlotEmbedding -> Decoder -> transcription or answers

It needs no pictures, so it runs before the vision encoder is done, and beside it. A step takes one grid of tiles, so
that its images have the same number of tokens; grids grow while it trains. Two tasks alternate: one long transcription
of each image, or many short questions packed behind it (question_packing.py).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from numpy.random import Generator
from torch import Tensor, nn

from ixc.core.tiling import TILE
from ixc.errors import DataError
from ixc.model.configuration import IxcTextConfig
from ixc.model.decoder import Decoder
from ixc.nano.data.page_questions import ABSENT, ask_page, keys_and_words, phrased
from ixc.nano.data.page_text import (
    PageText,
    Place,
    cut_region,
    draw_place,
    drawn_page_text,
    folder_places,
    read_page_text,
    with_random_letters,
)
from ixc.nano.data.question_packing import markup, pack, page_tokenizer
from ixc.nano.data.slot_tokens import SlotEmbedding, misread, region_tokens
from ixc.nano.loop import StepResult
from ixc.nano.losses.answers import answer_logits, graded
from ixc.nano.stages.layout_lm import prepare
from ixc.processing.tokenization import PAGE_VOCABULARY
from ixc.synth.page import PageQuestion
from ixc.synth.page_sampling import compose

TRANSCRIBE = ("Read the text.", "Transcribe the page.", "What does it say?", "Read everything.", "Read the page.")
"""Questions whose answer is the whole text."""
FILLER = PageQuestion(kind="yes_no", question="Is there text?", answer="yes")
"""Asked where a region has fewer questions than a step packs."""


@dataclass(frozen=True, kw_only=True)
class GridStage:
    """Images of one step, from a step on."""

    grid: tuple[int, int]
    """Rows and columns of tiles."""
    images: int
    """Images of a step; larger grids have fewer."""
    since: int = 0
    """First step, those of earlier runs counted."""


GRIDS = (
    GridStage(grid=(1, 1), images=3),
    GridStage(grid=(1, 2), images=2, since=3000),
    GridStage(grid=(2, 2), images=1, since=5000),
    GridStage(grid=(2, 3), images=1, since=8000),
    GridStage(grid=(3, 3), images=1, since=12_000),
    GridStage(grid=(4, 3), images=1, since=16_000),
)


@dataclass(frozen=True, kw_only=True)
class PageLmConfig:
    """What the stage sees in a step."""

    seed: int = 0
    first: int = 0
    """Steps of earlier runs: data goes on behind theirs."""
    grids: tuple[GridStage, ...] = GRIDS
    em: tuple[float, float] = (9.0, 44.0)
    """Pixels: least and most size of type of a region."""
    transcription: float = 0.5
    """Share of steps that transcribe."""
    longest: int = 280
    """Characters of a transcription; a region with more is read up to there."""
    questions: int = 12
    """Questions packed behind an image."""
    drawn: float = 0.25
    """Share of images that are pages this package draws, which have keys, tables and charts."""
    empty: float = 0.03
    """Share of images without a character: whatever is asked, the answer is `ABSENT`."""
    random_letters: float = 0.15
    """Share of regions whose letters are random."""
    misread: float = 0.03
    """Share of characters that the encoder would name wrongly or not at all."""
    noise: float = 0.2
    """Deviation of the noise on tokens, relative to a character's embedding."""


class PageLm(nn.Module):
    """The decoder with its tied output head, and the embedding of slot tokens."""

    def __init__(self, config: IxcTextConfig, *, seed: int = 0) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.decoder = Decoder(config)
        self.slot_tokens = SlotEmbedding(config.hidden_size)
        prepare(self.decoder)

    def embed_image(self, classes: Tensor, special: Tensor, *, noise: float = 0.0) -> Tensor:
        """(B, N, SLOTS) classes, (B, N) special -> (B, N, D)."""
        return self.slot_tokens(classes, special, self.decoder.tok_embeddings.weight, noise=noise)


class PageLmTask:
    """The stage as a task of the training loop."""

    name = "page_lm"

    def __init__(self, config: PageLmConfig, pages: Sequence[Path], model: PageLm) -> None:
        """
        Args:
            pages: folders of `ixc data pages` or `ixc data typeset`; each is drawn from equally often.
        """
        if model.decoder.config.vocab_size < len(PAGE_VOCABULARY):
            raise DataError(f"a vocabulary of {model.decoder.config.vocab_size}; {len(PAGE_VOCABULARY)} are needed")
        self.config, self.model = config, model
        self.places = folder_places(pages)

    def blocks(self) -> nn.Module:
        """Transformer blocks of the decoder."""
        return self.model.decoder.layers

    def step(self, number: int) -> StepResult:
        """Cross entropy of the answers to a step's questions."""
        number += self.config.first
        rng = np.random.default_rng([self.config.seed, number])
        torch.manual_seed(self.config.seed * 1_000_003 + number)
        stage = draw_grid(rng, self.config.grids, number)
        if rng.random() < self.config.transcription:
            name, (regions, asked) = "transcribed", transcriptions(self._draw(stage, rng), self.config, stage, rng)
        else:
            name, (regions, asked) = "answered", questions(self._draw(stage, rng), self.config, stage, rng)
        classes, special = stacked(regions, stage, rng, self.config.misread)
        image = self.model.embed_image(classes, special, noise=self.config.noise)
        loss, scores = asked_loss(self.model.decoder, image, asked)
        return StepResult(loss=loss, examples=len(regions), scores={f"{name}_{k}": v for k, v in scores.items()})

    def _draw(self, stage: GridStage, rng: Generator) -> Callable[[], PageText]:
        return lambda: draw_region(self.config, self.places, stage, rng)


def asked_loss(decoder: Decoder, image: Tensor, asked: list[list[PageQuestion]]) -> tuple[Tensor, dict[str, float]]:
    """Mean cross entropy over answers; shares of answers and of characters that are right, given those before."""
    packed = pack(asked, prefix=len(markup()[0]) + image.shape[1], tokenizer=page_tokenizer())
    logits = answer_logits(decoder, image, packed)
    loss, right = graded(logits, packed.labels, packed.questions)
    counted = packed.labels >= 0
    characters = (logits.argmax(-1) == packed.labels)[counted]
    return loss, {"exact": right.float().mean().item(), "characters": characters.float().mean().item()}


def draw_grid(rng: Generator, grids: Sequence[GridStage], step: int) -> GridStage:
    """One of the grids that have begun; the newest half of the time."""
    begun = [one for one in grids if one.since <= step]
    return begun[-1] if rng.random() < 0.5 else begun[int(rng.integers(len(begun)))]


Asked = tuple[list[PageText], list[list[PageQuestion]]]
"""Regions, and the questions of each."""


def transcriptions(draw: Callable[[], PageText], config: PageLmConfig, stage: GridStage, rng: Generator) -> Asked:
    """Regions and their text; of the longer ones the block that a beginning names."""
    regions, asked = [], []
    while len(regions) < stage.images:
        region = draw()
        text = "\n".join(line.text for line in region.lines) if len(region) else ABSENT
        if text:
            question = TRANSCRIBE[int(rng.integers(len(TRANSCRIBE)))]
            regions.append(region)
            asked.append([PageQuestion(kind="transcribe", question=question, answer=text[: config.longest])])
    return regions, asked


def questions(draw: Callable[[], PageText], config: PageLmConfig, stage: GridStage, rng: Generator) -> Asked:
    """Regions and the questions about each."""
    regions, asked = [], []
    while len(regions) < stage.images:
        region = draw()
        other = keys_and_words(draw())
        if len(region):
            found = ask_page(region, rng, config.questions, elsewhere=other)
        else:
            found = ask_absent(other, rng, config.questions)
        if found:
            regions.append(region)
            asked.append(found + [FILLER] * (config.questions - len(found)))
    return regions, asked


def ask_absent(elsewhere: Sequence[str], rng: Generator, count: int) -> list[PageQuestion]:
    """Questions about an image that shows no text: for values that another page holds, for titles and lines."""
    kinds = [*(["value"] * 2 if elsewhere else []), "title", "first_line", "last_line"]
    asked = []
    for _ in range(count):
        kind = str(rng.choice(kinds))
        given = elsewhere[int(rng.integers(len(elsewhere)))] if kind == "value" else ""
        asked.append(PageQuestion(kind=kind, question=phrased(kind, given, rng), answer=ABSENT))
    return asked


def empty_region(stage: GridStage, rng: Generator) -> PageText:
    """A region without a character that fills the stage's grid."""
    height, width = (round(TILE * (n - float(rng.uniform(0, 0.8)))) for n in stage.grid)
    none, whole = np.zeros(0, np.float32), np.zeros(0, np.int64)
    return PageText(
        classes=whole,
        x=none,
        y=none,
        size=none,
        word=whole,
        line=whole,
        block=whole,
        source="empty",
        width=width,
        height=height,
    )


def draw_region(config: PageLmConfig, places: Sequence[Sequence[Place]], stage: GridStage, rng: Generator) -> PageText:
    """A region of a real or a drawn page that fills the stage's grid, or by chance an empty one."""
    if rng.random() < config.empty:
        return empty_region(stage, rng)
    while True:
        page = _drawn_page(rng) if rng.random() < config.drawn else _read(*draw_place(places, rng))
        if not len(page):
            continue
        region = cut_region(page, rng, grid=stage.grid, em=config.em)
        if len(region) >= 4:
            return with_random_letters(region, rng) if rng.random() < config.random_letters else region


def _drawn_page(rng: Generator) -> PageText:
    return drawn_page_text(compose(int(rng.integers(1 << 39)), hd=int(rng.choice((1, 4, 9)))))


@lru_cache(maxsize=4096)
def _read(path: Path, number: int) -> PageText:
    return read_page_text(path, number)


def stacked(regions: Sequence[PageText], stage: GridStage, rng: Generator, share: float) -> tuple[Tensor, Tensor]:
    """Classes (B, N, SLOTS) and special (B, N) of regions of one grid."""
    tokens = [region_tokens(region, hd=stage.grid[0] * stage.grid[1]) for region in regions]
    classes = np.stack([misread(one.classes, rng, share=share) for one in tokens])
    return torch.from_numpy(classes), torch.from_numpy(np.stack([one.special for one in tokens]))


__all__ = ["GRIDS", "GridStage", "PageLm", "PageLmConfig", "PageLmTask"]
