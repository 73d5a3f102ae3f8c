"""A whole set of studies that runs in seconds, and made-up results of the real one."""

import json
from pathlib import Path

from ixc.model.modeling import IxcForConditionalGeneration
from ixc.nano.data.glyph_tokens import GlyphTokenEmbedding
from ixc.nano.export import export
from studies.resolution.language_model import LanguageModelConfig
from studies.resolution.learner import LearnerConfig
from studies.resolution.pipeline import Plan
from studies.resolution.scale import TEXT, config
from studies.resolution.variants import VARIANTS, Variant
from studies.resolution.views import ANYRES, View
from studies.resolution.vision_encoder import VisionEncoderConfig

FOUR = View(hd=4)
PLAN = Plan(
    vision_encoder=VisionEncoderConfig(steps=1, second=1, images=(1, 1), pages=1, decay_from=1),
    language_model=LanguageModelConfig(steps=1, decay_from=1),
    learner=LearnerConfig(fit_steps=2, fit_pictures=8, steps=2, pages=2, questions=4, test_questions=3),
    training_each=2,
    test_each=1,
    large_each=1,
    fitted=(FOUR,),
    variants={
        "plain": Variant(views=(FOUR,), exams=(FOUR,), seeds=(1,)),
        "abstract": Variant(views=(FOUR,), exams=(FOUR,), seeds=(1,), merge="c_abstractor", overview=False),
        "any": Variant(views=(View(hd=4, rule=ANYRES),), exams=(View(hd=4, rule=ANYRES),), seeds=(1,), newline=False),
    },
)
"""Learns nothing, and runs every code path."""


def initial_model(folder: Path) -> Path:
    """Write an untrained model with a language model of the studies' shape; returns its folder."""
    model = IxcForConditionalGeneration(config())
    export(model, GlyphTokenEmbedding(TEXT.hidden_size), folder / "initial", hd=9, training={})
    return folder / "initial"


def made_up(folder: Path, *, right: dict[str, int]) -> None:
    """Files of all variants and three seeds: `right` of 100 answers, one more for each seed, everywhere."""
    folder.mkdir(parents=True)
    for name, variant in VARIANTS.items():
        for seed in variant.seeds:
            scores = [
                {"view": view.name, "sort": sort, "kind": kind, "size": size, "asked": 100,
                 "right": right.get(name, 50) + seed}
                for sorts, views in ((("full", "small"), variant.exams), (("8k",), variant.large))
                for view in views for sort in sorts
                for kind in ("value", "row", "below", "large")
                for size in ("9-12", "13-17", "18-23", "24-30")
            ]  # fmt: skip
            run = {
                "variant": name, "seed": seed, "scores": scores, "fitted": 0.9, "means": {"exact": 0.5},
                "start": {"characters": 0.9, "curriculum": [0.9] * 8, "width": 128, "layers": 4,
                          "cpu_seconds": {"vision_encoder": 60.0, "language_model": 60.0}},
                "cpu_seconds": 36.0, "recipe": json.loads(json.dumps(Plan().record())),
            }  # fmt: skip
            (folder / f"{name}-{seed}.json").write_text(json.dumps(run))
