"""The scaled geometry of the studies: tiles of 112 px, everything else the package's own code.

A tile has 8 x 8 patches of 14 px, merged 2 x 2 -> 4 x 4 = 16 tokens of 28 px, a ninth of the published 144; HD-55 is
some 900 tokens. Partition, layout, newline, separator, overview, merging and Partial LoRA are those of the real model.
"""

from __future__ import annotations

from ixc.model.configuration import IxcConfig, IxcTextConfig, IxcVisionConfig
from ixc.nano.data.glyph_tokens import TOKEN

TILE = 112
"""Side of a tile, pixels."""

SIDE = TILE // TOKEN
"""Tokens on a side of a tile."""

LEGIBLE = (8.0, 80.0)
"""Smallest and largest font size, canvas pixels, whose characters are labels."""

VISION = IxcVisionConfig(
    hidden_size=96,
    intermediate_size=384,
    num_hidden_layers=3,
    num_attention_heads=4,
    image_size=TILE,
    hidden_act="gelu",
)
"""The vision tower of the studies."""

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
"""The language model of the studies. Its shape is frozen: it is that of the embedded model's second version, from which
all result files were made, and does not follow the model that is shipped today."""

IMAGE_TOKEN = 102
"""`<ImageHere>` of the character tokenizer."""


def config(*, merge: str = "concat", newline: bool = True, overview: bool = True) -> IxcConfig:
    """Build the model of the studies under the switches of the paper's tables 7 to 9."""
    return IxcConfig(
        vision_config=VISION.to_dict(),
        text_config=TEXT.to_dict(),
        image_token_id=IMAGE_TOKEN,
        merge=merge,
        newline=newline,
        overview=overview,
    )
