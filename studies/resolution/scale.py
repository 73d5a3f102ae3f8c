"""The scaled geometry of the studies: tiles of 112 px, everything else the package's own code.

A tile has 8 x 8 patches of 14 px, merged 2 x 2 -> 4 x 4 = 16 tokens of 28 px, a ninth of the published 144; HD-55 is
some 900 tokens. Partition, layout, newline, separator, overview, merging and Partial LoRA are those of the real model.
"""

from __future__ import annotations

from ixc.inference.model_folder import EMBEDDED
from ixc.model.configuration import IxcConfig, IxcVisionConfig
from ixc.nano.data.glyph_tokens import TOKEN

TILE = 112
"""Side of a tile, pixels."""

SIDE = TILE // TOKEN
"""Tokens on a side of a tile."""

LEGIBLE = (8.0, 80.0)
"""Smallest and largest letters, canvas pixels of the font size, that an eye is asked to name."""

VISION = IxcVisionConfig(
    hidden_size=96,
    intermediate_size=384,
    num_hidden_layers=3,
    num_attention_heads=4,
    image_size=TILE,
    hidden_act="gelu",
)
"""The tower of the studies."""

TEXT = IxcConfig.from_pretrained(EMBEDDED).text_config
"""The language model of the studies: the embedded model's shape, for it begins from that one's weights."""

IMAGE_TOKEN = 102
"""`<ImageHere>` of the character tokenizer."""


def config(*, merge: str = "concat", newline: bool = True, overview: bool = True) -> IxcConfig:
    """The model of the studies under the switches of the paper's tables 7 to 9."""
    return IxcConfig(
        vision_config=VISION.to_dict(),
        text_config=TEXT.to_dict(),
        image_token_id=IMAGE_TOKEN,
        merge=merge,
        newline=newline,
        overview=overview,
    )
