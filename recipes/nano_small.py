"""The small model: from nothing to reading forms and receipts of one tile in less than 25 minutes on two cores.

    ixc train recipes/nano_small.py --out runs/small

Large letters, two fonts, black on white, short values: for tests, and for watching a whole training over a coffee. The
schedule counts steps, never minutes, so the weights do not depend on the machine's speed; after a kill, --resume.
"""

from ixc.model.configuration import IxcConfig, IxcTextConfig, IxcVisionConfig
from ixc.nano.data.character_images import CharacterImageConfig
from ixc.nano.data.curriculum import CurriculumStage
from ixc.nano.drawn_config import NanoConfig
from ixc.nano.stages.character_pretrain import CharacterPretrainConfig
from ixc.nano.stages.joint import JointConfig
from ixc.nano.stages.layout_lm import LayoutLmConfig
from ixc.nano.stages.ocr_alignment import OcrAlignmentConfig
from ixc.synth.config import PageFamily

VISION = IxcVisionConfig(hidden_size=96, intermediate_size=288, num_hidden_layers=3, num_attention_heads=4)
TEXT = IxcTextConfig(
    vocab_size=128,
    hidden_size=96,
    intermediate_size=256,
    num_hidden_layers=3,
    num_attention_heads=4,
    num_key_value_heads=4,
    max_position_embeddings=4096,
    rope_parameters={"rope_type": "default", "rope_theta": 1e4},
    plora_r=8,
    plora_alpha=8,
    plora_qkv_r=8,
    plora_qkv_alpha=16,
    plora_dropout=0.0,
    eos_token_id=2,
)
IMAGE_TOKEN = 102  # `<ImageHere>` of the character tokenizer

FAMILY = PageFamily(
    shares=(("form", 0.6), ("receipt", 0.4)),
    settings=(1,),
    fonts=("DejaVuSans", "Roboto"),
    letters=(27, 31, 36),
    spread=0.08,
    titled=0.0,
    coloured=0.0,
    values=("code", "money", "number", "word"),
    longest=6,
)
TEXT_IMAGES = CharacterImageConfig(
    sizes=(25, 31, 40), spread=0.1, others=(26, 46), apart=0.1, shrunk=0.0, narrowed=0.0, scrambled=0.02
)
CURRICULUM = (
    CurriculumStage(rows=1, columns=8, letters=(28, 40), words="short", pages=128, questions=1, short=1.0),
    CurriculumStage(rows=3, columns=4, letters=(28, 40), words="tiny", pages=80, questions=3, short=1.0),
    CurriculumStage(rows=6, columns=6, letters=(28, 40), words="tiny", pages=28, questions=6, short=0.5),
    CurriculumStage(rows=4, columns=12, letters=(28, 38), words="short", pages=28, questions=4, short=0.5),
    CurriculumStage(rows=6, columns=12, letters=(28, 38), pages=16, questions=6, short=0.2),
    CurriculumStage(hd=1, pages=6, questions=10),
)
FINAL_MIX = (0.01, 0.01, 0.02, 0.04, 0.12, 0.80)


def recipe() -> NanoConfig:
    """Pages of one tile, twelve by twelve tokens, one or two letters a token."""
    return NanoConfig(
        threads=2,
        model=IxcConfig(vision_config=VISION, text_config=TEXT, image_token_id=IMAGE_TOKEN),
        layout_lm=LayoutLmConfig(
            text=TEXT,
            plora=False,
            family=FAMILY,
            curriculum=CURRICULUM,
            final_mix=FINAL_MIX,
            steps=2150,
            decay_from=1400,
            advance=0.6,
            pace=0.38,
        ),
        character_pretrain=CharacterPretrainConfig(
            vision=VISION,
            family=FAMILY,
            text_images=TEXT_IMAGES,
            steps=1600,
            decay_from=950,
            images=10,
            blank=0.1,
            pace=0.5,
        ),
        ocr_alignment=OcrAlignmentConfig(
            family=FAMILY, text_images=TEXT_IMAGES, steps=260, decay_from=100, pages=0.5, overviews=0.0, pace=0.5
        ),
        joint=JointConfig(
            family=FAMILY,
            projector_init_pages=((1, 200),),
            projector_init_steps=500,
            projector_init_pace=0.05,
            steps=230,
            shares=((1, 6, 10, 1.0),),
            pace=0.8,
        ),
    )
