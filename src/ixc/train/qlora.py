"""QLoRA's frozen half: the decoder's large matrices in nf4 of bitsandbytes (arXiv 2305.14314, section 3).

Only the matrices that carry an adapter are quantised (`Adapter.target_modules`): PLoRA, vision tower, projector,
embeddings and head stay as they are. bitsandbytes quantises when the weights are moved to the device. An adapter is
merged into the unquantised base (`export.merge_adapter`), so the folder it makes loads like any other.
"""

from __future__ import annotations

import re
from typing import Any

import torch
from torch import nn

from ixc.errors import MissingPackageError, UsageError
from ixc.train.config import Adapter

BITS = 4
"""Value of `Adapter.weight_bits` that means nf4."""


def check_qlora(adapter: Adapter | None, *, device: torch.device, world_size: int = 1) -> None:
    """Check that a run with 4-bit weights is possible here, before the weights are read.

    Raises:
        MissingPackageError: bitsandbytes is missing. UsageError: there is no GPU, or there are several ranks.
    """
    if adapter is None or adapter.weight_bits != BITS:
        return
    import_bitsandbytes()
    if device.type != "cuda":
        raise UsageError(
            f"frozen weights of {BITS} bits need a GPU, this is {device.type} (there nf4 is slower than float32); "
            "take recipes/lora.py"
        )
    if world_size > 1:
        raise UsageError(f"frozen weights of {BITS} bits are not sharded over {world_size} devices; start one process")


def import_bitsandbytes() -> Any:
    """Return the package bitsandbytes, which only 4-bit weights need.

    Raises:
        MissingPackageError: it is missing.
    """
    try:
        import bitsandbytes  # pyright: ignore[reportMissingImports]  (optional: extra qlora)
    except ImportError as error:
        raise MissingPackageError(
            f"frozen weights of {BITS} bits need the package bitsandbytes; install it: pip install 'ixc-4khd[qlora]', "
            "or take recipes/lora.py"
        ) from error
    return bitsandbytes


def quantize_targets(model: nn.Module, target_modules: str) -> list[str]:
    """Replace the linear maps that will carry an adapter by 4-bit ones.

    Their bytes are computed by the next `model.to(device)`.

    Args:
        target_modules: as `Adapter.target_modules`, matched against whole names.

    Returns:
        Names of the replaced maps.
    """
    bnb = import_bitsandbytes().nn
    names = [n for n, one in model.named_modules() if isinstance(one, nn.Linear) and re.fullmatch(target_modules, n)]
    for name in names:
        parent, _, last = name.rpartition(".")
        old: Any = model.get_submodule(name)
        new = bnb.Linear4bit(
            old.in_features,
            old.out_features,
            bias=old.bias is not None,
            compute_dtype=torch.bfloat16,
            compress_statistics=True,
            quant_type="nf4",
            device="meta",
        )
        new.weight = bnb.Params4bit(old.weight.data, requires_grad=False, compress_statistics=True, quant_type="nf4")
        new.bias = old.bias
        setattr(model.get_submodule(parent), last, new)
    return names
