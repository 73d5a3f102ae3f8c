"""The embedded model taken further: every kind of page, twenty fonts, worn pictures, up to 4K, a deeper tower.

    ixc train recipes/nano_more.py --out runs/more

Goes on from the model in the package, which `nano.py` began: the language model from symbols, tower and projector
spelling, then all from pixels.
"""

from dataclasses import replace
from pathlib import Path

import ixc
from ixc.data.synth import fonts
from ixc.data.synth.family import Family
from ixc.train.canvases import Lettering
from ixc.train.lessons import Lesson
from ixc.train.pointing import Pointer
from ixc.train.recipe import NanoRecipe, read_recipe

FAMILY = Family(
    shares=(
        ("form", 0.08),
        ("receipt", 0.06),
        ("table", 0.12),
        ("notice", 0.05),
        ("screen", 0.11),
        ("letter", 0.07),
        ("article", 0.08),
        ("lines", 0.08),
        ("invoice", 0.07),
        ("bars", 0.06),
        ("curve", 0.06),
        ("pie", 0.05),
        ("infographic", 0.07),
        ("sign", 0.04),
    ),
    fonts=tuple(fonts.TRAIN_FONTS),
    worn=0.25,
)
LESSONS = (
    Lesson(hd=1, pages=6, questions=16),
    Lesson(hd=4, pages=3, questions=20),
    Lesson(hd=9, pages=2, questions=24),
    Lesson(hd=16, pages=1, questions=24),
    Lesson(hd=25, pages=1, questions=32),
    Lesson(hd=55, pages=1, questions=48),
)
"""What a page of so many tiles costs grows faster than they do: few of the largest, to the end."""
CLIMBED = (0.6, 0.2, 0.2, 0.0, 0.0, 0.0)
"""Shares of the lessons: what a kind of question wants is learned on small pages."""
SHARES = (
    (1, 4, 12, 0.26),
    (4, 2, 16, 0.30),
    (9, 1, 24, 0.32),
    (16, 1, 24, 0.04),
    (25, 1, 32, 0.05),
    (55, 1, 48, 0.03),
)
LAYERS = 6
"""Of the decoder and of the tower; where the model begun from has fewer, silent ones are added."""
POINTERS = (
    Pointer(layer=LAYERS - 1, head=3, weight=0.3),
    Pointer(layer=LAYERS - 2, head=0, weight=0.15, at="asked"),
    Pointer(layer=2, head=2, weight=0.3, at="named"),
)
"""The last layer copies, and its last head looked at the answer most before it was told to; hardly any head looked at a
word that is asked for by where it stands or whether it is there, and none before the last two layers at the words of a
question."""
LETTERING = Lettering(sizes=(16, 26, 46), spread=0.2, scrambled=0.15, dark=0.15, textured=0.15)
"""Harder than the pages: smaller and larger, any characters, any ground."""


def recipe() -> NanoRecipe:
    """From the embedded model."""
    first = read_recipe(Path(__file__).parent / "nano.py")
    first.model.text_config.num_hidden_layers = first.model.vision_config.num_hidden_layers = LAYERS
    return replace(
        first,
        begin=Path(ixc.__file__).parent / "models" / "nano",
        again=True,
        language=replace(
            first.language,
            pointers=POINTERS,
            text=first.model.text_config,
            family=FAMILY,
            lessons=LESSONS,
            climbed=CLIMBED,
            focused=True,
            seed=4242,
            steps=160,
            decay_from=64,
            muon_lr=0.005,
            adam_lr=2e-3,
            pace=2.2,
        ),
        spelling=replace(
            first.spelling,
            family=FAMILY,
            lettering=LETTERING,
            parts=2,
            seed=171,
            steps=2050,
            decay_from=1050,
            muon_lr=0.012,
            adam_lr=1.2e-3,
            pace=2.0,
        ),
        joint=replace(
            first.joint,
            pointers=POINTERS,
            family=FAMILY,
            parts=2,
            focused=True,
            seed=92,
            steps=660,
            muon_lr=0.004,
            adam_lr=5e-4,
            tower_from=0.2,
            shares=SHARES,
            pace=4.0,
        ),
    )
