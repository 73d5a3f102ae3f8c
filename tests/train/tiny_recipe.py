"""A run of seconds: the embedded model's recipe at a width of 32."""

from dataclasses import replace

from ixc.model.config import IxcConfig, IxcTextConfig, IxcVisionConfig
from ixc.train.joint import JointRecipe
from ixc.train.language import LanguageRecipe
from ixc.train.lessons import Lesson
from ixc.train.recipe import NanoRecipe
from ixc.train.sight import SightRecipe
from ixc.train.spelling import SpellingRecipe

VISION = IxcVisionConfig(hidden_size=32, intermediate_size=64, num_hidden_layers=1, num_attention_heads=2)
TEXT = IxcTextConfig(
    vocab_size=128,
    hidden_size=32,
    intermediate_size=64,
    num_hidden_layers=1,
    num_attention_heads=2,
    num_key_value_heads=2,
    rope_parameters={"rope_type": "default", "rope_theta": 1e4},
    plora_r=2,
    plora_alpha=2,
    plora_qkv_r=2,
    plora_qkv_alpha=4,
    plora_dropout=0.0,
    eos_token_id=2,
)


LESSONS = (
    Lesson(rows=1, columns=8, letters=(38, 46), words="short", pages=4, questions=1, short=1.0),
    Lesson(rows=6, columns=12, letters=(24, 36), pages=2, questions=3, short=0.5),
    Lesson(hd=1, pages=2, questions=3),
)


def recipe() -> NanoRecipe:
    """Every stage for a few steps, states often."""
    joint = JointRecipe(align_pages=((1, 3), (4, 1)), align_steps=3, align_tokens=64, steps=4, save_every=1)
    return NanoRecipe(
        model=IxcConfig(vision_config=VISION, text_config=TEXT, image_token_id=102),
        language=LanguageRecipe(
            text=TEXT, lessons=LESSONS, climbed=(0.2, 0.3, 0.5), advance=0.0, steps=8, decay_from=4, save_every=2
        ),
        sight=SightRecipe(vision=VISION, steps=6, decay_from=3, canvases=1, save_every=2),
        spelling=SpellingRecipe(steps=4, decay_from=2, canvases=1, save_every=1),
        threads=1,
        joint=replace(joint, shares=((1, 2, 4, 0.5), (4, 1, 4, 0.5))),
    )
