"""Initialise the projector on glyph tokens, then train vision encoder, projector and language model jointly.

    page -> pixels -> tiles -> IxcModel.image_sequences -> vision_proj -> image tokens
    projector_init  fits projector, newline and separator on stored features: classify the characters of each token,
                    and stay near its glyph token
    joint           packed questions after real image tokens; everything learns, the tower late and at a smaller rate.
                    Image tokens are also classified (`character_loss_weight`), so that every character of a page
                    gives a gradient, not only the answers

Shapes: N image tokens, F = 4 * vision width, D width of the language model.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
import torch
from numpy.random import Generator
from torch import Tensor, nn

from ixc.core.tiling import TILE, partition
from ixc.model.configuration import IxcConfig
from ixc.model.modeling import IxcForConditionalGeneration
from ixc.nano import bf16_cpu, state
from ixc.nano.accuracy import GradedPages, by_kind, graded_answers, know
from ixc.nano.data.glyph_tokens import GlyphTokenEmbedding, page_glyph_tokens
from ixc.nano.data.line_copying import questions_or_copying
from ixc.nano.data_parallel import DataParallel
from ixc.nano.losses.answers import AnswerObjective, answer_loss
from ixc.nano.losses.attention_supervision import AttentionSupervision
from ixc.nano.losses.probes import AuxiliaryProbes
from ixc.nano.optim import Muon
from ixc.nano.stages.layout_lm import rate_at, set_rate
from ixc.nano.stages.ocr_alignment import character_loss
from ixc.nano.step_report import StageLog, Watch, running
from ixc.processing.canvas import resize_to_canvas, tiles
from ixc.synth.config import FAMILY, PageFamily
from ixc.synth.degradation import maybe_degraded
from ixc.synth.page import DrawnPage
from ixc.synth.page_sampling import compose
from ixc.synth.render import paint

BLANK = 0.3  # weight of the class `no character`, as in the stages before
BENT = 3.0  # bias at which GELU is the identity within 0.005


@dataclass(frozen=True, kw_only=True)
class JointConfig:
    """Options of the last two stages."""

    family: PageFamily = FAMILY
    seed: int = 9
    projector_init_pages: tuple[tuple[int, int], ...] = ((1, 400), (4, 150), (9, 50))
    """(HD, number of pages) whose features are stored."""
    projector_init_steps: int = 2000
    projector_init_tokens: int = 3072
    """Tokens a step of the projector initialisation."""
    projector_init_lr: float = 2e-3
    steps: int = 3000
    muon_lr: float = 0.004
    adam_lr: float = 5e-4
    projector_share: float = 0.4
    """Learning rate of projector, newline and separator as a share of the others': they start well fitted."""
    tower_share: float = 0.5
    """Learning rate of the vision tower as a share of the others'."""
    tower_from: float = 0.5
    """Share of the steps after which the tower is trained; before, it is frozen, which saves a third of the cost."""
    tower_most: int = 16
    """Largest HD at which the tower is trained: above it, its activations are not worth the memory."""
    shares: tuple[tuple[int, int, int, float], ...] = ((1, 6, 12, 0.3), (4, 2, 24, 0.34), (9, 1, 24, 0.36))
    """(HD, pages a step, questions a page, share of the steps)."""
    data_parallel: int = 1
    """Replicas of a step: each draws its own pages and has a core where there is one; gradients are averaged."""
    copy_task_share: float = 0.0
    """Share of the steps that copy lines of text (`line_copying.py`) instead of answering questions."""
    extra_questions: bool = False
    """Ask the pages' extra questions beside their questions."""
    focused: bool = False
    """Sample kinds of question most that are answered right half of the time (`question_packing.worth`)."""
    attention_supervision: tuple[AttentionSupervision, ...] = ()
    """Attention heads with supervised targets."""
    probes: tuple[int, float] | None = None
    """Layer whose output the first auxiliary probe reads, and the weight of their loss; None: no probes."""
    character_loss_weight: float = 0.3
    """Weight of classifying the characters of the image tokens."""
    save_every: int = 50
    pace: float = 1.4
    """Expected seconds a step, for the estimate of the time left."""
    projector_init_pace: float = 0.1
    """Expected seconds a step of the projector initialisation, storing the pages included."""


def token_embeddings(model: IxcForConditionalGeneration) -> Tensor:
    """Token embedding matrix (V, D) of the language model."""
    return cast(nn.Embedding, model.get_input_embeddings()).weight


def page_tiles(page: DrawnPage, *, hd: int, degraded: float = 0.0) -> tuple[Tensor, tuple[int, int]]:
    """Tiles (n, 3, 336, 336) uint8 of a page and its grid under the `native` rule; degraded with this probability."""
    place = partition(page.width, page.height, hd=hd, rule="native")
    picture = maybe_degraded(paint(page), np.random.default_rng([page.number, 29]), degraded)
    return torch.from_numpy(tiles(resize_to_canvas(picture, partition=place), tile=TILE)), (
        place.grid_h,
        place.grid_w,
    )


def pages_for(rng: Generator, family: PageFamily = FAMILY, *, hd: int, count: int) -> tuple[list[DrawnPage], int]:
    """Draw the pages of one step, all of one grid, and the HD they are encoded at."""
    found: list[DrawnPage] = []
    grid = None
    setting = 16 if hd == 9 and rng.random() < 0.2 else hd
    while len(found) < count:
        page = compose(int(rng.integers(1 << 39)), hd=hd, family=family)
        place = partition(page.width, page.height, hd=setting, rule="native")
        if page.questions and grid in (None, (place.grid_h, place.grid_w)):
            grid = (place.grid_h, place.grid_w)
            found.append(page)
    return found, setting


def encode_pages(pages: list[DrawnPage], *, hd: int, degraded: float = 0.0) -> tuple[Tensor, Tensor]:
    """Make the model's pixel_values and image_grids from pages."""
    encoded = [page_tiles(page, hd=hd, degraded=degraded) for page in pages]
    return torch.cat([pixels for pixels, _ in encoded]), torch.tensor([grid for _, grid in encoded])


def ground_truth(pages: list[DrawnPage], *, hd: int) -> tuple[Tensor, Tensor]:
    """Ground-truth characters (B, N, SLOTS) and special tokens (B, N) of pages of one grid."""
    glyph_tokens = [page_glyph_tokens(page, hd=hd) for page in pages]
    return torch.from_numpy(np.stack([s.chars for s in glyph_tokens])), torch.from_numpy(
        np.stack([s.special for s in glyph_tokens])
    )


def targets(pages: list[DrawnPage], embedding: GlyphTokenEmbedding, table: Tensor, *, hd: int) -> Tensor:
    """Embed the glyph tokens of the pages without noise: (sum of N, D)."""
    embedded = []
    for page in pages:
        s = page_glyph_tokens(page, hd=hd)
        parts = (torch.from_numpy(a)[None] for a in (s.chars, s.rows, s.special))
        embedded.append(embedding(*parts, table, noise=0.0)[0])
    return torch.cat(embedded)


@torch.no_grad()
def stored(
    model: IxcForConditionalGeneration, embedding: GlyphTokenEmbedding, recipe: JointConfig
) -> tuple[Tensor, Tensor, Tensor]:
    """Encode many pages; returns per image position features (n, F), glyph tokens (n, D), characters (n, SLOTS)."""
    inner, table = model.model, token_embeddings(model)
    features, embedded, letters = [], [], []
    rng = np.random.default_rng([recipe.seed, 0])
    for hd, count in recipe.projector_init_pages:
        for _ in range(count):
            pages, setting = pages_for(rng, recipe.family, hd=hd, count=1)
            x = torch.cat(inner.image_sequences(*encode_pages(pages, hd=setting, degraded=recipe.family.degraded)))
            place = x.abs().sum(-1) > 0  # newline and separator are still zero
            features.append(x[place])
            embedded.append(targets(pages, embedding, table, hd=setting)[place])
            letters.append(torch.from_numpy(page_glyph_tokens(pages[0], hd=setting).chars)[place])
    return torch.cat(features), torch.cat(embedded), torch.cat(letters)


@torch.no_grad()
def start_projector(projector: nn.Sequential, x: Tensor, y: Tensor) -> None:
    """Fit a ridge regression from features to glyph tokens, as a two-layer map whose GELU stays in its linear range."""
    mean, spread = x.mean(0), x.std(0) + 1e-3
    z = (x - mean) / spread
    gram = z.T @ z / len(z) + 0.1 * torch.eye(z.shape[1])
    weight = torch.linalg.solve(gram, z.T @ (y - y.mean(0)) / len(z)).T  # (D, F)
    bend = 0.5 / (z @ weight.T).std(0).clamp(min=1e-3)  # hidden deviation of one half around BENT
    first, second = cast(nn.Linear, projector[0]), cast(nn.Linear, projector[2])
    first.weight.copy_(bend[:, None] * weight / spread)
    first.bias.copy_(BENT - first.weight @ mean)
    second.weight.copy_(torch.diag(1 / bend))
    second.bias.copy_(y.mean(0) - BENT / bend)


def init_projector(
    model: IxcForConditionalGeneration,
    embedding: GlyphTokenEmbedding,
    recipe: JointConfig,
    log: Callable[..., None] | None = None,
) -> float:
    """Fit projector, newline and separator to the glyph tokens; returns the last mean squared distance a token."""
    inner = model.model
    torch.manual_seed(recipe.seed)
    x, y, letters = stored(model, embedding, recipe)
    table = token_embeddings(model).detach()
    start_projector(inner.vision_proj, x, y)
    special_embeddings = [inner.plora_sub_GN, inner.plora_glb_GN]
    for vector in special_embeddings:
        nn.init.normal_(vector, std=float(x.std()))
    scale = x.std(0).mean()
    parameters = [
        {"params": [*inner.vision_proj.parameters()]},
        {"params": special_embeddings, "lr": recipe.projector_init_lr * float(scale)},
    ]
    optim = torch.optim.AdamW(parameters, lr=recipe.projector_init_lr, betas=(0.9, 0.98), weight_decay=0.0)
    set_rate([optim], 1.0)
    chance = 0.2 + 0.8 * (y.abs().sum(-1) > 0)  # places with letters are drawn more often
    loss = 0.0
    for step in range(recipe.projector_init_steps):
        rows = torch.multinomial(chance, min(recipe.projector_init_tokens, len(x)), replacement=True)
        shown = inner.vision_proj(torch.cat([x[rows], *(v.view(1, -1) for v in special_embeddings)]))
        distance = ((shown - torch.cat([y[rows], embedding.special_embeddings.detach()])) ** 2).sum(-1)
        wrong, _ = character_loss(shown[: len(rows)], letters[rows], embedding, table, blank=BLANK)
        (0.2 * distance.mean() + wrong).backward()
        set_rate(
            [optim],
            rate_at(step, steps=recipe.projector_init_steps, decay_from=recipe.projector_init_steps // 4, warmup=20),
        )
        optim.step()
        optim.zero_grad(set_to_none=True)
        loss = float(distance.detach().mean())
        if log is not None:
            log(step + 1, loss=wrong.item(), tokens=len(rows), scores={"distance": loss})
    return loss


def groups(model: IxcForConditionalGeneration, recipe: JointConfig) -> list[torch.optim.Optimizer]:
    """Build Muon for block matrices and AdamW for the rest, with the tower at its share of the learning rate."""
    inner = model.model
    blocks = {"text": inner.language_model.layers, "tower": inner.vision_tower.encoder.layers}
    matrix = {k: [p for n, p in b.named_parameters() if p.ndim == 2 and "Plora" not in n] for k, b in blocks.items()}
    taken = {id(p) for ps in matrix.values() for p in ps} | {id(model.output.weight)}
    tower = [p for p in inner.vision_tower.parameters() if id(p) not in taken]
    taken |= {id(p) for p in tower}
    joints = [*inner.vision_proj.parameters(), inner.plora_sub_GN, inner.plora_glb_GN]
    taken |= {id(p) for p in joints}
    rest = [p for p in model.parameters() if id(p) not in taken]
    muon = Muon(
        [{"params": matrix["text"]}, {"params": matrix["tower"], "lr": recipe.muon_lr * recipe.tower_share}],
        lr=recipe.muon_lr,
    )
    adam = torch.optim.AdamW(
        [
            {"params": rest},
            {"params": joints, "lr": recipe.adam_lr * recipe.projector_share},
            {"params": tower, "lr": recipe.adam_lr * recipe.tower_share},
        ],
        lr=recipe.adam_lr,
        betas=(0.9, 0.98),
        weight_decay=0.0,
    )
    return [muon, adam]


class Joint:
    """The last two stages on one model, resumable at any step."""

    def __init__(
        self,
        config: IxcConfig,
        recipe: JointConfig,
        out: Path,
        watch: Watch | None = None,
        parallel: DataParallel | None = None,
    ) -> None:
        self.recipe, self.out, self.watch = recipe, out, watch
        self.parallel = parallel or DataParallel(recipe.data_parallel)
        self.path = out / "joint.pt"
        torch.manual_seed(recipe.seed)
        self.model = IxcForConditionalGeneration(config)
        self.glyph_tokens = GlyphTokenEmbedding(config.text_config.hidden_size)
        self.probes = None
        self.step = 0
        self.exact: dict[str, float] = {}
        self.asked: dict[str, dict[str, float]] = {}
        self.optims = groups(self.model, recipe)
        if recipe.probes is not None:
            layer, weight = recipe.probes
            text = config.text_config
            self.probes = AuxiliaryProbes(text.hidden_size, head=text.head_dim, layer=layer, weight=weight)
            self.optims[1].add_param_group({"params": [*self.probes.parameters()], "lr": recipe.adam_lr})
        set_rate(self.optims, 1.0)

    def start(self, tower: dict[str, Tensor], decoder: dict[str, Tensor], glyph_tokens: dict[str, Tensor]) -> None:
        """Load what the first two stages learned and fit the projector between them; nothing is saved yet."""
        self.model.model.vision_tower.load_state_dict(tower)
        self.model.model.language_model.load_state_dict(decoder)
        self.glyph_tokens.load_state_dict(glyph_tokens)
        log = StageLog("projector_init", self.recipe.projector_init_steps, self.out, self.watch)
        init_projector(self.model, self.glyph_tokens, self.recipe, log)

    def load_aligned(self, vision: dict[str, Tensor]) -> None:
        """Load what the OCR alignment learned; entries that are not given stay."""
        wrong = self.model.model.load_state_dict(vision, strict=False).unexpected_keys
        assert not wrong, wrong

    def _tie(self) -> None:
        with torch.no_grad():
            cast(nn.Linear, self.model.output).weight.copy_(token_embeddings(self.model))

    def resume(self) -> bool:
        """Resume from the state on disk, if there is one."""
        if (saved := state.load(self.path)) is None:
            return False
        self.model.load_state_dict(saved["model"])
        self.glyph_tokens.load_state_dict(saved["glyph_tokens"])
        if self.probes is not None:
            self.probes.load_state_dict(saved["probes"])
        for optim, values in zip(self.optims, saved["optims"], strict=True):
            peaks = [group["peak"] for group in optim.param_groups]
            optim.load_state_dict(values)
            for group, peak in zip(optim.param_groups, peaks, strict=True):
                group["peak"] = peak  # the recipe's learning rates apply, should they have changed
        self.step, self.exact, self.asked = saved["step"], saved["exact"], saved.get("asked", {})
        return True

    def save(self) -> None:
        """Write the state."""
        self._tie()
        state.save(
            {
                "model": self.model.state_dict(),
                "glyph_tokens": self.glyph_tokens.state_dict(),
                "probes": {} if self.probes is None else self.probes.state_dict(),
                "optims": [o.state_dict() for o in self.optims],
                "step": self.step,
                "exact": self.exact,
                "asked": self.asked,
            },
            self.path,
        )

    def _image(self, pixels: Tensor, grids: Tensor, hd: int) -> Tensor:
        """Encode pages to image tokens (B, N, D); gradients reach the tower in the last part of the run only."""
        inner, late = self.model.model, self.step >= self.recipe.tower_from * self.recipe.steps
        inner.vision_tower.requires_grad_(late and hd <= self.recipe.tower_most)
        with bf16_cpu.tower_attention(inner.vision_tower):
            return torch.stack(inner.get_image_features(pixels, grids).pooler_output)

    def joint_step(self) -> tuple[float, int]:
        """Train one step; returns loss and tokens, and updates the running means `exact` and `asked`."""
        recipe, parallel = self.recipe, self.parallel
        rng = np.random.default_rng([recipe.seed, 2, self.step])
        chances = [share for *_, share in recipe.shares]
        share = recipe.shares[int(rng.choice(len(chances), p=chances))]
        copying = bool(recipe.copy_task_share and rng.random() < recipe.copy_task_share)
        own = [parallel.generator(rng, recipe.seed, 2, self.step, rank=rank) for rank in parallel.local_ranks]
        results = [self._backward(share, each, copying=copying) for each in own]
        learning = [*self.model.parameters(), *([] if self.probes is None else self.probes.parameters())]
        parallel.average_gradients(learning)
        nn.utils.clip_grad_norm_(learning, 1.0)
        set_rate(self.optims, rate_at(self.step, steps=recipe.steps, decay_from=recipe.steps // 3))
        for optim in self.optims:
            optim.step()
        for parameter in learning:
            parameter.grad = None
        self.step += 1
        results = parallel.gather(results)
        task = "line_copying" if copying else f"HD-{share[0]}"
        for _, _, right, characters, graded in results:
            kinds, asked = by_kind(graded)
            for name, value in {task: right, "characters": characters, **kinds}.items():
                running(self.exact, name, value)
            know(self.asked, asked)
        return sum(loss for loss, *_ in results) / len(results), sum(tokens for _, tokens, *_ in results)

    def _backward(
        self, share: tuple[int, int, int, float], rng: Generator, *, copying: bool
    ) -> tuple[float, int, float, float, GradedPages]:
        """Compute the gradients of one replica.

        Returns:
            Loss, tokens, exact match, share of characters recognised, graded answers.
        """
        recipe, (hd, count, asked, _) = self.recipe, share
        pages, setting = pages_for(rng, recipe.family, hd=hd, count=count)
        pixels, grids = encode_pages(pages, hd=setting, degraded=recipe.family.degraded)
        image = self._image(pixels, grids, setting)
        known = [self.asked.get(page.kind, {}) if recipe.focused else None for page in pages]
        chosen, form = questions_or_copying(
            rng, pages, asked, copying=copying, known=known, extra=recipe.extra_questions
        )
        objective = AnswerObjective(
            hd=setting, attention_supervision=recipe.attention_supervision, form=form, probes=self.probes
        )
        (loss, auxiliary), right, tokens = answer_loss(self.model.model.language_model, image, pages, chosen, objective)
        chars, special = ground_truth(pages, hd=setting)
        table = token_embeddings(self.model).detach()
        place = special == 0
        wrong, characters = character_loss(image[place], chars[place], self.glyph_tokens, table, blank=BLANK)
        (loss + auxiliary + recipe.character_loss_weight * wrong).backward()
        return loss.item(), tokens, right.float().mean().item(), characters, graded_answers(pages, chosen, right)

    def run(self) -> IxcForConditionalGeneration:
        """Train to the end."""
        is_main = self.parallel.is_main
        log = StageLog("joint", self.recipe.steps, self.out, self.watch) if is_main else None
        while self.step < self.recipe.steps:
            loss, tokens = self.joint_step()
            if log is None:
                continue
            log(self.step, loss=loss, tokens=tokens, scores=dict(sorted(self.exact.items())))
            if self.step % self.recipe.save_every == 0:
                self.save()
        if is_main:
            self.save()
        self.model.eval()
        return self.model
