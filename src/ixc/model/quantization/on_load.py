"""Quantization while a folder is loaded: each matrix is rounded as it is read, the full model is never in memory.

    stored tensor --quantize_weight--> q, scale, low --assign--> empty quantized model

The weights equal those of `convert.quantize` followed by `loading.load_quantized`, bit by bit.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from ixc.model.checkpoint_files import weight_files
from ixc.model.configuration import IxcConfig
from ixc.model.quantization.convert import half_precision_of, quantized_names, quantized_tensors
from ixc.model.quantization.layers import Quantization, group_size
from ixc.model.quantization.loading import fill_quantized
from ixc.model.tensor_files import stored_tensors


def load_and_quantize(folder: str | Path, config: IxcConfig, *, bits: int, **kwargs: Any) -> Any:
    """Load a published or native folder with the decoder's linear layers and head in few bits.

    Args:
        folder: local folder, not quantized.
        config: its configuration, which receives the quantization.
        bits: 8 or 4.
        **kwargs: dtype (of everything that is not quantized), attn_implementation.

    Returns:
        An ``IxcForConditionalGeneration`` on the CPU.

    Raises:
        WeightsError: keys missing, unexpected or of another shape. UsageError: widths that cannot be grouped.
    """
    from ixc.model.modeling import IxcForConditionalGeneration

    folder = Path(folder)
    settings = Quantization(bits=bits, group_size=group_size(config), half=half_precision_of(folder))
    names = quantized_names(config)

    def tensors() -> Iterator[tuple[str, torch.Tensor]]:
        for path in weight_files(folder):
            for name, tensor in stored_tensors(path):
                yield from quantized_tensors(name, tensor, settings, names).items()

    config.quantization_config = settings.as_dict()
    return fill_quantized(IxcForConditionalGeneration, folder, tensors(), config=config, **kwargs)
