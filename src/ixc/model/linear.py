"""A linear map on few rows: the kernel that reads the weights at the memory's rate.

A decode step multiplies one row with every weight. On the CPU torch hands that to one core (half of the memory's rate
on two cores); oneDNN's kernel, the one torch's own compiler calls, uses all of them. From a few hundred rows on the
plain product is the faster one again.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

FEW_ROWS = 256
"""Rows up to which oneDNN was the faster one (measured: 112 to 73 GFLOP/s at 144 rows, 90 to 112 at 577)."""

LARGE = 1 << 20
"""Numbers of a weight from which it pays: smaller ones fit a core's cache."""


def linear(module: nn.Module, x: torch.Tensor) -> torch.Tensor:
    """``module(x)``, the same map; by another kernel where that is faster and nothing trains. (..., in) -> (..., out)

    A module that is no plain ``nn.Linear`` (quantized, adapted, hooked) is called as it is.
    """
    if not _pays(module, x):
        return module(x)
    kernel: Any = torch.ops.mkldnn._linear_pointwise
    return kernel(x, module.weight, module.bias, "none", [], "")


def is_plain(module: nn.Module) -> bool:
    """True if the weight may be used directly: exactly ``nn.Linear``, without hooks."""
    return type(module) is nn.Linear and not module._forward_hooks and not module._forward_pre_hooks


def _pays(module: Any, x: torch.Tensor) -> bool:
    return (
        is_plain(module)
        and x.device.type == "cpu"
        and x.dtype == torch.float32 == module.weight.dtype
        and not torch.is_grad_enabled()
        and not torch.compiler.is_compiling()
        and module.weight.numel() >= LARGE
        and x.numel() <= FEW_ROWS * x.shape[-1]
        and not torch.is_autocast_enabled("cpu")
        and torch.backends.mkldnn.is_available()
    )
