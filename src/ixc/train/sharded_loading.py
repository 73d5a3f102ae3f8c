"""Weights of a folder read straight into shards: no rank ever holds the model, in its memory or on its device.

    bare()   the model on the meta device, its adapter's first weights drawn as `build` draws them
    ...      frozen, halved and sharded there: what follows knows which rows are whose
    fill()   room on the device; of every tensor each rank reads its own rows (safetensors slices)

A folder of pickled or quantised weights has no slices; there every rank reads all of it (`can_slice`).
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

_WRAPPED = "base_model.model."
"""What PEFT puts before the names of the model it wraps."""


def can_slice(base: Path, config: IxcConfig) -> bool:
    """Whether single rows of its tensors can be read."""
    return read_quantization(config) is None and all(path.suffix == ".safetensors" for path in weight_files(base))


def bare(base: Path, adapter: Adapter | None, *, seed: int) -> tuple[nn.Module, dict[str, Tensor]]:
    """The model of a folder without its weights, on the meta device.

    Args:
        seed: of the adapter's first weights.

    Returns:
        The model, and by name the weights that no folder has: the adapter's, on the CPU.

    Raises:
        WeightsError: as `weights.check`.
    """
    config = check(base)
    with torch.device("meta"):
        model: nn.Module = IxcForConditionalGeneration(config)
    if adapter is None:
        return model, {}
    # PEFT draws where the base is: one number stands on the CPU for each tensor, seen in its shape.
    for module in model.modules():
        for name, weight in list(module.named_parameters(recurse=False)):
            setattr(module, name, nn.Parameter(torch.zeros(()).expand(weight.shape)))
    torch.manual_seed(seed)
    model = add_adapter(model, adapter)
    drawn = {name: value.detach() for name, value in model.named_parameters() if ".lora_" in name}
    return model.to("meta"), drawn


def fill(model: nn.Module, base: Path, drawn: Mapping[str, Tensor], *, device: torch.device) -> None:
    """Gives a sharded model on the meta device its weights.

    Args:
        drawn: as `bare` returns it.
        device: where the shards shall be.
    """
    model.to_empty(device=device)
    with ExitStack() as opened:
        where: dict[str, Any] = {}
        for path in weight_files(base):
            file: Any = opened.enter_context(safe_open(path, framework="pt"))
            where |= dict.fromkeys(file.keys(), file)
        for name, weight in model.named_parameters():
            first, last = _rows(weight)
            if first == last:
                continue
            key = published_name(name.removeprefix(_WRAPPED).replace(".base_layer.", "."))
            source = drawn[name] if name in drawn else where[key].get_slice(key)
            _local(weight).copy_(source[first:last])


def _rows(weight: Tensor) -> tuple[int, int]:
    """First row of this rank and the one behind its last: FSDP2 cuts along the first dimension."""
    if not isinstance(weight, DTensor):
        return 0, weight.shape[0]
    from torch.distributed.tensor._utils import compute_local_shape_and_global_offset

    shape, offset = compute_local_shape_and_global_offset(weight.shape, weight.device_mesh, weight.placements)
    return offset[0], offset[0] + shape[0]


def _local(weight: Tensor) -> Tensor:
    value = weight.detach()
    return value.to_local() if isinstance(value, DTensor) else value
