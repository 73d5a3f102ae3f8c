"""Base class of the models: initialization of new weights, and what transformers may do with the class."""

from __future__ import annotations

from typing import Any

import torch
from transformers import PreTrainedModel
from transformers import initialization as init

from ixc.model.configuration import IxcConfig
from ixc.model.key_mapping import register_renamings


class IxcPreTrainedModel(PreTrainedModel):
    """Contract class: ``from_pretrained``, attention back ends, gradient checkpointing."""

    config_class = IxcConfig
    base_model_prefix = "model"
    input_modalities = ["image", "text"]  # noqa: RUF012 - the contract wants plain class attributes
    supports_gradient_checkpointing = True
    _no_split_modules = ["TextBlock", "VisionBlock"]  # noqa: RUF012
    _skip_keys_device_placement = ["cache", "past_key_values"]  # noqa: RUF012
    _supports_flash_attn = True
    _supports_sdpa = True
    _supports_flex_attn = True
    _supports_attention_backend = True
    _can_compile_fullgraph = True

    @torch.no_grad()
    def _init_weights(self, module: Any) -> None:
        """Initialize weights; ``transformers.initialization`` skips parameters that were read from a file.

        Departure from the original: Plora_B starts at zero, as in LoRA, so a new PLoRA changes nothing. The
        original's reset code looks for attributes that do not exist and leaves Plora_B at N(0, 0.02) (spec g).
        """
        if getattr(module, "starts_at_zero", False):
            init.zeros_(module.weight)
            return
        super()._init_weights(module)
        if hasattr(module, "reset_own_parameters"):
            module.reset_own_parameters()


register_renamings()
