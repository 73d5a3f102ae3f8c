"""The embedded model from nothing: 2 M parameters for forms, receipts, tables and notices; `nano_more.py` continues.

    ixc train recipes/nano.py --out runs/nano

Some CPU hours on two cores; resumable with --resume after any kill. The weights in the package come from a run whose
numbers were changed on the way (pretrained/nano/training.json, dev/LOG.md), not from this recipe start to end.
"""

from ixc.model.configuration import IxcConfig, IxcTextConfig, IxcVisionConfig
from ixc.nano.drawn_config import NanoConfig
from ixc.nano.stages.character_pretrain import CharacterPretrainConfig
from ixc.nano.stages.joint import JointConfig
from ixc.nano.stages.layout_lm import LayoutLmConfig
from ixc.nano.stages.ocr_alignment import OcrAlignmentConfig

VISION = IxcVisionConfig(hidden_size=128, intermediate_size=512, num_hidden_layers=4, num_attention_heads=4)
TEXT = IxcTextConfig(
    vocab_size=128,
    hidden_size=128,
    intermediate_size=352,
    num_hidden_layers=4,
    num_attention_heads=4,
    num_key_value_heads=4,
    max_position_embeddings=32768,
    rope_parameters={"rope_type": "default", "rope_theta": 1e6},
    plora_r=8,
    plora_alpha=8,
    plora_qkv_r=8,
    plora_qkv_alpha=16,
    plora_dropout=0.0,
    eos_token_id=2,
)
IMAGE_TOKEN = 102  # `<ImageHere>` of the character tokenizer


def recipe() -> NanoConfig:
    """Published shape, scaled down: width 128, 4 layers, for both the tower and the language model."""
    return NanoConfig(
        model=IxcConfig(vision_config=VISION, text_config=TEXT, image_token_id=IMAGE_TOKEN),
        layout_lm=LayoutLmConfig(text=TEXT),
        character_pretrain=CharacterPretrainConfig(vision=VISION),
        ocr_alignment=OcrAlignmentConfig(),
        joint=JointConfig(),
    )
