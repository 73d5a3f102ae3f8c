"""Muon: momentum with orthogonalised updates, for the matrices of transformer blocks.

After K. Jordan et al., "Muon: an optimizer for hidden layers" (2024). torch ships a Muon that runs its Newton-Schulz
iteration in bf16, which is several times slower than float32 on CPUs without bf16 units; this one works in the
parameters' own dtype, on all matrices of one shape at once, and in bf16 inside `bf16_cpu.bf16_products`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from ixc.nano.bf16_cpu import is_active

COEFFICIENTS = (3.4445, -4.7750, 2.0315)  # quintic Newton-Schulz of the reference
STEPS = 5


def orthogonalise(matrices: Tensor) -> Tensor:
    """Approximate the nearest orthogonal matrices of (n, rows, columns); singular values become 0.7 to 1.2."""
    a, b, c = COEFFICIENTS
    tall = matrices.shape[-2] > matrices.shape[-1]
    x = matrices.mT if tall else matrices
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    if is_active():
        x = torch.stack([_iterated(one.bfloat16().contiguous()) for one in x]).to(matrices.dtype)
        return x.mT if tall else x
    for _ in range(STEPS):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x.mT if tall else x


def _iterated(x: Tensor) -> Tensor:
    """Newton-Schulz iteration of one wide matrix in its own dtype."""
    a, b, c = COEFFICIENTS
    for _ in range(STEPS):
        gram = x @ x.mT
        x = torch.addmm(x, torch.addmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x


class Muon(torch.optim.Optimizer):
    """Nesterov momentum, orthogonalised by shape; the step is scaled by sqrt(max(1, rows / columns)).

    Args:
        params: matrices only.
        lr: step size; 0.01 for the language model, 0.02 for the vision tower of the embedded model.
        momentum: decay of the gradient average.
        weight_decay: decoupled weight decay, times lr.
    """

    def __init__(
        self,
        params: Iterable[Tensor] | Iterable[dict[str, Any]],
        *,
        lr: float,
        momentum: float = 0.95,
        weight_decay: float = 0.01,
    ) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Update every matrix that has a gradient."""
        for group in self.param_groups:
            shapes: dict[torch.Size, list[Tensor]] = {}
            for p in group["params"]:
                if p.grad is not None:
                    shapes.setdefault(p.shape, []).append(p)
            for params in shapes.values():
                self._update(params, group)

    def _update(self, params: list[Tensor], group: dict) -> None:
        for p in params:
            if "momentum" not in self.state[p]:
                self.state[p]["momentum"] = torch.zeros_like(p)
            self.state[p]["momentum"].mul_(group["momentum"]).add_(p.grad)
        ahead = torch.stack([p.grad + group["momentum"] * self.state[p]["momentum"] for p in params])
        scale = max(1.0, params[0].shape[0] / params[0].shape[1]) ** 0.5
        for p, update in zip(params, orthogonalise(ahead), strict=True):
            p.mul_(1 - group["lr"] * group["weight_decay"]).add_(update, alpha=-group["lr"] * scale)
