"""QLoRA's frozen half: the decoder's large matrices in nf4 of bitsandbytes (arXiv 2305.14314, section 3).

Only what an adapter stands beside is quantised (`Adapter.targets`): PLoRA, tower, projector, embeddings and head stay
as they are. Quantising happens where the weights are moved to the device; an adapter is merged into the unquantised
base (`folder.merge`), so the folder it makes loads like any other.
"""

from __future__ import annotations

import re
from typing import Any

import torch
from torch import nn

from ixc.errors import UsageError
from ixc.train.config import Adapter

BITS = 4
"""Of `Adapter.weight_bits` that mean nf4."""


def check(adapter: Adapter | None, *, device: torch.device, ranks: int = 1) -> None:
    """A stage with 4-bit weights can run here; asked before the weights are read.

    Raises:
        UsageError: bitsandbytes is missing, no GPU, several devices.
    """
    if adapter is None or adapter.weight_bits != BITS:
        return
    import_bitsandbytes()
    if device.type != "cuda":
        raise UsageError(
            f"frozen weights of {BITS} bits need a GPU, this is {device.type} (there nf4 is slower than float32); "
            "take recipes/lora.py"
        )
    if ranks > 1:
        raise UsageError(f"frozen weights of {BITS} bits are not sharded over {ranks} devices; start one process")


def import_bitsandbytes() -> Any:
    """The package, which only 4-bit weights need.

    Raises:
        UsageError: it is missing.
    """
    try:
        import bitsandbytes
    except ImportError as error:
        raise UsageError(
            f"frozen weights of {BITS} bits need the package bitsandbytes; install it: pip install 'ixc-4khd[qlora]', "
            "or take recipes/lora.py"
        ) from error
    return bitsandbytes


def quantise(model: nn.Module, targets: str) -> list[str]:
    """Replaces the linear maps an adapter will stand beside; their bytes are made by the next `model.to(device)`.

    Args:
        targets: `Adapter.targets`, matched against whole names.

    Returns:
        Names of the maps replaced.
    """
    maker = import_bitsandbytes().nn
    found = [n for n, one in model.named_modules() if isinstance(one, nn.Linear) and re.fullmatch(targets, n)]
    for name in found:
        parent, _, last = name.rpartition(".")
        old: Any = model.get_submodule(name)
        new = maker.Linear4bit(
            old.in_features,
            old.out_features,
            bias=old.bias is not None,
            compute_dtype=torch.bfloat16,
            compress_statistics=True,
            quant_type="nf4",
            device="meta",
        )
        new.weight = maker.Params4bit(old.weight.data, requires_grad=False, compress_statistics=True, quant_type="nf4")
        new.bias = old.bias
        setattr(model.get_submodule(parent), last, new)
    return found
