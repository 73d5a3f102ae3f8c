"""The whole model inside vLLM: this package's vision encoder, the decoder on vLLM's layers, the published weights.

    pixel_values, image_grids --vision encoder--> image tokens --vLLM's encoder cache--> rows of inputs_embeds
    input_ids, inputs_embeds --layers.VllmDecoder--> hidden --output--> logits, the placeholder's at -inf

Modules are named as in `ixc.model`, so one key mapping (`ixc.model.key_mapping`) serves both.
"""

# pyright: reportMissingImports=false
# vLLM is an extra that developers' machines lack, and its modules are imported at the top of this file.

from __future__ import annotations

import copy
from collections.abc import Iterable
from glob import escape
from pathlib import Path
from typing import Any

import torch
from torch import nn
from vllm.config import VllmConfig
from vllm.model_executor.layers.logits_processor import LogitsProcessor
from vllm.model_executor.layers.vocab_parallel_embedding import ParallelLMHead
from vllm.model_executor.model_loader.default_loader import DefaultModelLoader
from vllm.model_executor.model_loader.weight_utils import default_weight_loader
from vllm.model_executor.models.interfaces import SupportsLoRA, SupportsMultiModal, SupportsQuant
from vllm.model_executor.models.module_mapping import MultiModelKeys
from vllm.multimodal import MULTIMODAL_REGISTRY

from ixc.core.chat_format import IMAGE_PLACEHOLDER
from ixc.errors import WeightsError
from ixc.model.checkpoint_files import weight_files
from ixc.model.configuration import IxcConfig
from ixc.model.key_mapping import is_ignored, own_name
from ixc.model.modeling import IxcModel
from ixc.serving.vllm.inputs import IxcDummyInputs, IxcMultiModalProcessor, IxcProcessingInfo
from ixc.serving.vllm.layers import VllmDecoder


def build_model(vllm_config: VllmConfig, prefix: str) -> IxcModel:
    """Build `IxcModel` with the decoder on vLLM's layers in place of its own."""
    config: IxcConfig = copy.deepcopy(vllm_config.model_config.hf_config)
    # Our own decoder is replaced below, so it gets no layers and the smallest vocabulary that holds the pad token.
    config.text_config.num_hidden_layers = 0
    config.text_config.vocab_size = (config.text_config.pad_token_id or 0) + 1
    model = IxcModel(config).to(vllm_config.model_config.dtype).eval()
    decoder: Any = VllmDecoder(vllm_config=vllm_config, prefix=f"{prefix}.language_model")
    model.language_model = decoder
    return model


def weight_patterns(folder: str) -> list[str] | None:
    """One glob pattern for each weight file of a local folder, as our own loader names them; None for a name on a hub.

    Without them vLLM 0.32 and 0.33 read every *.safetensors of a folder that has no index, whatever it holds.

    Raises:
        WeightsError: the folder has no weights, or not all of them.
    """
    return [escape(path.name) for path in weight_files(folder)] if Path(folder).is_dir() else None


@MULTIMODAL_REGISTRY.register_processor(IxcMultiModalProcessor, info=IxcProcessingInfo, dummy_inputs=IxcDummyInputs)
class IxcForVllm(nn.Module, SupportsMultiModal, SupportsLoRA, SupportsQuant):
    """InternLM-XComposer2-4KHD as vLLM runs it. No pipeline parallelism; LoRA adapters of the decoder's matrices."""

    requires_raw_input_tokens = True
    """Makes vLLM pass the ids beside the embeddings: PLoRA's mask is computed from them."""

    @classmethod
    def get_placeholder_str(cls, modality: str, i: int) -> str | None:
        return IMAGE_PLACEHOLDER if modality == "image" else None

    def __init__(self, *, vllm_config: VllmConfig, prefix: str = "") -> None:
        super().__init__()
        self.config: IxcConfig = vllm_config.model_config.hf_config
        text = self.config.text_config
        self.model = build_model(vllm_config, f"{prefix}.model" if prefix else "model")
        self.output = ParallelLMHead(text.vocab_size, text.hidden_size, prefix="output")
        self.logits_processor = LogitsProcessor(text.vocab_size)
        self._choose_files(vllm_config.model_config.model)

    def _choose_files(self, folder: str) -> None:
        """Set the attributes by which vLLM's loader takes the first weight file and then the others.

        Of several patterns it takes the first that matches (0.32, 0.33), so every further file is a source of its own.
        """
        patterns = weight_patterns(folder)
        self.allow_patterns_overrides = patterns if patterns is None else patterns[:1]
        self.secondary_weights = [
            DefaultModelLoader.Source(folder, revision=None, allow_patterns_overrides=[pattern])
            for pattern in (patterns or [])[1:]
        ]

    def get_language_model(self) -> Any:
        return self.model.language_model

    def get_mm_mapping(self) -> MultiModelKeys:
        """Return the names of the parts; adapters act on the language model."""
        return MultiModelKeys.from_string_field(
            language_model="model.language_model", connector="model.vision_proj", tower_model="model.vision_tower"
        )

    def embed_multimodal(self, **kwargs: Any) -> list[torch.Tensor]:
        """pixel_values (N, 3, S, S) uint8 and image_grids (n, 2) -> n of (tokens, C), in order."""
        if kwargs.get("pixel_values") is None:
            return []
        return self.model.get_image_features(kwargs["pixel_values"], kwargs["image_grids"]).pooler_output

    def forward(
        self,
        input_ids: torch.Tensor,
        positions: torch.Tensor,
        intermediate_tensors: Any = None,
        inputs_embeds: torch.Tensor | None = None,
        **kwargs: Any,
    ) -> torch.Tensor:
        return self.model.language_model(input_ids, positions, inputs_embeds)

    def compute_logits(self, hidden_states: torch.Tensor) -> torch.Tensor | None:
        logits = self.logits_processor(self.output, hidden_states)
        if logits is not None:  # None on the ranks that do not sample
            logits[:, self.config.image_token_id] = float("-inf")
        return logits

    def load_weights(self, weights: Iterable[tuple[str, torch.Tensor]]) -> set[str]:
        """Load tensors under published names and return the names of our parameters that were loaded.

        Raises:
            WeightsError: a name this model has no place for.
        """
        parameters, loaded = dict(self.named_parameters()), set[str]()
        for published, tensor in weights:
            if is_ignored(published):
                continue
            name = own_name(published)
            if name not in parameters:
                raise WeightsError(f"the weights hold {published}, which this model has no place for; fetch them again")
            getattr(parameters[name], "weight_loader", default_weight_loader)(parameters[name], tensor)
            loaded.add(name)
        return loaded
