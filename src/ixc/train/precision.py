"""How a device computes: number format, gradient checkpointing, precision of the optimiser's moments.

None of it is part of a recipe: the same configuration runs on a laptop in float32 and on eight GPUs in bfloat16.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn

from ixc.errors import MissingPackageError
from ixc.model.transformers_contract import enable_activation_checkpointing
from ixc.train.param_groups import ParamGroup


@dataclass(frozen=True, kw_only=True)
class ComputeConfig:
    """Switches of the computation; None chooses by device (`resolve`)."""

    bfloat16: bool | None = None
    """Compute in bfloat16 and keep frozen weights in it; None: on GPUs. Trained weights stay float32, because AdamW's
    updates are too small for 8 bits of mantissa, and losses are summed in float32."""
    gradient_checkpointing: bool | None = None
    """Keep only the inputs of blocks and compute the blocks again in the backward pass; None: on GPUs."""
    eight_bit: bool = False
    """Keep AdamW's moments in 8 bit, in blocks of 256 with a scale each (torchao)."""

    def resolve(self, device: torch.device) -> ComputeConfig:
        """Return the configuration with every None decided for a device."""
        gpu = device.type != "cpu"
        return replace(
            self,
            bfloat16=gpu if self.bfloat16 is None else self.bfloat16,
            gradient_checkpointing=gpu if self.gradient_checkpointing is None else self.gradient_checkpointing,
        )


AUTO_COMPUTE = ComputeConfig()
"""Everything chosen by device."""


def cast_frozen_to_bfloat16(model: nn.Module) -> None:
    """Cast frozen float32 weights to bfloat16; quantised weights stay as they are."""
    for weight in model.parameters():
        if not weight.requires_grad and weight.dtype == torch.float32:
            weight.data = weight.data.to(torch.bfloat16)


def autocast(device: torch.device, *, bfloat16: bool) -> AbstractContextManager[Any]:
    """Context of a forward pass where nothing is sharded (FSDP2 casts by itself)."""
    return torch.autocast(device.type, dtype=torch.bfloat16) if bfloat16 else nullcontext()


def enable_gradient_checkpointing(model: Any) -> None:
    """Keep only the inputs of blocks; the random state is restored when a block is computed again."""
    enable_activation_checkpointing(model, use_reentrant=False)


def make_adamw(groups: Sequence[ParamGroup], *, betas: tuple[float, float], eight_bit: bool) -> torch.optim.Optimizer:
    """AdamW over parameter groups.

    Raises:
        MissingPackageError: 8-bit moments are wanted and torchao is missing.
    """
    param_groups = [group.for_optimizer() for group in groups]
    return _adamw_8bit()(param_groups, betas=betas) if eight_bit else torch.optim.AdamW(param_groups, betas=betas)


def check_compute(compute: ComputeConfig) -> None:
    """Check that the packages a configuration needs are installed, before minutes are spent on loading weights.

    Raises:
        MissingPackageError: 8-bit moments are wanted and torchao is missing.
    """
    if compute.eight_bit:
        _adamw_8bit()


def _adamw_8bit() -> Any:
    try:
        from torchao.optim import AdamW8bit  # pyright: ignore[reportMissingImports]  (optional: extra eight-bit)
    except ImportError as error:
        raise MissingPackageError(
            "8-bit moments need the package torchao; install it: pip install 'ixc-4khd[eight-bit]'"
        ) from error
    return AdamW8bit


def set_learning_rate(group: dict[str, Any], learning_rate: float) -> None:
    """Set the learning rate of an optimiser's group, scaled by the group's `lr_scale`.

    torchao 0.18 compiles its step and keeps the rate in a tensor; the tensor must stay the same object.
    """
    scaled = learning_rate * group["lr_scale"]
    if isinstance(group["lr"], torch.Tensor):
        group["lr"].fill_(scaled)
    else:
        group["lr"] = scaled


def optimizer_step_context(device: torch.device, *, eight_bit: bool) -> AbstractContextManager[Any]:
    """Context of the optimiser's step.

    torchao compiles the step with torch.compile. That pays on GPUs; on CPUs the compiler takes minutes, so there the
    step runs eagerly.
    """
    return torch.compiler.set_stance("force_eager") if eight_bit and device.type == "cpu" else nullcontext()
