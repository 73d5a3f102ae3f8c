"""LoRA of vLLM on a processor: tokens without an adapter stay without one.

vLLM marks a token without an adapter by the index -1. Its CUDA kernels skip -1; its CPU kernels (`bgmv_shrink` and
`bgmv_expand` in `vllm/lora/ops/torch_ops/lora_ops.py`, 0.32) use it to index the stacked weights, and -1 is the last
slot. In a batch in which any request names an adapter, requests without one therefore got the adapter of the last slot:
with one slot per adapter, always a real one. Here the low-rank products of such tokens are set to zero before B.
"""

# pyright: reportMissingImports=false
# vLLM is an extra that developers' machines lack, and its modules are imported at the top of this file.

from __future__ import annotations

from typing import Any

import torch
from vllm.lora.punica_wrapper.punica_cpu import PunicaWrapperCPU
from vllm.platforms import current_platform

WRAPPER = "vllm.lora.punica_wrapper.punica_cpu.PunicaWrapperCPU"
"""What vLLM uses on a processor."""


class IxcPunicaCpu(PunicaWrapperCPU):
    """vLLM's LoRA products on a processor, zero at tokens without an adapter."""

    def add_shrink(
        self,
        y: tuple[torch.Tensor, ...] | torch.Tensor,
        x: torch.Tensor,
        lora_a_stacked: tuple[torch.Tensor, ...],
        scale: float,
        **kwargs: Any,
    ) -> None:
        """Write x A of each token's adapter into each y (T, r)."""
        super().add_shrink(y, x, lora_a_stacked, scale, **kwargs)
        if self.is_prefill and self.no_lora:
            return  # nothing was written
        without = self.token_lora_indices < 0  # (T,)
        for part in y:
            part[without] = 0


def use_cpu_adapters() -> None:
    """Make vLLM use `IxcPunicaCpu` where it would use its own CPU wrapper; elsewhere it does nothing."""
    if current_platform.is_cpu() and current_platform.get_punica_wrapper() == WRAPPER:
        type(current_platform).get_punica_wrapper = classmethod(_qualified_name)


def _qualified_name(_: Any) -> str:
    return f"{IxcPunicaCpu.__module__}.{IxcPunicaCpu.__name__}"
