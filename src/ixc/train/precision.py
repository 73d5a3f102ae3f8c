"""How a device computes a stage: number format, activations kept or made again, moments of the optimiser.

None of it is part of a recipe: the same stage runs on a laptop in float32 and on eight cards in bfloat16.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn

from ixc.errors import UsageError
from ixc.model.transformers_contract import enable_activation_checkpointing
from ixc.train.param_groups import Group


@dataclass(frozen=True, kw_only=True)
class ComputeConfig:
    """The switches; None leaves one to the device."""

    bfloat16: bool | None = None
    """Products in bfloat16, frozen weights kept in it; None: on GPUs. What learns stays float32, for AdamW's small
    steps, and losses are summed in float32."""
    gradient_checkpointing: bool | None = None
    """Keep the inputs of blocks only, and compute each again in the backward pass; None: on GPUs."""
    eight_bit: bool = False
    """Moments of AdamW in 8 bit, in blocks of 256 with a scale each (torchao)."""

    def settled(self, device: torch.device) -> ComputeConfig:
        """With nothing left open."""
        gpu = device.type != "cpu"
        return replace(
            self,
            bfloat16=gpu if self.bfloat16 is None else self.bfloat16,
            gradient_checkpointing=gpu if self.gradient_checkpointing is None else self.gradient_checkpointing,
        )


FOR_DEVICE = ComputeConfig()
"""All left to the device."""


def halve_frozen(model: nn.Module) -> None:
    """Weights that do not learn, to bfloat16; those kept in fewer bits stay."""
    for weight in model.parameters():
        if not weight.requires_grad and weight.dtype == torch.float32:
            weight.data = weight.data.to(torch.bfloat16)


def computing(device: torch.device, *, half: bool) -> AbstractContextManager[Any]:
    """A forward pass in this format, where nothing is sharded (FSDP2 casts by itself)."""
    return torch.autocast(device.type, dtype=torch.bfloat16) if half else nullcontext()


def gradient_checkpointing(model: Any) -> None:
    """Blocks keep their inputs only; random numbers are drawn again as they were."""
    enable_activation_checkpointing(model, use_reentrant=False)


def adamw(groups: Sequence[Group], *, betas: tuple[float, float], eight_bit: bool) -> torch.optim.Optimizer:
    """AdamW of parameter groups.

    Raises:
        UsageError: the package for 8-bit moments is missing.
    """
    given = [group.for_optimizer() for group in groups]
    return _eight_bit()(given, betas=betas) if eight_bit else torch.optim.AdamW(given, betas=betas)


def check(how: ComputeConfig) -> None:
    """All it needs is installed: asked before minutes are spent on weights.

    Raises:
        UsageError: the package for 8-bit moments is missing.
    """
    if how.eight_bit:
        _eight_bit()


def _eight_bit() -> Any:
    try:
        from torchao.optim import AdamW8bit
    except ImportError as error:
        raise UsageError(
            "8-bit moments need the package torchao; install it: pip install 'ixc-4khd[eight-bit]'"
        ) from error
    return AdamW8bit


def set_rate(group: dict[str, Any], rate: float) -> None:
    """Rate of a group by its scale; torchao compiles its step and keeps the rate in a tensor, which must stay."""
    wanted = rate * group["scale"]
    if isinstance(group["lr"], torch.Tensor):
        group["lr"].fill_(wanted)
    else:
        group["lr"] = wanted


def stepping(device: torch.device, *, eight_bit: bool) -> AbstractContextManager[Any]:
    """Around the optimiser's step: torchao compiles it, which pays on GPUs; on CPUs it takes minutes of a compiler."""
    return torch.compiler.set_stance("force_eager") if eight_bit and device.type == "cpu" else nullcontext()
