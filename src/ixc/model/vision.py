"""The vision encoder: a CLIP ViT that encodes each 336 px tile by itself (paper, section 3.1; spec c).

The features are the output of the last encoder layer, before any final norm, without the class token. The published
checkpoint has no final norm, so none exists here.

    pixels (N, 3, S, S) -> patches (N, P, C) -> [class] + patches + positions -> pre-norm -> L blocks -> (N, P, C)

Legend: N tiles, S = 336 px, P = 24 * 24 = 576 patches of 14 px, C width (1024), H heads, D = C / H.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from transformers.modeling_layers import GradientCheckpointingLayer

from ixc.model import vision_blocks
from ixc.model.base import IxcPreTrainedModel
from ixc.model.configuration import IxcVisionConfig
from ixc.model.vision_blocks import ACTIVATIONS, VisionAttention, VisionEmbeddings, VisionEncoder, quick_gelu


class VisionBlock(GradientCheckpointingLayer, vision_blocks.VisionBlock):
    """The block, adapted to the contract of activation checkpointing."""


class VisionTower(IxcPreTrainedModel):
    """CLIP's vision tower up to its last layer."""

    config: IxcVisionConfig
    config_class = IxcVisionConfig
    base_model_prefix = "vision_tower"
    main_input_name = "pixel_values"
    input_modalities = ["image"]  # noqa: RUF012
    _can_record_outputs = {"hidden_states": VisionBlock, "attentions": VisionAttention}  # noqa: RUF012

    def __init__(self, config: IxcVisionConfig) -> None:
        super().__init__(config)
        self.embeddings = VisionEmbeddings(config)
        # The misspelling is CLIP's, and part of the published keys.
        self.pre_layrnorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.encoder = VisionEncoder(config, VisionBlock)
        self.post_init()

    def get_input_embeddings(self) -> nn.Module:
        return self.embeddings.patch_embedding

    def forward(self, pixel_values: torch.Tensor, *, window: torch.Tensor | None = None, **kwargs: Any) -> torch.Tensor:
        """Encode tiles.

        Args:
            pixel_values: (N, 3, S, S) float, normalised with CLIP's mean and deviation; smaller S with ``window``.
            window: (N, P) long, position (0 to 575, row-major) of each patch in its tile, for inputs smaller than a
                tile. Default: all positions.

        Returns:
            (N, P, C) features of the last layer before any final norm, in the tower's dtype.

        Raises:
            UsageError: there are not as many positions as patches.
        """
        x = self.pre_layrnorm(self.embeddings(pixel_values, window))
        return self.encoder(x, **kwargs)[:, 1:]


__all__ = ["ACTIVATIONS", "VisionTower", "quick_gelu"]
