"""A linear map on few rows, by the CPU kernel that reads the weights at the memory's rate.

A decode step multiplies one row with every weight. On the CPU torch hands that to one core (half of the memory's rate
on two cores); oneDNN's kernel, which torch's own compiler calls, uses all of them. From a few hundred rows on the
plain product is faster again.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

MAX_ROWS = 256
"""Rows up to which oneDNN is faster (measured: 112 against 73 GFLOP/s at 144 rows, 90 against 112 at 577)."""

MIN_WEIGHT_SIZE = 1 << 20
"""Numbers of a weight from which oneDNN is faster: smaller weights fit a core's cache."""


def linear(module: nn.Module, x: torch.Tensor) -> torch.Tensor:
    """Compute ``module(x)``, by oneDNN where that is faster and no gradient is needed. (..., in) -> (..., out)

    A module that is not exactly ``nn.Linear`` (quantized, adapted, hooked) is called unchanged.
    """
    if not _is_faster(module, x):
        return module(x)
    kernel: Any = torch.ops.mkldnn._linear_pointwise
    return kernel(x, module.weight, module.bias, "none", [], "")


def is_plain(module: nn.Module) -> bool:
    """Return True if the weight may be used directly: exactly ``nn.Linear``, without hooks."""
    return type(module) is nn.Linear and not module._forward_hooks and not module._forward_pre_hooks


def _is_faster(module: Any, x: torch.Tensor) -> bool:
    return (
        is_plain(module)
        and x.device.type == "cpu"
        and x.dtype == torch.float32 == module.weight.dtype
        and not torch.is_grad_enabled()
        and not torch.compiler.is_compiling()
        and module.weight.numel() >= MIN_WEIGHT_SIZE
        and x.numel() <= MAX_ROWS * x.shape[-1]
        and not torch.is_autocast_enabled("cpu")
        and torch.backends.mkldnn.is_available()
    )
