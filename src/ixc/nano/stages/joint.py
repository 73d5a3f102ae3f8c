"""Eyes and hand meet: the projector learns to say what the symbols said, then everything answers from pixels.

    page -> pixels -> tiles -> IxcModel.image_sequences -> vision_proj -> image tokens
    align:  name the characters of each token, and stay near SymbolEmbedding(symbols); on stored features, the
            projector, newline and separator learn
    joint:  packed questions behind real image tokens; everything learns, the tower late and at a smaller rate; the
            image tokens still have to spell (`spelling`), so that every character of a page teaches, not only answers

Shapes: N image tokens, F = 4 * vision width, D width of the language model.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.random import Generator
from torch import Tensor, nn

from ixc.core.tiling import TILE, partition
from ixc.model.configuration import IxcConfig
from ixc.model.modeling import IxcForConditionalGeneration
from ixc.nano import bf16_cpu, state
from ixc.nano.accuracy import Marks, by_kind, know, marks_of
from ixc.nano.data.glyph_tokens import GlyphTokenEmbedding, page_symbols
from ixc.nano.data.line_copying import asked_or_read
from ixc.nano.data_parallel import DataParallel
from ixc.nano.losses.answers import asked_of
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

BLANK = 0.3  # weight of naming nothing, as in the stages before
BENT = 3.0  # bias at which GELU is the identity within 0.005


@dataclass(frozen=True, kw_only=True)
class JointConfig:
    """Numbers of the last two stages."""

    family: PageFamily = FAMILY
    seed: int = 9
    align_pages: tuple[tuple[int, int], ...] = ((1, 400), (4, 150), (9, 50))
    """HD and pages whose features are stored."""
    align_steps: int = 2000
    align_tokens: int = 3072
    """Tokens a step of the alignment."""
    align_lr: float = 2e-3
    steps: int = 3000
    muon_lr: float = 0.004
    adam_lr: float = 5e-4
    projector_share: float = 0.4
    """Rate of projector, newline and separator as a share of the others': they begin as a close fit."""
    tower_share: float = 0.5
    """Rate of the vision tower as a share of the others'."""
    tower_from: float = 0.5
    """The tower learns in the steps behind this share of them; before, it only looks (a third of the cost)."""
    tower_most: int = 16
    """At settings above this one the tower only looks: what learning at its size takes is not worth the memory."""
    shares: tuple[tuple[int, int, int, float], ...] = ((1, 6, 12, 0.3), (4, 2, 24, 0.34), (9, 1, 24, 0.36))
    """HD, pages a step, questions a page, share of the steps."""
    parts: int = 1
    """Of a step: each has pages of its own and a core where there is one; gradients are averaged."""
    aloud: float = 0.0
    """Share of the steps that read aloud (`aloud.py`) instead of being asked."""
    drilled: bool = False
    """The pages' drills are asked beside their questions."""
    focused: bool = False
    """Kinds of question half known are asked most, of each kind of page (`packing.worth`)."""
    pointers: tuple[AttentionSupervision, ...] = ()
    """Heads that are told where to look."""
    bearings: tuple[int, float] | None = None
    """A layer behind which image tokens are asked where they stand, and the weight of it; None: they are not."""
    spelling: float = 0.3
    """Weight of naming the characters of the image tokens."""
    save_every: int = 50
    pace: float = 1.4
    """Seconds that a step is expected to take, for the time left."""
    align_pace: float = 0.1
    """The same of the alignment, its stored pages counted in."""


def see(page: DrawnPage, *, hd: int, worn: float = 0.0) -> tuple[Tensor, tuple[int, int]]:
    """A page's tiles (n, 3, 336, 336) uint8 and its grid under the `native` rule; `worn`: with this chance."""
    place = partition(page.width, page.height, hd=hd, rule="native")
    picture = maybe_degraded(paint(page), np.random.default_rng([page.number, 29]), worn)
    return torch.from_numpy(tiles(resize_to_canvas(picture, partition=place), tile=TILE)), (
        place.grid_h,
        place.grid_w,
    )


def pages_for(rng: Generator, family: PageFamily = FAMILY, *, hd: int, count: int) -> tuple[list[DrawnPage], int]:
    """Pages of one grid for one step, and the setting they are seen at."""
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


def look(pages: list[DrawnPage], *, hd: int, worn: float = 0.0) -> tuple[Tensor, Tensor]:
    """Pages -> pixel_values and image_grids of the model."""
    seen = [see(page, hd=hd, worn=worn) for page in pages]
    return torch.cat([pixels for pixels, _ in seen]), torch.tensor([grid for _, grid in seen])


def written(pages: list[DrawnPage], *, hd: int) -> tuple[Tensor, Tensor]:
    """Characters (B, N, SLOTS) and marks (B, N) of pages of one grid."""
    symbols = [page_symbols(page, hd=hd) for page in pages]
    return torch.from_numpy(np.stack([s.chars for s in symbols])), torch.from_numpy(
        np.stack([s.marks for s in symbols])
    )


def targets(pages: list[DrawnPage], embedding: GlyphTokenEmbedding, table: Tensor, *, hd: int) -> Tensor:
    """What the symbols say of the pages, without noise: (sum of N, D)."""
    said = []
    for page in pages:
        s = page_symbols(page, hd=hd)
        parts = (torch.from_numpy(a)[None] for a in (s.chars, s.rows, s.marks))
        said.append(embedding(*parts, table, noise=0.0)[0])
    return torch.cat(said)


@torch.no_grad()
def stored(
    model: IxcForConditionalGeneration, embedding: GlyphTokenEmbedding, recipe: JointConfig
) -> tuple[Tensor, Tensor, Tensor]:
    """Of the places of many pages: features (n, F), what the symbols say (n, D), the characters (n, SLOTS)."""
    inner, table = model.model, model.get_input_embeddings().weight
    features, said, letters = [], [], []
    rng = np.random.default_rng([recipe.seed, 0])
    for hd, count in recipe.align_pages:
        for _ in range(count):
            pages, setting = pages_for(rng, recipe.family, hd=hd, count=1)
            x = torch.cat(inner.image_sequences(*look(pages, hd=setting, worn=recipe.family.worn)))
            place = x.abs().sum(-1) > 0  # newline and separator are still zero
            features.append(x[place])
            said.append(targets(pages, embedding, table, hd=setting)[place])
            letters.append(torch.from_numpy(page_symbols(pages[0], hd=setting).chars)[place])
    return torch.cat(features), torch.cat(said), torch.cat(letters)


@torch.no_grad()
def start_projector(projector: nn.Sequential, x: Tensor, y: Tensor) -> None:
    """Ridge regression from features to symbols, written as a two-layer map whose GELU is kept in its straight part."""
    mean, spread = x.mean(0), x.std(0) + 1e-3
    z = (x - mean) / spread
    gram = z.T @ z / len(z) + 0.1 * torch.eye(z.shape[1])
    weight = torch.linalg.solve(gram, z.T @ (y - y.mean(0)) / len(z)).T  # (D, F)
    bend = 0.5 / (z @ weight.T).std(0).clamp(min=1e-3)  # hidden deviation of one half around BENT
    first, second = projector[0], projector[2]
    first.weight.copy_(bend[:, None] * weight / spread)
    first.bias.copy_(BENT - first.weight @ mean)
    second.weight.copy_(torch.diag(1 / bend))
    second.bias.copy_(y.mean(0) - BENT / bend)


def align(
    model: IxcForConditionalGeneration,
    embedding: GlyphTokenEmbedding,
    recipe: JointConfig,
    tell: Callable[..., None] | None = None,
) -> float:
    """Fit projector, newline and separator to the symbols; returns the last mean squared distance a token."""
    inner = model.model
    torch.manual_seed(recipe.seed)
    x, y, letters = stored(model, embedding, recipe)
    table = model.get_input_embeddings().weight.detach()
    start_projector(inner.vision_proj, x, y)
    marks = [inner.plora_sub_GN, inner.plora_glb_GN]
    for vector in marks:
        nn.init.normal_(vector, std=float(x.std()))
    scale = x.std(0).mean()
    parameters = [
        {"params": [*inner.vision_proj.parameters()]},
        {"params": marks, "lr": recipe.align_lr * float(scale)},
    ]
    optim = torch.optim.AdamW(parameters, lr=recipe.align_lr, betas=(0.9, 0.98), weight_decay=0.0)
    set_rate([optim], 1.0)
    chance = 0.2 + 0.8 * (y.abs().sum(-1) > 0)  # places with letters are drawn more often
    loss = 0.0
    for step in range(recipe.align_steps):
        rows = torch.multinomial(chance, min(recipe.align_tokens, len(x)), replacement=True)
        shown = inner.vision_proj(torch.cat([x[rows], *(m.view(1, -1) for m in marks)]))
        distance = ((shown - torch.cat([y[rows], embedding.marks.detach()])) ** 2).sum(-1)
        wrong, _ = character_loss(shown[: len(rows)], letters[rows], embedding, table, blank=BLANK)
        (0.2 * distance.mean() + wrong).backward()
        set_rate([optim], rate_at(step, steps=recipe.align_steps, decay_from=recipe.align_steps // 4, warmup=20))
        optim.step()
        optim.zero_grad(set_to_none=True)
        loss = float(distance.detach().mean())
        if tell is not None:
            tell(step + 1, loss=wrong.item(), tokens=len(rows), scores={"far": loss})
    return loss


def groups(model: IxcForConditionalGeneration, recipe: JointConfig) -> list[torch.optim.Optimizer]:
    """Muon for block matrices, AdamW for the rest; the tower at its share of the rate."""
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
    """The two stages over one model, resumable at any step."""

    def __init__(
        self,
        config: IxcConfig,
        recipe: JointConfig,
        out: Path,
        watch: Watch | None = None,
        parts: DataParallel | None = None,
    ) -> None:
        self.recipe, self.out, self.watch = recipe, out, watch
        self.parts = parts or DataParallel(recipe.parts)
        self.path = out / "joint.pt"
        torch.manual_seed(recipe.seed)
        self.model = IxcForConditionalGeneration(config)
        self.symbols = GlyphTokenEmbedding(config.text_config.hidden_size)
        self.bearings = None
        self.step = 0
        self.exact: dict[str, float] = {}
        self.asked: dict[str, dict[str, float]] = {}
        self.optims = groups(self.model, recipe)
        if recipe.bearings is not None:
            layer, weight = recipe.bearings
            text = config.text_config
            self.bearings = AuxiliaryProbes(text.hidden_size, head=text.head_dim, layer=layer, weight=weight)
            self.optims[1].add_param_group({"params": [*self.bearings.parameters()], "lr": recipe.adam_lr})
        set_rate(self.optims, 1.0)

    def start(self, tower: dict[str, Tensor], decoder: dict[str, Tensor], symbols: dict[str, Tensor]) -> None:
        """Take over what the first two stages learned, and fit the projector between them; nothing is saved yet."""
        self.model.model.vision_tower.load_state_dict(tower)
        self.model.model.language_model.load_state_dict(decoder)
        self.symbols.load_state_dict(symbols)
        align(self.model, self.symbols, self.recipe, StageLog("align", self.recipe.align_steps, self.out, self.watch))

    def take(self, decoder: dict[str, Tensor], eyes: dict[str, Tensor]) -> None:
        """Take over what the language and spelling stages learned when they went on from one alphabet.

        Either may be empty: what the model has stays.
        """
        if decoder:
            self.model.model.language_model.load_state_dict(decoder)
        wrong = self.model.model.load_state_dict(eyes, strict=False).unexpected_keys
        assert not wrong, wrong

    def _tie(self) -> None:
        with torch.no_grad():
            self.model.output.weight.copy_(self.model.get_input_embeddings().weight)

    def resume(self) -> bool:
        """Go on from the state on disk, if there is one."""
        if (saved := state.load(self.path)) is None:
            return False
        self.model.load_state_dict(saved["model"])
        self.symbols.load_state_dict(saved["symbols"])
        if self.bearings is not None:
            self.bearings.load_state_dict(saved["bearings"])
        for optim, values in zip(self.optims, saved["optims"], strict=True):
            peaks = [group["peak"] for group in optim.param_groups]
            optim.load_state_dict(values)
            for group, peak in zip(optim.param_groups, peaks, strict=True):
                group["peak"] = peak  # the recipe's rates, should they have changed
        self.step, self.exact, self.asked = saved["step"], saved["exact"], saved.get("asked", {})
        return True

    def save(self) -> None:
        """Write the state."""
        self._tie()
        state.save(
            {
                "model": self.model.state_dict(),
                "symbols": self.symbols.state_dict(),
                "bearings": {} if self.bearings is None else self.bearings.state_dict(),
                "optims": [o.state_dict() for o in self.optims],
                "step": self.step,
                "exact": self.exact,
                "asked": self.asked,
            },
            self.path,
        )

    def _image(self, pixels: Tensor, grids: Tensor, hd: int) -> Tensor:
        """Image tokens (B, N, D); gradients reach the tower in the last part of the run only."""
        inner, late = self.model.model, self.step >= self.recipe.tower_from * self.recipe.steps
        inner.vision_tower.requires_grad_(late and hd <= self.recipe.tower_most)
        with bf16_cpu.eyes(inner.vision_tower):
            return torch.stack(inner.get_image_features(pixels, grids).pooler_output)

    def joint_step(self) -> tuple[float, int]:
        """One step of everything -> loss, tokens; `exact` and `asked` are brought forward."""
        recipe, parts = self.recipe, self.parts
        rng = np.random.default_rng([recipe.seed, 2, self.step])
        chances = [share for *_, share in recipe.shares]
        share = recipe.shares[int(rng.choice(len(chances), p=chances))]
        read = bool(recipe.aloud and rng.random() < recipe.aloud)
        draws = [parts.draws(rng, recipe.seed, 2, self.step, part=part) for part in parts.here]
        notes = [self._part(share, own, read=read) for own in draws]
        learning = [*self.model.parameters(), *([] if self.bearings is None else self.bearings.parameters())]
        parts.mean(learning)
        nn.utils.clip_grad_norm_(learning, 1.0)
        set_rate(self.optims, rate_at(self.step, steps=recipe.steps, decay_from=recipe.steps // 3))
        for optim in self.optims:
            optim.step()
        for parameter in learning:
            parameter.grad = None
        self.step += 1
        notes = parts.all(notes)
        for _, _, right, spelt, marks in notes:
            kinds, asked = by_kind(marks)
            for name, value in {"aloud" if read else f"HD-{share[0]}": right, "spelt": spelt, **kinds}.items():
                running(self.exact, name, value)
            know(self.asked, asked)
        return sum(loss for loss, *_ in notes) / len(notes), sum(tokens for _, tokens, *_ in notes)

    def _part(
        self, share: tuple[int, int, int, float], rng: Generator, *, read: bool
    ) -> tuple[float, int, float, float, Marks]:
        """Pages of one part of a step, forward and backward -> loss, tokens, exact match, share of letters named
        rightly, marks."""
        recipe, (hd, count, asked, _) = self.recipe, share
        pages, setting = pages_for(rng, recipe.family, hd=hd, count=count)
        pixels, grids = look(pages, hd=setting, worn=recipe.family.worn)
        image = self._image(pixels, grids, setting)
        known = [self.asked.get(page.kind, {}) if recipe.focused else None for page in pages]
        chosen, form = asked_or_read(rng, pages, asked, read=read, known=known, drilled=recipe.drilled)
        (loss, away), right, tokens = asked_of(
            self.model.model.language_model,
            image,
            pages,
            chosen,
            hd=setting,
            pointers=recipe.pointers,
            form=form,
            bearings=self.bearings,
        )
        chars, marks = written(pages, hd=setting)
        table = self.model.get_input_embeddings().weight.detach()
        wrong, spelt = character_loss(image[marks == 0], chars[marks == 0], self.symbols, table, blank=BLANK)
        (loss + away + recipe.spelling * wrong).backward()
        return loss.item(), tokens, right.float().mean().item(), spelt, marks_of(pages, chosen, right)

    def run(self) -> IxcForConditionalGeneration:
        """Train to the end."""
        writes = self.parts.writes
        tell = StageLog("joint", self.recipe.steps, self.out, self.watch) if writes else None
        while self.step < self.recipe.steps:
            loss, tokens = self.joint_step()
            if tell is None:
                continue
            tell(self.step, loss=loss, tokens=tokens, scores=dict(sorted(self.exact.items())))
            if self.step % self.recipe.save_every == 0:
                self.save()
        if writes:
            self.save()
        self.model.eval()
        return self.model
