"""A linear map without gradients on the CPU, by the product that is fastest for its rows and dtype.

both       up to four rows of a weight that fits no cache: the kernel of `kernels/dense.py`, where it is faster
float32    up to MAX_ROWS rows of a large weight: oneDNN's kernel, which takes one row to all cores (torch hands it to
           one core: half of the memory's rate on two cores); more rows, or at least MIN_ROWS of a small weight: oneDNN
           or torch's BLAS, as measured on this processor
bfloat16   rows side by side: with the strides of a sliced last position torch takes a batched product, for which it
           copies the weights (the output head: most of a prefill)
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from ixc.model.kernels import dense, products

MAX_ROWS = 256
"""Rows up to which oneDNN is taken unmeasured (two processors: 112 against 73, 142 against 125 GFLOP/s)."""

MIN_WEIGHT_SIZE = 1 << 20
"""Numbers of a weight from which oneDNN is taken for a few rows: smaller weights fit a core's cache."""

MIN_ROWS = 16
"""Rows from which the library matters for a small weight (AMD: 577 x 128 x 512 in 0.32 ms by oneDNN, 0.81 by MKL)."""


def linear(module: nn.Module, x: torch.Tensor) -> torch.Tensor:
    """Compute ``module(x)``, by a faster product where there is one and no gradient is needed. (..., in) -> (..., out)

    A module that is not exactly ``nn.Linear`` (quantized, adapted, hooked) is called unchanged.
    """
    if not isinstance(module, nn.Linear) or not _is_plain_call(module, x):
        return module(x)
    if module.bias is None and dense.usable(x, module.weight):
        return dense.multiply(x, module.weight)
    if x.dtype == torch.bfloat16:
        return F.linear(x.reshape(-1, x.shape[-1]), module.weight, module.bias).view(*x.shape[:-1], -1)
    if not _takes_onednn(x.numel() // x.shape[-1], module.weight.numel()):
        return module(x)
    return products.onednn(x, module.weight, module.bias)


def is_plain(module: nn.Module) -> bool:
    """Return True if the weight may be used directly: exactly ``nn.Linear``, without hooks."""
    return (
        type(module) is nn.Linear
        and not module._forward_hooks
        and not module._forward_pre_hooks
        and "_hf_hook" not in module.__dict__  # accelerate replaces `forward` and may keep the weight elsewhere
    )


def _takes_onednn(rows: int, weights: int) -> bool:
    if weights >= MIN_WEIGHT_SIZE and rows <= MAX_ROWS:
        return torch.backends.mkldnn.is_available()
    return rows >= MIN_ROWS and products.prefers_onednn()


def _is_plain_call(module: nn.Linear, x: torch.Tensor) -> bool:
    return (
        is_plain(module)
        and x.device.type == "cpu"
        and x.dtype in (torch.float32, torch.bfloat16)
        and x.dtype == module.weight.dtype
        and not torch.is_grad_enabled()
        and not torch.compiler.is_compiling()
        and not torch.is_autocast_enabled("cpu")
    )
