"""The embedded model trained further: every kind of page, twenty fonts, degraded images, up to 4K.

    ixc train recipes/nano_more.py --out runs/more

Starts from the model in the package, which `nano.py` began. First the vision tower is aligned alone, with distillation
from its features at the start; then the language model learns, and at the end the tower with it. The exported weights
are the mean of the initial and the trained ones.
"""

from dataclasses import replace
from pathlib import Path

import ixc
from ixc.nano.data.character_images import CharacterImageConfig
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
    degraded=0.25,
)
SHARES = (
    (1, 5, 14, 0.32),
    (4, 2, 22, 0.31),
    (9, 1, 28, 0.28),
    (16, 1, 28, 0.04),
    (25, 1, 32, 0.035),
    (55, 1, 48, 0.015),
)
"""The cost of a page grows faster than its number of tiles, so there are few of the largest ones."""
LAYERS = 6
"""Layers of the decoder and of the tower."""
WIDTH, HEAD = 256, 32
"""Width of the decoder and of its heads."""
ATTENTION = (
    AttentionSupervision(layer=LAYERS - 1, head=3, weight=0.3),
    AttentionSupervision(layer=LAYERS - 2, head=0, weight=0.25, target="queried_word"),
    AttentionSupervision(layer=LAYERS - 2, head=4, weight=1.0, target="value_owner"),
    AttentionSupervision(layer=LAYERS - 3, head=0, weight=0.15, target="compared_values"),
    AttentionSupervision(layer=2, head=2, weight=0.3, target="query_word_copy"),
    AttentionSupervision(layer=2, head=4, weight=0.2, target="row_key"),
    AttentionSupervision(layer=2, head=5, weight=0.2, target="column_header"),
    AttentionSupervision(layer=3, head=1, weight=0.2, target="key_start"),
)
"""The last layer copies. The layer before it attends to what is asked for by position or presence, to the last of
counted things and to the owner of a value, the layer before that to two compared values. Layer 2 finds the words of a
question and leads from values to their keys; a head of layer 3 leads to the first letters of keys."""
OCR_ALIGNMENT = OcrAlignmentConfig(
    seed=73,
    steps=600,
    decay_from=200,
    feature_distill_weight=2.0,
    sparse=6.0,
    glyph_mse_weight=0.0,
    data_parallel=2,
    images=10,
    family=FAMILY,
    pages=0.55,
    text_images=CharacterImageConfig(
        sizes=(17, 25, 60), spread=0.22, others=(30, 96), apart=0.3, dark=0.2, textured=0.2
    ),
    muon_lr=0.01,
    adam_lr=8e-4,
    save_every=20,
)
"""With large letters too: those of titles are few on a page and asked for most."""


def recipe() -> NanoConfig:
    """From the embedded model."""
    first = read_recipe(Path(__file__).parent / "nano.py")
    text, vision = first.model.text_config, first.model.vision_config
    text.num_hidden_layers = vision.num_hidden_layers = LAYERS
    text.hidden_size, text.intermediate_size = WIDTH, WIDTH * 11 // 4
    text.num_attention_heads = text.num_key_value_heads = WIDTH // HEAD
    return replace(
        first,
        init_from=Path(ixc.__file__).parent / "pretrained" / "nano",
        continue_pretraining=True,
        init_weight_average=0.5,
        bf16_cpu=True,
        stored="float16",
        ocr_alignment=OCR_ALIGNMENT,
        joint=replace(
            first.joint,
            attention_supervision=ATTENTION,
            probes=(2, 1.5),
            copy_task_share=0.1,
            extra_questions=True,
            family=FAMILY,
            data_parallel=2,
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
