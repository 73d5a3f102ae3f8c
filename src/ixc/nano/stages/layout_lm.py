"""The language model learns to read pages without pixels: the ladder of `lessons` on `symbols`.

    page -> symbols -> SymbolEmbedding -> Decoder (block mask over packed questions) -> answer characters

Everything a step draws comes from (seed, step, part), so a resumed run goes on exactly as the unbroken one.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import torch
from numpy.random import Generator
from torch import Tensor, nn

from ixc.model.configuration import IxcTextConfig
from ixc.model.decoder import Decoder
from ixc.nano import state
from ixc.nano.accuracy import Known, Marks, by_kind, know, marks_of
from ixc.nano.data.curriculum import ALL_REACHED, LESSONS, CurriculumStage, draw_lesson, same_shape
from ixc.nano.data.glyph_tokens import GlyphTokenEmbedding, GlyphTokens
from ixc.nano.data.line_copying import asked_or_read
from ixc.nano.data_parallel import DataParallel
from ixc.nano.losses.answers import asked_of
from ixc.nano.losses.attention_supervision import AttentionSupervision
from ixc.nano.losses.probes import AuxiliaryProbes
from ixc.nano.optim import Muon
from ixc.nano.step_report import StageLog, Watch, running
from ixc.synth.config import FAMILY, PageFamily


@dataclass(frozen=True, kw_only=True)
class LayoutLmConfig:
    """Numbers of the layout pre-training."""

    text: IxcTextConfig
    family: PageFamily = FAMILY
    lessons: tuple[CurriculumStage, ...] = LESSONS
    """The ladder, smallest first."""
    climbed: tuple[float, ...] = ALL_REACHED
    """Shares of the lessons once the last one is reached."""
    seed: int = 5
    steps: int = 9000
    decay_from: int = 5500
    """The rate is constant up to here, then falls linearly to 0 at `steps`."""
    muon_lr: float = 0.01
    adam_lr: float = 2e-3
    noise: float = 0.3
    plora: bool = True
    """PLoRA learns from the first; False: in the joint stage only, which saves a fifth of the time of this one."""
    parts: int = 1
    """Of a step: each has pages of its own and a core where there is one; gradients are averaged."""
    bearings: tuple[int, float] | None = None
    """Layer behind which image tokens are asked where they stand, and the weight of it (`bearings.py`)."""
    aloud: float = 0.0
    """Share of the steps on whole pages that read aloud (`aloud.py`) instead of being asked."""
    focused: bool = False
    """Kinds of question half known are asked most, of each kind of page (`packing.worth`)."""
    pointers: tuple[AttentionSupervision, ...] = ()
    """Heads that are told where to look."""
    advance: float = 0.7
    """Exact match (running mean) at which the next lesson begins."""
    save_every: int = 100
    pace: float = 1.3
    """Seconds that a step is expected to take, for the time left."""


class LayoutLm(nn.Module):
    """The decoder with its output head and the symbols' embedding."""

    def __init__(self, config: IxcTextConfig, *, seed: int) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.decoder = Decoder(config)
        self.symbols = GlyphTokenEmbedding(config.hidden_size)
        self.bearings: AuxiliaryProbes | None = None
        prepare(self.decoder)

    def embed_image(self, symbols: list[GlyphTokens], *, noise: float) -> Tensor:
        """B images of N tokens -> (B, N, D)."""
        stacked = (torch.from_numpy(np.stack([getattr(s, k) for s in symbols])) for k in ("chars", "rows", "marks"))
        return self.symbols(*stacked, self.decoder.tok_embeddings.weight, noise=noise)


def prepare(decoder: Decoder) -> None:
    """Start of training from scratch: unit-norm embeddings, silent residual branches (nano-scale models)."""
    width = decoder.config.hidden_size
    nn.init.normal_(decoder.tok_embeddings.weight, std=width**-0.5)
    for layer in decoder.layers:
        for linear in (layer.attention.wqkv, layer.feed_forward.w1, layer.feed_forward.w3):
            nn.init.normal_(linear.base.weight, std=width**-0.5)
        for linear in (layer.attention.wo, layer.feed_forward.w2):
            nn.init.zeros_(linear.base.weight)


def optimisers(model: nn.Module, blocks: nn.Module, *, muon_lr: float, adam_lr: float) -> list[torch.optim.Optimizer]:
    """Muon for the matrices of the blocks, AdamW for the rest (embeddings, norms, PLoRA)."""
    inside = {id(p) for n, p in blocks.named_parameters() if p.ndim == 2 and "Plora" not in n}
    matrices = [p for p in model.parameters() if id(p) in inside]
    others = [p for p in model.parameters() if id(p) not in inside]
    return [Muon(matrices, lr=muon_lr), torch.optim.AdamW(others, lr=adam_lr, betas=(0.9, 0.98), weight_decay=0.0)]


def set_rate(optimisers: list[torch.optim.Optimizer], rate: float) -> None:
    """Scale every group's rate relative to its first one."""
    for optimiser in optimisers:
        for group in optimiser.param_groups:
            group.setdefault("peak", group["lr"])
            group["lr"] = group["peak"] * rate


def rate_at(step: int, *, steps: int, decay_from: int, warmup: int = 50) -> float:
    """Linear warm-up, constant, then linearly to zero."""
    return min(1.0, (step + 1) / warmup, max(0.0, (steps - step) / max(1, steps - decay_from)))


@dataclass
class LayoutLmProgress:
    """Where the ladder stands."""

    step: int = 0
    reached: int = 0
    exact: list[float] = field(default_factory=lambda: [0.0] * len(LESSONS))
    """Running mean of exact match on unseen pages by lesson."""
    kinds: dict[str, float] = field(default_factory=dict)
    """The same by kind of page."""
    asked: Known = field(default_factory=dict)
    """The same by kind of page and of question."""
    aloud: float = 0.0
    """The same of what is read aloud."""

    def mark(self, marks: Marks) -> None:
        """Bring the means by kind forward."""
        kinds, asked = by_kind(marks)
        for page, share in kinds.items():
            running(self.kinds, page, share, keep=0.96)
        know(self.asked, asked)

    def scores(self) -> dict[str, float]:
        """What a report tells of it: the lesson reached, from 1, how it is read, exact match by kind."""
        aloud = {"aloud": self.aloud} if self.aloud else {}
        kinds = dict(sorted(self.kinds.items()))
        return {"lesson": self.reached + 1, "read": self.exact[self.reached], **aloud, **kinds}


def run(
    recipe: LayoutLmConfig,
    out: Path,
    *,
    watch: Watch | None = None,
    start: dict[str, Tensor] | None = None,
    parts: DataParallel | None = None,
) -> LayoutLm:
    """Train, or go on from `out/language.pt`; returns the reader.

    Args:
        start: weights of a reader that has climbed the ladder: all lessons are open, and the letters stand still, so
            that the spelling stage can run at the same time.
        parts: those of each step that this process does; None: all of them.
    """
    parts = parts or DataParallel(recipe.parts)
    reader = LayoutLm(recipe.text, seed=recipe.seed)
    if start is not None:
        reader.load_state_dict(start)
        reader.decoder.tok_embeddings.requires_grad_(False)
        reader.symbols.requires_grad_(False)
    if recipe.bearings is not None:
        layer, weight = recipe.bearings
        reader.bearings = AuxiliaryProbes(
            recipe.text.hidden_size, head=recipe.text.head_dim, layer=layer, weight=weight
        )
    optims = optimisers(reader, reader.decoder.layers, muon_lr=recipe.muon_lr, adam_lr=recipe.adam_lr)
    set_rate(optims, 1.0)
    climbed = len(recipe.lessons) - 1 if start is not None else 0
    progress = LayoutLmProgress(reached=climbed, exact=[0.0] * len(recipe.lessons))
    path = out / "language.pt"
    if (saved := state.load(path)) is not None:
        reader.load_state_dict(saved["reader"])
        for optim, values in zip(optims, saved["optims"], strict=True):
            optim.load_state_dict(values)
        progress = LayoutLmProgress(**saved["progress"])
    tell = StageLog("language", recipe.steps, out, watch) if parts.writes else None

    def keep() -> None:
        optimised = [o.state_dict() for o in optims]
        state.save({"reader": reader.state_dict(), "optims": optimised, "progress": asdict(progress)}, path)

    while progress.step < recipe.steps:
        loss, tokens = train_step(reader, optims, recipe, progress, parts)
        progress.step += 1
        if progress.exact[progress.reached] >= recipe.advance and progress.reached < len(recipe.lessons) - 1:
            progress.reached += 1
        if tell is None:
            continue
        tell(progress.step, loss=loss, tokens=tokens, scores=progress.scores())
        if progress.step % recipe.save_every == 0:
            keep()
    if parts.writes:
        keep()
    return reader


def train_step(
    reader: LayoutLm,
    optims: list[torch.optim.Optimizer],
    recipe: LayoutLmConfig,
    progress: LayoutLmProgress,
    parts: DataParallel | None = None,
) -> tuple[float, int]:
    """One step on one lesson -> loss, tokens; the running means of `progress` are brought forward."""
    parts = parts or DataParallel(recipe.parts)
    rng = np.random.default_rng([recipe.seed, progress.step])
    number = draw_lesson(rng, progress.reached, recipe.climbed)
    read = bool(recipe.lessons[number].hd and recipe.aloud and rng.random() < recipe.aloud)
    notes = []
    for part in parts.here:
        torch.manual_seed((recipe.seed * 1_000_003 + progress.step) * parts.count + part)
        own = parts.draws(rng, recipe.seed, progress.step, part=part)
        notes.append(_part(reader, recipe, recipe.lessons[number], own, progress, read=read))
    parts.mean(reader.parameters())
    nn.utils.clip_grad_norm_(reader.parameters(), 1.0)
    set_rate(optims, rate_at(progress.step, steps=recipe.steps, decay_from=recipe.decay_from))
    for optim in optims:
        optim.step()
        optim.zero_grad(set_to_none=True)
    notes = parts.all(notes)
    for _, _, marks, _ in notes:
        progress.mark(marks)
    loss, exact = (sum(note[i] for note in notes) / len(notes) for i in (0, 1))
    if read:
        progress.aloud = _moved(progress.aloud, exact)
    else:
        progress.exact[number] = _moved(progress.exact[number], exact)
    return loss, sum(tokens for *_, tokens in notes)


def _moved(mean: float, exact: float) -> float:
    """A running mean brought forward."""
    return exact if mean == 0 else 0.96 * mean + 0.04 * exact


def _part(
    reader: LayoutLm,
    recipe: LayoutLmConfig,
    lesson: CurriculumStage,
    rng: Generator,
    progress: LayoutLmProgress,
    *,
    read: bool,
) -> tuple[float, float, Marks, int]:
    """Pages of one part of a step, forward and backward -> loss, exact match, marks, tokens."""
    pages = same_shape(rng, lesson, recipe.family)
    known = [progress.asked.get(page.kind, {}) if recipe.focused else None for page, _ in pages]
    shown = [page for page, _ in pages]
    asked, form = asked_or_read(rng, shown, lesson.questions, read=read, known=known)
    image = reader.embed_image([s for _, s in pages], noise=recipe.noise)
    loss, right, tokens = asked_of(
        reader.decoder,
        image,
        shown,
        asked,
        plora=recipe.plora,
        form="key" if rng.random() < lesson.short else form,
        pointers=recipe.pointers if lesson.hd else (),
        hd=lesson.hd,
        bearings=reader.bearings if lesson.hd else None,
    )
    (loss[0] + loss[1]).backward()
    return loss[0].item(), right.float().mean().item(), marks_of(shown, asked, right), tokens
