"""Stage 3: vision encoder, projector and language model learn together on pictures of pages.

    region of a page -> pixels -> tiles -> vision encoder -> merge, projector -> image tokens -> answers
                                                                             -> their characters (slot_tokens.py)

It begins from stage 1's encoder and stage 2's language model. The projector between them is fitted first: it must give
the tokens that the language model learned to read. Every character of the region then gives a gradient beside the
answers. Regions, questions and transcriptions are those of stage 2.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import numpy as np
import torch
from numpy.random import Generator
from PIL import Image
from torch import Tensor, nn

from ixc.core.tiling import TILE, partition
from ixc.model.configuration import IxcConfig
from ixc.model.modeling import IxcForConditionalGeneration
from ixc.nano import bf16_cpu
from ixc.nano.data.empty_pictures import empty_picture
from ixc.nano.data.page_files import read_pages
from ixc.nano.data.page_text import (
    PageText,
    Place,
    cut,
    cut_picture,
    draw_place,
    draw_region_box,
    drawn_page_text,
    folder_places,
    read_page_text,
)
from ixc.nano.data.slot_tokens import SlotEmbedding, SlotTokens, region_tokens, slot_loss
from ixc.nano.loop import StepResult
from ixc.nano.stages.joint import start_projector
from ixc.nano.stages.layout_lm import set_rate
from ixc.nano.stages.page_lm import GridStage, PageLmConfig, asked_loss, draw_grid, empty_region, questions
from ixc.nano.stages.page_lm import transcriptions as transcribe
from ixc.nano.stages.vision_pretrain import WearConfig, worn
from ixc.processing.canvas import resize_to_canvas, tiles
from ixc.synth.page_sampling import compose
from ixc.synth.render import paint

GRIDS = (
    GridStage(grid=(1, 1), images=3),
    GridStage(grid=(1, 2), images=2, since=600),
    GridStage(grid=(2, 2), images=1, since=1500),
    GridStage(grid=(2, 3), images=1, since=3000),
    GridStage(grid=(3, 3), images=1, since=5000),
    GridStage(grid=(4, 3), images=1, since=7000),
)


@dataclass(frozen=True, kw_only=True)
class ProjectorFit:
    """How the projector begins."""

    regions: int = 60
    """Regions whose features are kept: 290 image positions each."""
    steps: int = 300
    tokens: int = 1024
    """Of a step."""
    lr: float = 2e-3


@dataclass(frozen=True, kw_only=True)
class PageReadingConfig:
    """What the stage sees in a step."""

    seed: int = 0
    first: int = 0
    """Steps of earlier runs: data goes on behind theirs."""
    grids: tuple[GridStage, ...] = GRIDS
    asked: PageLmConfig = field(default_factory=lambda: PageLmConfig(em=(9.0, 40.0)))
    """Sizes of type, share of drawn pages, questions and transcriptions."""
    largest: float = 1.25
    """Most that a page is drawn larger: pixels that were not there."""
    characters: float = 0.5
    """Weight of naming the characters of the image tokens."""
    blank: float = 0.3
    """Weight of an empty slot in that."""
    wear: WearConfig = field(default_factory=WearConfig)
    fit: ProjectorFit = field(default_factory=ProjectorFit)


@dataclass(frozen=True, kw_only=True)
class PageView:
    """A region with its pixels."""

    text: PageText
    picture: np.ndarray
    """(height, width, 3) uint8."""


class PageReader(nn.Module):
    """A whole model, and the readout of the characters of its image tokens."""

    def __init__(self, config: IxcConfig, *, seed: int = 0) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.model = IxcForConditionalGeneration(config)
        self.slot_tokens = SlotEmbedding(config.text_config.hidden_size)

    @property
    def table(self) -> Tensor:
        """Token embeddings (V, D)."""
        return cast(nn.Embedding, self.model.get_input_embeddings()).weight

    def image_tokens(self, views: Sequence[PageView], grid: tuple[int, int]) -> Tensor:
        """Image tokens (B, N, D) of regions that fill one grid of tiles."""
        pixels = torch.cat([view_tiles(view, grid) for view in views])
        inner = self.model.model
        with bf16_cpu.tower_attention(inner.vision_tower):
            return torch.stack(inner.get_image_features(pixels, torch.tensor([grid] * len(views))).pooler_output)

    @torch.no_grad()
    def tie(self) -> None:
        """Give the output head the embeddings, as every stage reads it."""
        cast(nn.Linear, self.model.output).weight.copy_(self.table)


def view_tiles(view: PageView, grid: tuple[int, int]) -> Tensor:
    """Tiles (h * w, 3, 336, 336) uint8 of a region under the partition rule `native` (spec e)."""
    place = partition(view.text.width, view.text.height, hd=grid[0] * grid[1], rule="native")
    return torch.from_numpy(tiles(resize_to_canvas(Image.fromarray(view.picture), partition=place), tile=TILE))


class PageReadingTask:
    """The stage as a task of the training loop."""

    name = "page_reading"

    def __init__(self, config: PageReadingConfig, pages: Sequence[Path], model: PageReader) -> None:
        """
        Args:
            pages: folders of `ixc data pages` or `ixc data typeset`; each is drawn from equally often.
        """
        self.config, self.model = config, model
        self.places = folder_places(pages)

    def blocks(self) -> nn.Module:
        """Transformer blocks of the vision encoder and of the language model."""
        inner = self.model.model.model
        return nn.ModuleList([inner.vision_tower.encoder, inner.language_model.layers])

    def step(self, number: int) -> StepResult:
        """Cross entropy of the answers to a step's questions, and of the characters of its image tokens."""
        number += self.config.first
        rng = np.random.default_rng([self.config.seed, number])
        torch.manual_seed(self.config.seed * 1_000_003 + number)  # dropout of PLoRA
        stage = draw_grid(rng, self.config.grids, number)
        views: dict[int, PageView] = {}
        name, ask = (
            ("transcribed", transcribe) if rng.random() < self.config.asked.transcription else ("answered", questions)
        )
        regions, asked = ask(self._draw(stage, rng, views), self.config.asked, stage, rng)
        shown = [views[id(region)] for region in regions]
        image = self.model.image_tokens(shown, stage.grid)
        loss, scores = asked_loss(self.model.model.model.language_model, image, asked)
        wrong, named = self._named(image, shown, stage)
        result = {f"{name}_{k}": v for k, v in scores.items()} | {"characters": named}
        return StepResult(loss=loss + self.config.characters * wrong, examples=len(shown), scores=result)

    def _draw(self, stage: GridStage, rng: Generator, views: dict[int, PageView]) -> Callable[[], PageText]:
        """What draws regions for questions; the pixels of each are kept in `views` by its identity."""

        def draw() -> PageText:
            view = draw_view(self.config, self.places, stage, rng)
            views[id(view.text)] = view
            return view.text

        return draw

    def _named(self, image: Tensor, views: Sequence[PageView], stage: GridStage) -> tuple[Tensor, float]:
        tokens = [region_tokens(view.text, hd=stage.grid[0] * stage.grid[1]) for view in views]
        classes, special = stack(tokens)
        place = special == 0
        logits = self.model.slot_tokens.readout(image[place], self.model.table.detach())
        return slot_loss(logits, classes[place], blank=self.config.blank)


def stack(tokens: Sequence[SlotTokens]) -> tuple[Tensor, Tensor]:
    """Classes (B, N, SLOTS) and special (B, N) of images of one grid."""
    return tuple(torch.from_numpy(np.stack([getattr(one, k) for one in tokens])) for k in ("classes", "special"))  # type: ignore[return-value]


def draw_view(
    config: PageReadingConfig, places: Sequence[Sequence[Place]], stage: GridStage, rng: Generator
) -> PageView:
    """A region of a real or a drawn page with its pixels, worn by chance; or by chance a picture without text."""
    if rng.random() < config.asked.empty:
        text = empty_region(stage, rng)
        return PageView(text=text, picture=worn(empty_picture(text.width, text.height, rng), rng, config.wear))
    while True:
        if rng.random() < config.asked.drawn:
            page = compose(int(rng.integers(1 << 39)), hd=int(rng.choice((1, 4, 9))))
            text, picture = drawn_page_text(page), np.asarray(paint(page))
        else:
            path, number = draw_place(places, rng)
            text = read_page_text(path, number)
            picture = next(read_pages(path, [number]))[0].picture if len(text) else np.empty(0)
        if not len(text):
            continue
        box = draw_region_box(text, rng, grid=stage.grid, em=config.asked.em, largest=config.largest)
        region = cut(text, box)
        if len(region) >= 4:
            return PageView(text=region, picture=worn(cut_picture(picture, box), rng, config.wear))


def fit_projector(task: PageReadingTask) -> float:
    """Fit projector, newline and separator to the tokens of stage 2; returns the share of characters named rightly.

    A ridge regression first, then steps on the cross entropy of the characters and the distance to the tokens.
    """
    config, reader = task.config, task.model
    inner, fit = reader.model.model, config.fit
    torch.manual_seed(config.seed)
    features, classes = _stored_features(task)
    with torch.no_grad():
        wanted = reader.slot_tokens(classes[None], torch.zeros(1, len(classes), dtype=torch.long), reader.table)[0]
        start_projector(inner.vision_proj, features, wanted)
    vectors = [inner.plora_sub_GN, inner.plora_glb_GN]
    for vector in vectors:
        nn.init.normal_(vector, std=float(features.std()))
    groups = [
        {"params": [*inner.vision_proj.parameters()]},
        {"params": vectors, "lr": fit.lr * float(features.std(0).mean())},
    ]
    optimizer = torch.optim.AdamW(groups, lr=fit.lr, betas=(0.9, 0.98), weight_decay=0.0)
    set_rate([optimizer], 1.0)
    marks, table, named = reader.slot_tokens.special_embeddings.detach(), reader.table.detach(), 0.0
    for step in range(fit.steps):
        rows = torch.randint(len(features), (min(fit.tokens, len(features)),))
        given = inner.vision_proj(torch.cat([features[rows], *(v.view(1, -1) for v in vectors)]))
        wrong, named = slot_loss(reader.slot_tokens.readout(given[:-2], table), classes[rows], blank=config.blank)
        distance = (given - torch.cat([wanted[rows], marks])).square().sum(-1)
        (wrong + 0.2 * distance[:-2].mean() + 0.2 * distance[-2:].mean()).backward()
        set_rate([optimizer], min(1.0, (step + 1) / 20) * (1 - step / fit.steps))
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    return named


@torch.no_grad()
def _stored_features(task: PageReadingTask) -> tuple[Tensor, Tensor]:
    """Features (n, 4 C) before the projector and classes (n, SLOTS) of the image positions of many regions."""
    config, inner = task.config, task.model.model.model
    stage, rng = config.grids[0], np.random.default_rng([config.seed, 1 << 40])
    features, classes = [], []
    for _ in range(config.fit.regions):
        view = draw_view(config, task.places, stage, rng)
        hidden = inner.image_sequences(view_tiles(view, stage.grid), torch.tensor([stage.grid]))[0]
        tokens = region_tokens(view.text, hd=stage.grid[0] * stage.grid[1])
        place = torch.from_numpy(tokens.special) == 0
        features.append(hidden[place])
        classes.append(torch.from_numpy(tokens.classes)[place])
    return torch.cat(features), torch.cat(classes)


__all__ = ["GRIDS", "PageReader", "PageReadingConfig", "PageReadingTask", "PageView", "ProjectorFit", "fit_projector"]
