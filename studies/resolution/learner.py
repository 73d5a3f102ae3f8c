"""One variant with one seed: fit its new modules, train it to answer, evaluate it.

    stored features -> norm -> merge -> vision_proj -> tokens of each tile -> views.sequence -> decoder -> answers
    fit       merge and projector learn to classify the characters of every token (nano.stages.ocr_alignment); once for
              each merge and seed, so that variants of one merge start alike
    learn     packed questions after the image; decoder, merge, projector, newline and separator are trained, the vision
              tower is frozen
    evaluate  exact match on every page of a collection

Shapes: B pages of one form, V = 1 + h * w tiles of each, D width of the language model.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.random import Generator
from torch import Tensor, nn

from ixc.core.chat_format import IGNORED
from ixc.model.modeling import IxcModel
from ixc.nano import state
from ixc.nano.data.glyph_tokens import GlyphTokenEmbedding
from ixc.nano.data.question_packing import markup, pack
from ixc.nano.losses.answers import answer_logits, score
from ixc.nano.optim import Muon
from ixc.nano.stages.layout_lm import rate_at, set_rate
from ixc.nano.stages.ocr_alignment import character_loss
from studies.resolution import pages, scale, views
from studies.resolution.language_model import LanguageModel
from studies.resolution.pool import Collection, StoredFeatures
from studies.resolution.variants import Variant
from studies.resolution.views import View

BLANK = 0.3  # weight of the class `no character`
FIT_PARTS = ("merge.", "vision_proj.", "plora_")


@dataclass(frozen=True, kw_only=True)
class LearnerConfig:
    """Options of a run, the same for every variant."""

    fit_steps: int = 600
    """Steps of the fit."""
    fit_pictures: int = 96
    """Tiles and overviews a step of the fit."""
    fit_muon_lr: float = 0.02
    fit_lr: float = 3e-3
    glyph_mse_weight: float = 0.02
    """Weight of the squared distance to the glyph tokens, which also trains newline, separator and row vectors."""
    steps: int = 100
    """Steps of the training on questions."""
    pages: int = 4
    """Pages a step."""
    questions: int = 16
    """Questions a page."""
    muon_lr: float = 0.005
    adam_lr: float = 1e-3
    character_loss_weight: float = 0.3
    """Weight of classifying the characters of the image tokens during the training on questions."""
    test_questions: int = 12
    """Questions a page in the evaluation."""


class Learner:
    """A model with new modules between the vision tower and the language model of the start.

    Args:
        variant: what is trained.
        seed: seed of the new modules and of the order of the data.
        recipe: options of the run.
        start: the language model of the start.
        root: folder with the pool.
        training: pages to train on.
    """

    def __init__(
        self,
        variant: Variant,
        seed: int,
        *,
        recipe: LearnerConfig,
        start: LanguageModel,
        root: Path,
        training: Collection,
    ) -> None:
        self.variant, self.seed, self.recipe, self.training, self.root = variant, seed, recipe, training, root
        torch.manual_seed(seed)
        settings = scale.config(merge=variant.merge, newline=variant.newline, overview=variant.overview)
        self.model = IxcModel(settings)
        self.model.vision_tower = nn.Identity()  # type: ignore[assignment]  # its features are stored in the pool
        self.glyph_tokens: GlyphTokenEmbedding = start.model.glyph_tokens.requires_grad_(False)
        self.norm = state_of_norm(root)
        self.decoder = self.model.language_model
        self.decoder.load_state_dict(start.model.decoder.state_dict())
        self._begin()

    def _begin(self) -> None:
        """Initialise the new modules uniformly by fan-in (the published model starts from CLIP's features)."""
        for module in (self.model.merge, self.model.vision_proj):
            for part in module.modules():
                if isinstance(part, nn.Linear | nn.Conv2d):
                    part.reset_parameters()
        for embedding in (self.model.plora_sub_GN, self.model.plora_glb_GN):
            nn.init.normal_(embedding)

    @property
    def new_parameters(self) -> list[nn.Parameter]:
        """Parameters of the new modules."""
        model = self.model
        return [*model.merge.parameters(), *model.vision_proj.parameters(), model.plora_sub_GN, model.plora_glb_GN]

    def project(self, features: Tensor) -> Tensor:
        """Project features (n, 64, C) to tokens (n, 16, D)."""
        return self.model.vision_proj(self.model.merge(self.norm(features)))

    def image(self, tokens: Tensor, form: int, view: View, collection: Collection) -> Tensor:
        """Arrange tokens (B, V, 16, D) of pages of one form in the model's order: (B, N, D)."""
        place = collection.place(form, view)
        newline, separator = self.model.special_embeddings()
        return torch.stack([views.sequence(t, place, newline=newline, separator=separator) for t in tokens])

    def draw(self, rng: Generator, count: int) -> tuple[int, View, np.ndarray]:
        """Draw a form, a setting of the variant, and pages of that form; the pages do not depend on the variant."""
        form = int(rng.integers(pages.FORMS))
        indices = np.sort(rng.choice(self.training.each, min(count, self.training.each), replace=False))
        return form, self._view(rng), indices

    def _view(self, rng: Generator) -> View:
        """Draw one of the variant's settings; the number of random draws does not depend on how many it has."""
        return self.variant.views[int(rng.integers(6)) % len(self.variant.views)]

    def fit(self) -> float:
        """Train merge and projector alone; returns the running share of characters recognised."""
        recipe, table = self.recipe, cast(nn.Embedding, self.decoder.tok_embeddings).weight.detach()
        optims = optimisers(self.new_parameters, muon_lr=recipe.fit_muon_lr, adam_lr=recipe.fit_lr)
        mean = 0.0
        for step in range(recipe.fit_steps):
            rng = np.random.default_rng([self.seed, 1, step])
            features, chars, rows = self._pictures(rng)
            shown = self.project(features)
            wrong, right = character_loss(
                shown.flatten(0, 1), chars.flatten(0, 1), self.glyph_tokens, table, blank=BLANK
            )
            none = torch.zeros(chars.shape[:2], dtype=torch.long)
            distance = (shown - self.glyph_tokens(chars, rows, none, table, noise=0.0)).square().sum(-1).mean()
            (wrong + recipe.glyph_mse_weight * (distance + self._special_distance())).backward()
            set_rate(optims, rate_at(step, steps=recipe.fit_steps, decay_from=recipe.fit_steps // 2, warmup=20))
            for optim in optims:
                optim.step()
            self.model.zero_grad(set_to_none=True)
            mean = 0.95 * mean + 0.05 * right if step else right
        return mean

    def fitted(self) -> dict[str, Tensor]:
        """Weights trained by `fit`, by name in the model."""
        return {k: v for k, v in self.model.state_dict().items() if k.startswith(FIT_PARTS)}

    def load_fitted(self, fitted: dict[str, Tensor]) -> None:
        """Load the weights of a fit of the same merge and seed."""
        wrong = self.model.load_state_dict(fitted, strict=False).unexpected_keys
        assert not wrong, wrong

    def _pictures(self, rng: Generator) -> tuple[Tensor, Tensor, Tensor]:
        """Draw tiles and overviews of some pages, those with most characters first."""
        view, form = self._view(rng), int(rng.integers(pages.FORMS))
        count = min(self.training.each, max(2, self.recipe.fit_pictures // (view.hd + 1)))
        indices = np.sort(rng.choice(self.training.each, count, replace=False))
        stored = StoredFeatures(root=self.root, collection=self.training, view=view)
        features, chars, rows = (part.flatten(0, 1) for part in stored.read(form, indices))
        full = (chars > 0).flatten(1).sum(1) + torch.from_numpy(rng.random(len(chars)))
        kept = full.topk(min(len(full), self.recipe.fit_pictures)).indices
        return features[kept], chars[kept], rows[kept]

    def _special_distance(self) -> Tensor:
        """Squared distance of newline and separator, after the projector, to those of the glyph tokens."""
        found = self.model.special_embeddings()
        pairs = zip(found, self.glyph_tokens.special_embeddings, strict=True)
        return sum(((a - b).square().sum() for a, b in pairs if a is not None), torch.zeros(()))

    def learn(self) -> dict[str, float]:
        """Train everything but the tower; returns running means of loss, exact match and characters recognised."""
        recipe, optims = self.recipe, self._optimisers()
        means: dict[str, float] = {}
        for step in range(recipe.steps):
            rng = np.random.default_rng([self.seed, 2, step])
            form, view, indices = self.draw(rng, recipe.pages)
            asked = [pages.asked(rng, self.training.page(form, int(i)), recipe.questions) for i in indices]
            found = self._step(form, view, indices, asked)
            nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
            set_rate(optims, rate_at(step, steps=recipe.steps, decay_from=recipe.steps // 4, warmup=20))
            for optim in optims:
                optim.step()
            self.model.zero_grad(set_to_none=True)
            for name, value in found.items():
                means[name] = 0.95 * means.get(name, value) + 0.05 * value
        return means

    def _step(self, form: int, view: View, indices: np.ndarray, asked: list[list[Any]]) -> dict[str, float]:
        """Compute the gradients of one step."""
        stored = StoredFeatures(root=self.root, collection=self.training, view=view)
        features, chars, _ = stored.read(form, indices)
        tokens = self.project(features.flatten(0, 1))
        image = self.image(tokens.unflatten(0, chars.shape[:2]), form, view, self.training)
        packed = pack(asked, prefix=len(markup()[0]) + image.shape[1], form="direct")
        loss, exact = score(answer_logits(self.decoder, image, packed), packed.labels, packed.questions)
        seen = slice(None) if self.variant.overview else slice(1, None)
        named, truth = (
            part.unflatten(0, chars.shape[:2])[:, seen].flatten(0, 2) for part in (tokens, chars.flatten(0, 1))
        )
        table = cast(nn.Embedding, self.decoder.tok_embeddings).weight.detach()
        wrong, right = character_loss(named, truth, self.glyph_tokens, table, blank=BLANK)
        (loss + self.recipe.character_loss_weight * wrong).backward()
        return {"loss": loss.item(), "exact": exact, "characters": right}

    def _optimisers(self) -> list[torch.optim.Optimizer]:
        blocks = [p for n, p in self.decoder.layers.named_parameters() if p.ndim == 2 and "Plora" not in n]
        taken = {id(p) for p in blocks}
        rest = [p for p in self.model.parameters() if id(p) not in taken]
        return optimisers(blocks, muon_lr=self.recipe.muon_lr, adam_lr=self.recipe.adam_lr, others=rest)

    @torch.inference_mode()
    def evaluate(self, collection: Collection, view: View) -> list[dict[str, Any]]:
        """Exact match on every page of a collection at a setting, counted by sort, kind and font size.

        One forward pass with the right answers is enough: greedy decoding gives an answer in full if and only if each
        of its characters has the largest logit at its position.
        """
        asked: Counter[tuple[str, str, str]] = Counter()
        right: Counter[tuple[str, str, str]] = Counter()
        for form in collection.forms:
            for index in range(collection.each):
                page = collection.page(form, index)
                questions = pages.asked(np.random.default_rng([page.number, 5]), page, self.recipe.test_questions)
                correct = self._answers(collection, view, form, index, questions)
                sort = collection.sort or pages.sort_of(page.number)
                for question, is_right in zip(questions, correct, strict=True):
                    key = (sort, question.kind, pages.size_class(page))
                    asked[key] += 1
                    right[key] += is_right
        names = ("sort", "kind", "size")
        return [
            {"view": view.name} | dict(zip(names, key, strict=True)) | {"asked": asked[key], "right": right[key]}
            for key in sorted(asked)
        ]

    def _answers(self, collection: Collection, view: View, form: int, index: int, questions: list[Any]) -> list[bool]:
        features, _, _ = StoredFeatures(root=self.root, collection=collection, view=view).read(form, np.array([index]))
        image = self.image(self.project(features[0])[None], form, view, collection)
        packed = pack([questions], prefix=len(markup()[0]) + image.shape[1], form="direct")
        logits = answer_logits(self.decoder, image, packed)
        good = (logits.argmax(-1) == packed.labels) | (packed.labels == IGNORED)
        return good.unflatten(1, (len(questions), -1)).all(-1)[0].tolist()


def state_of_norm(root: Path) -> nn.LayerNorm:
    """Load the norm between the tower of the start and its head; without it channels of deviation 6 dominate."""
    saved = state.load(root / "vision_encoder.pt", old="eyes.pt")
    assert saved is not None
    norm = nn.LayerNorm(scale.VISION.hidden_size)
    norm.load_state_dict({key: saved["classifier"][f"norm.{key}"] for key in ("weight", "bias")})
    return norm.requires_grad_(False)


def optimisers(
    parameters: list[nn.Parameter], *, muon_lr: float, adam_lr: float, others: Sequence[nn.Parameter] = ()
) -> list[torch.optim.Optimizer]:
    """Build Muon for the matrices among the parameters, and AdamW for the rest of them and for `others`."""
    matrices = [p for p in parameters if p.ndim == 2]
    rest = [*others, *(p for p in parameters if p.ndim != 2)]
    adam = torch.optim.AdamW(rest, lr=adam_lr, betas=(0.9, 0.98), weight_decay=0.0)
    optims: list[torch.optim.Optimizer] = [Muon(matrices, lr=muon_lr), adam]
    set_rate(optims, 1.0)
    return optims
