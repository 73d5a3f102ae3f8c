"""A run of seconds: the embedded model's recipe at a width of 32."""

from dataclasses import replace

from ixc.model.configuration import IxcConfig, IxcTextConfig, IxcVisionConfig
from ixc.nano.data.curriculum import CurriculumStage
from ixc.nano.drawn_config import NanoConfig
from ixc.nano.stages.character_pretrain import CharacterPretrainConfig
from ixc.nano.stages.joint import JointConfig
from ixc.nano.stages.layout_lm import LayoutLmConfig
from ixc.nano.stages.ocr_alignment import OcrAlignmentConfig

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


CURRICULUM = (
    CurriculumStage(rows=1, columns=8, letters=(38, 46), words="short", pages=4, questions=1, short=1.0),
    CurriculumStage(rows=6, columns=12, letters=(24, 36), pages=2, questions=3, short=0.5),
    CurriculumStage(hd=1, pages=2, questions=3),
)


def recipe() -> NanoConfig:
    """Every stage for a few steps, states often."""
    joint = JointConfig(
        projector_init_pages=((1, 3), (4, 1)), projector_init_steps=3, projector_init_tokens=64, steps=4, save_every=1
    )
    return NanoConfig(
        model=IxcConfig(vision_config=VISION, text_config=TEXT, image_token_id=102),
        layout_lm=LayoutLmConfig(
            text=TEXT,
            curriculum=CURRICULUM,
            final_mix=(0.2, 0.3, 0.5),
            advance=0.0,
            steps=8,
            decay_from=4,
            save_every=2,
        ),
        character_pretrain=CharacterPretrainConfig(vision=VISION, steps=6, decay_from=3, images=1, save_every=2),
        ocr_alignment=OcrAlignmentConfig(steps=4, decay_from=2, images=1, save_every=1),
        threads=1,
        joint=replace(joint, shares=((1, 2, 4, 0.5), (4, 1, 4, 0.5))),
    )
