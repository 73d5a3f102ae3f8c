"""The embedded model taken further: every kind of page, twenty fonts, worn pictures, up to 4K.

    ixc train recipes/nano_more.py --out runs/more

Goes on from the model in the package, which `nano.py` began. Language and spelling stages side by side, then all.
"""

from dataclasses import replace
from pathlib import Path

import ixc
from ixc.data.synth import fonts
from ixc.data.synth.family import Family
from ixc.train.canvases import Lettering
from ixc.train.lessons import Lesson
from ixc.train.recipe import NanoRecipe, read_recipe

READ = Family(
    shares=(
        ("form", 0.12),
        ("receipt", 0.11),
        ("table", 0.12),
        ("notice", 0.07),
        ("screen", 0.18),
        ("letter", 0.05),
        ("article", 0.05),
        ("lines", 0.06),
        ("invoice", 0.06),
        ("bars", 0.05),
        ("curve", 0.03),
        ("pie", 0.03),
        ("infographic", 0.05),
        ("sign", 0.02),
    ),
    fonts=tuple(fonts.TRAIN_FONTS),
    worn=0.25,
)
SPELT = replace(
    READ,
    shares=(
        ("form", 0.10),
        ("receipt", 0.08),
        ("table", 0.09),
        ("notice", 0.06),
        ("screen", 0.25),
        ("letter", 0.06),
        ("article", 0.06),
        ("lines", 0.05),
        ("invoice", 0.05),
        ("bars", 0.04),
        ("curve", 0.03),
        ("pie", 0.03),
        ("infographic", 0.05),
        ("sign", 0.05),
    ),
)
LETTERING = Lettering(sizes=(16, 26, 46), spread=0.2, scrambled=0.15, dark=0.15, textured=0.15)
LESSONS = (
    Lesson(hd=1, pages=6, questions=12),
    Lesson(hd=4, pages=3, questions=16),
    Lesson(hd=9, pages=2, questions=16),
    Lesson(hd=16, pages=1, questions=24),
    Lesson(hd=25, pages=1, questions=32),
    Lesson(hd=55, pages=1, questions=48),
)
"""What a page of so many tiles costs grows faster than they do: few of the largest, to the end."""


SHARES = (
    (1, 4, 12, 0.26),
    (4, 2, 16, 0.30),
    (9, 1, 24, 0.32),
    (16, 1, 24, 0.04),
    (25, 1, 32, 0.05),
    (55, 1, 48, 0.03),
)


def recipe() -> NanoRecipe:
    """From the embedded model."""
    first = read_recipe(Path(__file__).parent / "nano.py")
    return replace(
        first,
        begin=Path(ixc.__file__).parent / "models" / "nano",
        again=True,
        language=replace(
            first.language,
            family=READ,
            lessons=LESSONS,
            climbed=(0.22, 0.30, 0.32, 0.06, 0.06, 0.04),
            seed=61,
            steps=1200,
            decay_from=1200,
            muon_lr=0.006,
            adam_lr=1.2e-3,
            pace=2.0,
        ),
        spelling=replace(
            first.spelling, family=SPELT, lettering=LETTERING, seed=71, steps=1800, decay_from=1000, pace=1.6
        ),
        joint=replace(first.joint, family=READ, seed=81, steps=1200, tower_from=0.4, shares=SHARES, pace=3.0),
    )
