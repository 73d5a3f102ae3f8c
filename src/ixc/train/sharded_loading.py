"""Read the weights of a folder straight into shards: no rank ever holds the whole model, in memory or on its device.

    empty_model()    the model on the meta device; the adapter's initial weights drawn as `setup.build_model` draws them
    ...              frozen, cast and sharded on the meta device: from then on every rank knows which rows are its own
    load_shards()    memory on the device; of every tensor each rank reads its own rows (safetensors slices)

Pickled or quantised weights cannot be sliced; from such a folder every rank reads everything (`can_slice`).
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from ixc.model.checkpoint_files import weight_files
from ixc.model.configuration import IxcConfig
from ixc.model.key_mapping import published_name
from ixc.model.loading import check
from ixc.model.modeling import IxcForConditionalGeneration
from ixc.model.quantization.layers import read_quantization
from ixc.train.config import Adapter
from ixc.train.param_groups import add_adapter

_PEFT_PREFIX = "base_model.model."
"""PEFT puts this before the names of the model it wraps."""


def can_slice(base: Path, config: IxcConfig) -> bool:
    """Return whether single rows of a folder's tensors can be read."""
    return read_quantization(config) is None and all(path.suffix == ".safetensors" for path in weight_files(base))


def empty_model(base: Path, adapter: Adapter | None, *, seed: int) -> tuple[nn.Module, dict[str, Tensor]]:
    """Build the model of a folder on the meta device, without its weights.

    Args:
        seed: random seed of the adapter's initial weights.

    Returns:
        The model, and by name the weights that no folder has: the adapter's, on the CPU.

    Raises:
        WeightsError: as `loading.check`.
    """
    config = check(base)
    with torch.device("meta"):
        model: nn.Module = IxcForConditionalGeneration(config)
    if adapter is None:
        return model, {}
    # PEFT draws an adapter on the device of its base. So that it draws on the CPU, as without sharding, every base
    # tensor is one number on the CPU expanded to its shape, which takes no memory.
    for module in model.modules():
        for name, weight in list(module.named_parameters(recurse=False)):
            setattr(module, name, nn.Parameter(torch.zeros(()).expand(weight.shape)))
    torch.manual_seed(seed)
    model = add_adapter(model, adapter)
    adapter_weights = {name: value.detach() for name, value in model.named_parameters() if ".lora_" in name}
    return model.to("meta"), adapter_weights


def load_shards(model: nn.Module, base: Path, adapter_weights: Mapping[str, Tensor], *, device: torch.device) -> None:
    """Load the weights of a sharded model that is on the meta device.

    Args:
        adapter_weights: as `empty_model` returns it.
        device: device of the shards.
    """
    model.to_empty(device=device)
    with ExitStack() as stack:
        file_of: dict[str, Any] = {}
        for path in weight_files(base):
            file: Any = stack.enter_context(safe_open(path, framework="pt"))
            file_of |= dict.fromkeys(file.keys(), file)
        for name, weight in model.named_parameters():
            first, last = _rows(weight)
            if first == last:
                continue
            key = published_name(name.removeprefix(_PEFT_PREFIX).replace(".base_layer.", "."))
            source = adapter_weights[name] if name in adapter_weights else file_of[key].get_slice(key)
            _local(weight).copy_(source[first:last])


def _rows(weight: Tensor) -> tuple[int, int]:
    """Return the first row of this rank and the end of its rows: FSDP2 shards along the first dimension."""
    if not isinstance(weight, DTensor):
        return 0, weight.shape[0]
    from torch.distributed.tensor._utils import compute_local_shape_and_global_offset

    shape, offset = compute_local_shape_and_global_offset(weight.shape, weight.device_mesh, weight.placements)
    return offset[0], offset[0] + shape[0]


def _local(weight: Tensor) -> Tensor:
    value = weight.detach()
    return value.to_local() if isinstance(value, DTensor) else value
