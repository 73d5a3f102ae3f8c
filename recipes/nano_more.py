"""The embedded model taken further: every kind of page, twenty fonts, worn pictures, up to 4K, a wider reader.

    ixc train recipes/nano_more.py --out runs/more

Goes on from the model in the package, which `nano.py` began, with everything from pixels: the tower alone spells, held
to what the reader knows of it; the reader learns; then the tower with it; the model is the mean of what it was and what
it has become. A reader narrower than this recipe's is widened by channels, heads and units that begin silent.
"""

from dataclasses import replace
from pathlib import Path

import ixc
from ixc.nano.data.character_images import TextImageConfig
from ixc.nano.drawn_config import NanoConfig, read_recipe
from ixc.nano.losses.attention_supervision import AttentionSupervision
from ixc.nano.stages.ocr_alignment import OcrAlignmentConfig
from ixc.synth import fonts
from ixc.synth.config import PageFamily

FAMILY = PageFamily(
    shares=(
        ("form", 0.05),
        ("receipt", 0.04),
        ("table", 0.09),
        ("notice", 0.04),
        ("screen", 0.075),
        ("letter", 0.055),
        ("article", 0.085),
        ("lines", 0.09),
        ("invoice", 0.06),
        ("bars", 0.10),
        ("curve", 0.10),
        ("pie", 0.09),
        ("infographic", 0.075),
        ("sign", 0.05),
    ),
    fonts=tuple(fonts.TRAIN_FONTS),
    worn=0.25,
)
SHARES = (
    (1, 5, 14, 0.32),
    (4, 2, 22, 0.31),
    (9, 1, 28, 0.28),
    (16, 1, 28, 0.04),
    (25, 1, 32, 0.035),
    (55, 1, 48, 0.015),
)
"""What a page of so many tiles costs grows faster than they do: few of the largest, to the end."""
LAYERS = 6
"""Of the decoder and of the tower; where the model begun from has fewer, silent ones are added."""
WIDTH, HEAD = 256, 32
"""Of the decoder and of its heads."""
POINTERS = (
    AttentionSupervision(layer=LAYERS - 1, head=3, weight=0.3),
    AttentionSupervision(layer=LAYERS - 2, head=0, weight=0.25, at="asked"),
    AttentionSupervision(layer=LAYERS - 2, head=4, weight=1.0, at="owner"),
    AttentionSupervision(layer=LAYERS - 3, head=0, weight=0.15, at="weighed"),
    AttentionSupervision(layer=2, head=2, weight=0.3, at="named"),
    AttentionSupervision(layer=2, head=4, weight=0.2, at="beside"),
    AttentionSupervision(layer=2, head=5, weight=0.2, at="above"),
    AttentionSupervision(layer=3, head=1, weight=0.2, at="start"),
)
"""The last layer copies, the one before it finds what is asked for by where it stands, whether it is there, as the last
of many or by what it amounts to, the one before that the amounts of two names; layer 2 finds the words of a question,
and its heads that were added silent lead from values to their keys; one of layer 3 to how these begin."""
SPELLING = OcrAlignmentConfig(
    seed=73,
    steps=600,
    decay_from=200,
    held=2.0,
    sparse=6.0,
    near=0.0,
    parts=2,
    canvases=10,
    family=FAMILY,
    pages=0.55,
    lettering=TextImageConfig(sizes=(17, 25, 60), spread=0.22, others=(30, 96), apart=0.3, dark=0.2, textured=0.2),
    muon_lr=0.01,
    adam_lr=8e-4,
    save_every=20,
)
"""Letters of titles too, which are few on a page and asked for most."""


def recipe() -> NanoConfig:
    """From the embedded model."""
    first = read_recipe(Path(__file__).parent / "nano.py")
    text, vision = first.model.text_config, first.model.vision_config
    text.num_hidden_layers = vision.num_hidden_layers = LAYERS
    text.hidden_size, text.intermediate_size = WIDTH, WIDTH * 11 // 4
    text.num_attention_heads = text.num_key_value_heads = WIDTH // HEAD
    return replace(
        first,
        begin=Path(ixc.__file__).parent / "pretrained" / "nano",
        again=True,
        kept=0.5,
        quick=True,
        stored="float16",
        language=replace(first.language, text=text, steps=0),
        spelling=SPELLING,
        joint=replace(
            first.joint,
            pointers=POINTERS,
            bearings=(2, 1.5),
            aloud=0.1,
            drilled=True,
            family=FAMILY,
            parts=2,
            focused=True,
            seed=705,
            steps=1600,
            muon_lr=0.004,
            adam_lr=5e-4,
            tower_share=0.3,
            tower_from=0.95,
            shares=SHARES,
            pace=1.4,
        ),
    )
