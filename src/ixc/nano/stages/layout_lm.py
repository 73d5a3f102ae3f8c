"""Layout pre-training: the language model answers questions about glyph tokens, over the curriculum.

    page -> GlyphTokens -> GlyphTokenEmbedding -> Decoder (block mask over packed questions) -> answer characters

All random numbers of a step come from (seed, step), so a resumed run continues exactly as an unbroken one.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import cast

import numpy as np
import torch
from torch import Tensor, nn

from ixc.model.configuration import IxcTextConfig
from ixc.model.decoder import Decoder, TextBlock
from ixc.nano import state
from ixc.nano.accuracy import GradedPages, by_kind, graded_answers
from ixc.nano.data.curriculum import CURRICULUM, FINAL_MIX, CurriculumStage, draw_stage, same_shape
from ixc.nano.data.glyph_tokens import GlyphTokenEmbedding, GlyphTokens
from ixc.nano.data.question_packing import choose
from ixc.nano.losses.answers import AnswerObjective, answer_loss
from ixc.nano.optim import Muon
from ixc.nano.step_report import StageLog, Watch, running
from ixc.synth.config import FAMILY, PageFamily


@dataclass(frozen=True, kw_only=True)
class LayoutLmConfig:
    """Numbers of the layout pre-training."""

    text: IxcTextConfig
    family: PageFamily = FAMILY
    curriculum: tuple[CurriculumStage, ...] = CURRICULUM
    """Stages of the curriculum, smallest first."""
    final_mix: tuple[float, ...] = FINAL_MIX
    """Shares of the stages once the last one is reached."""
    seed: int = 5
    steps: int = 9000
    decay_from: int = 5500
    """Step up to which the learning rate is constant; then it falls linearly to 0 at `steps`."""
    muon_lr: float = 0.01
    adam_lr: float = 2e-3
    noise: float = 0.3
    plora: bool = True
    """Train PLoRA from the first step; False: in the joint stage only, which saves a fifth of this stage's time."""
    advance: float = 0.7
    """Exact match (running mean) at which the next stage begins."""
    save_every: int = 100
    pace: float = 1.3
    """Expected seconds a step, for the estimate of the time left."""


class LayoutLm(nn.Module):
    """The decoder with its tied output head and the embedding of glyph tokens."""

    def __init__(self, config: IxcTextConfig, *, seed: int) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.decoder = Decoder(config)
        self.glyph_tokens = GlyphTokenEmbedding(config.hidden_size)
        prepare(self.decoder)

    def embed_image(self, glyph_tokens: list[GlyphTokens], *, noise: float) -> Tensor:
        """B images of N tokens -> (B, N, D)."""
        stacked = (
            torch.from_numpy(np.stack([getattr(s, k) for s in glyph_tokens])) for k in ("chars", "rows", "special")
        )
        return self.glyph_tokens(*stacked, self.decoder.tok_embeddings.weight, noise=noise)


def prepare(decoder: Decoder) -> None:
    """Initialise for training from scratch: unit-norm embeddings, residual branches that add nothing."""
    width = decoder.config.hidden_size
    nn.init.normal_(cast(nn.Embedding, decoder.tok_embeddings).weight, std=width**-0.5)
    for layer in (cast(TextBlock, layer) for layer in decoder.layers):
        for linear in (layer.attention.wqkv, layer.feed_forward.w1, layer.feed_forward.w3):
            nn.init.normal_(linear.base.weight, std=width**-0.5)
        for linear in (layer.attention.wo, layer.feed_forward.w2):
            nn.init.zeros_(linear.base.weight)


def optimisers(model: nn.Module, blocks: nn.Module, *, muon_lr: float, adam_lr: float) -> list[torch.optim.Optimizer]:
    """Build Muon for the matrices of the blocks and AdamW for the rest (embeddings, norms, PLoRA)."""
    inside = {id(p) for n, p in blocks.named_parameters() if p.ndim == 2 and "Plora" not in n}
    matrices = [p for p in model.parameters() if id(p) in inside]
    others = [p for p in model.parameters() if id(p) not in inside]
    return [Muon(matrices, lr=muon_lr), torch.optim.AdamW(others, lr=adam_lr, betas=(0.9, 0.98), weight_decay=0.0)]


def set_rate(optimisers: list[torch.optim.Optimizer], rate: float) -> None:
    """Set every group's learning rate to `rate` times its peak, the rate at the first call."""
    for optimiser in optimisers:
        for group in optimiser.param_groups:
            group.setdefault("peak", group["lr"])
            group["lr"] = group["peak"] * rate


def rate_at(step: int, *, steps: int, decay_from: int, warmup: int = 50) -> float:
    """Learning rate as a share of the peak: linear warm-up, constant, then linearly to zero."""
    return min(1.0, (step + 1) / warmup, max(0.0, (steps - step) / max(1, steps - decay_from)))


@dataclass
class LayoutLmProgress:
    """Step, stage of the curriculum and running means."""

    step: int = 0
    reached: int = 0
    exact: list[float] = field(default_factory=lambda: [0.0] * len(CURRICULUM))
    """Running mean of exact match on unseen pages by stage."""
    kinds: dict[str, float] = field(default_factory=dict)
    """Running mean of exact match by kind of page."""

    def update(self, graded: GradedPages) -> None:
        """Update the running means by kind of page."""
        for page, share in by_kind(graded)[0].items():
            running(self.kinds, page, share, keep=0.96)

    def scores(self) -> dict[str, float]:
        """Values for the log: the stage of the curriculum reached, from 1, its exact match, exact match by kind."""
        kinds = dict(sorted(self.kinds.items()))
        return {"curriculum_stage": self.reached + 1, "exact_match": self.exact[self.reached], **kinds}


def run(recipe: LayoutLmConfig, out: Path, *, watch: Watch | None = None) -> LayoutLm:
    """Train from nothing, or resume from `out/layout_lm.pt`."""
    model = LayoutLm(recipe.text, seed=recipe.seed)
    optims = optimisers(model, model.decoder.layers, muon_lr=recipe.muon_lr, adam_lr=recipe.adam_lr)
    set_rate(optims, 1.0)
    progress = LayoutLmProgress(exact=[0.0] * len(recipe.curriculum))
    path = out / "layout_lm.pt"
    if (saved := state.load(path, old="language.pt")) is not None:
        model.load_state_dict(saved["model"])
        for optim, values in zip(optims, saved["optims"], strict=True):
            optim.load_state_dict(values)
        progress = LayoutLmProgress(**{f.name: saved["progress"][f.name] for f in fields(LayoutLmProgress)})
    log = StageLog("layout_lm", recipe.steps, out, watch)

    def save() -> None:
        optimised = [o.state_dict() for o in optims]
        state.save({"model": model.state_dict(), "optims": optimised, "progress": asdict(progress)}, path)

    while progress.step < recipe.steps:
        loss, tokens = train_step(model, optims, recipe, progress)
        progress.step += 1
        if progress.exact[progress.reached] >= recipe.advance and progress.reached < len(recipe.curriculum) - 1:
            progress.reached += 1
        log(progress.step, loss=loss, tokens=tokens, scores=progress.scores())
        if progress.step % recipe.save_every == 0:
            save()
    save()
    return model


def train_step(
    model: LayoutLm, optims: list[torch.optim.Optimizer], recipe: LayoutLmConfig, progress: LayoutLmProgress
) -> tuple[float, int]:
    """One step on one stage of the curriculum -> loss, tokens; updates the running means of `progress`."""
    rng = np.random.default_rng([recipe.seed, progress.step])
    number = draw_stage(rng, progress.reached, recipe.final_mix)
    stage = recipe.curriculum[number]
    torch.manual_seed(recipe.seed * 1_000_003 + progress.step)
    pages = same_shape(rng, stage, recipe.family)
    shown = [page for page, _ in pages]
    asked = [choose(rng, page.questions, stage.questions) for page in shown]
    image = model.embed_image([s for _, s in pages], noise=recipe.noise)
    form = "key" if rng.random() < stage.short else "turn"
    objective = AnswerObjective(hd=stage.hd, plora=recipe.plora, form=form)
    (loss, _), right, tokens = answer_loss(model.decoder, image, shown, asked, objective)
    loss.backward()
    nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    set_rate(optims, rate_at(progress.step, steps=recipe.steps, decay_from=recipe.decay_from))
    for optim in optims:
        optim.step()
        optim.zero_grad(set_to_none=True)
    progress.update(graded_answers(shown, asked, right))
    exact, mean = right.float().mean().item(), progress.exact[number]
    progress.exact[number] = exact if mean == 0 else 0.96 * mean + 0.04 * exact
    return loss.item(), tokens
