"""A whole set of studies in seconds, and made-up results of the real one."""

import json
from pathlib import Path

from studies.resolution.language_model import HandRecipe
from studies.resolution.learner import LearnerRecipe
from studies.resolution.pipeline import Plan
from studies.resolution.variants import VARIANTS, Variant
from studies.resolution.views import ANYRES, View
from studies.resolution.vision_encoder import EyesRecipe

FOUR = View(hd=4)
PLAN = Plan(
    vision_encoder=EyesRecipe(steps=1, second=1, canvases=(1, 1), pages=1, decay_from=1),
    language_model=HandRecipe(steps=1, decay_from=1),
    learner=LearnerRecipe(fit_steps=2, fit_pictures=8, steps=2, pages=2, questions=4, test_questions=3),
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
"""Learns nothing, goes everywhere."""


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
                "start": {"characters": 0.9, "lessons": [0.9] * 8, "layers": 4,
                          "cpu_seconds": {"eyes": 60.0, "hand": 60.0}},
                "cpu_seconds": 36.0, "recipe": json.loads(json.dumps(Plan().record())),
            }  # fmt: skip
            (folder / f"{name}-{seed}.json").write_text(json.dumps(run))
