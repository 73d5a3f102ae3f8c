"""Partial LoRA: a linear map with a low-rank addition that only image tokens see (InternLM-XComposer2, section 3.2).

    y = W x                                         for every token
    y = W x + (alpha / r) * B A dropout(x)          for image tokens

Three plain ``nn.Linear`` side by side, not a subclass of Linear: quantizers and serving engines replace every
``nn.Linear`` they find, and a subclass would silently lose its low-rank update.

Image positions are given in one of three forms:

    None                       no image token: the update is skipped
    ((start, stop), ...)       spans, the same in every row, known to the host: only these rows are updated, in place
    bool (B, T)                the PLoRA mask, on the device: the update is masked in rank space

None of them synchronizes with the device, and no shape depends on data.

Merged: ``W + (alpha / r) B A`` is held as a second weight for image tokens: no low-rank products, twice the memory.

Shapes: B batch, T tokens, r rank.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import nn

from ixc.errors import UsageError
from ixc.model.linear import is_plain, linear

Spans = tuple[tuple[int, int], ...]
"""(start, stop) of every run of image tokens, in order; empty: no image."""

ImagePositions = torch.Tensor | Spans | None
"""Image positions in one of the three forms described at the top of the file."""


class PLoRALinear(nn.Module):
    """``base`` (in -> out), ``Plora_A`` (in -> r) and ``Plora_B`` (r -> out), none with a bias.

    Args:
        in_features, out_features: widths.
        r: rank of the update, at least 1.
        alpha: numerator of its scale, alpha / r.
        dropout: probability on the input of the update, in training only (0.05 as published).
    """

    merged: torch.Tensor | None

    def __init__(self, in_features: int, out_features: int, *, r: int, alpha: float, dropout: float = 0.0) -> None:
        super().__init__()
        self.base = nn.Linear(in_features, out_features, bias=False)
        self.Plora_A = nn.Linear(in_features, r, bias=False)
        self.Plora_B: Any = nn.Linear(r, out_features, bias=False)
        # Children are initialized before their parents, by their own class: so the child is marked to start at zero.
        self.Plora_B.starts_at_zero = True
        nn.init.zeros_(self.Plora_B.weight)
        self.dropout = nn.Dropout(dropout)
        self.scaling = alpha / r
        self.register_buffer("merged", None, persistent=False)

    def forward(self, x: torch.Tensor, image_mask: ImagePositions) -> torch.Tensor:
        """Apply the linear map, with the low-rank update at image tokens.

        Args:
            x: (B, T, in).
            image_mask: image positions as a bool (B, T), as spans, or None.

        Returns:
            (B, T, out).
        """
        if image_mask is None:
            return linear(self.base, x)
        if isinstance(image_mask, torch.Tensor):
            # Masked in rank space: text tokens add exact zeros; nothing is gathered and nothing synchronizes.
            low = self.Plora_A(self.dropout(x))  # (B, T, r)
            return self.base(x) + self.Plora_B(low * (image_mask.unsqueeze(-1) * self.scaling).to(low.dtype))
        if self.merged is not None and not torch.is_grad_enabled():
            return self._by_spans(x, image_mask, self.merged)
        if self._merges_in_training():
            base, a, b = (part.weight for part in (self.base, self.Plora_A, self.Plora_B))
            return cast(torch.Tensor, _BySpans.apply(x, base, torch.addmm(base, b, a, alpha=self.scaling), image_mask))
        y = linear(self.base, x)
        for start, stop in image_mask:
            self._add(y[:, start:stop], x[:, start:stop])
        return y

    def _merges_in_training(self) -> bool:
        """Return True if one product may replace three: all three maps are trained, without dropout."""
        parts = (self.base, self.Plora_A, self.Plora_B)
        return (
            torch.is_grad_enabled()
            and all(is_plain(part) and part.weight.requires_grad for part in parts)
            and not (self.training and self.dropout.p)
            and not torch.is_autocast_enabled(self.base.weight.device.type)
        )

    @torch.no_grad()
    def merge(self) -> None:
        """Compute the merged weight, (out, in).

        Raises:
            UsageError: one of the three maps is not a plain Linear (quantized, or wrapped in an adapter).
        """
        parts = (self.base, self.Plora_A, self.Plora_B)
        if not all(is_plain(part) for part in parts):
            kinds = ", ".join(type(part).__name__ for part in parts)
            raise UsageError(f"PLoRA of {kinds} cannot be merged; three plain Linear can. Use plora='separate'")
        base, a, b = (part.weight for part in parts)
        self.merged = torch.addmm(base.float(), b.float(), a.float(), alpha=self.scaling).to(base.dtype)

    def _add(self, y: torch.Tensor, x: torch.Tensor) -> None:
        """Compute y += (alpha / r) B A x, with the addition inside the product (addmm) where that is possible."""
        low = linear(self.Plora_A, self.dropout(x))  # (B, t, r)
        if torch.is_grad_enabled() or len(y) > 1 or not is_plain(self.Plora_B) or torch.is_autocast_enabled():
            y += self.Plora_B(low * self.scaling)
        else:
            y[0].addmm_(low[0], self.Plora_B.weight.t(), alpha=self.scaling)

    def _by_spans(self, x: torch.Tensor, spans: Spans, merged: torch.Tensor) -> torch.Tensor:
        """Map text tokens with the base and image tokens with the merged weight. (B, T, in) -> (B, T, out)"""
        parts = [
            F.linear(x[:, one], merged) if image else linear(self.base, x[:, one])
            for image, one in _runs(x.shape[1], spans)
        ]
        return parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)


class _BySpans(torch.autograd.Function):
    """Autograd version of ``_by_spans`` that writes each product into its slice, so that no slice is copied.

    With ``torch.set_float32_matmul_precision("medium")`` the products run in bf16, and each tensor is rounded once for
    all of them.
    """

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, base: torch.Tensor, merged: torch.Tensor, spans: Spans) -> torch.Tensor:
        """(B, T, in), twice (out, in) -> (B, T, out)"""
        kind = torch.bfloat16 if _may_use_bf16(x) else x.dtype
        ctx.spans, ctx.kinds = spans, (kind, x.dtype)
        x, base, merged = (given.to(kind) for given in (x, base, merged))
        ctx.save_for_backward(x, base, merged)
        y = x.new_empty(*x.shape[:2], len(base))
        for image, one in _runs(x.shape[1], spans):
            for given, out in zip(x, y, strict=True):
                torch.mm(given[one], (merged if image else base).t(), out=out[one])
        return y.to(ctx.kinds[1])

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, None]:
        x, base, merged = ctx.saved_tensors
        kind, back = ctx.kinds
        grad = grads[0].to(kind).contiguous()
        grad_x, grad_base, grad_merged = torch.empty_like(x), *(torch.zeros_like(w, dtype=back) for w in (base, merged))
        for image, one in _runs(x.shape[1], ctx.spans):
            weight, of_weight = (merged, grad_merged) if image else (base, grad_base)
            for out, into in zip(grad, grad_x, strict=True):
                torch.mm(out[one], weight, out=into[one])
            rows = (grad[0, one], x[0, one]) if len(x) == 1 else (grad[:, one].flatten(0, 1), x[:, one].flatten(0, 1))
            of_weight += rows[0].t() @ rows[1]
        return grad_x.to(back), grad_base, grad_merged, None


def _may_use_bf16(x: torch.Tensor) -> bool:
    medium = torch.get_float32_matmul_precision() == "medium" and torch.cpu._is_avx512_bf16_supported()
    return medium and x.device.type == "cpu" and x.dtype == torch.float32


def _runs(length: int, spans: Spans) -> Iterator[tuple[bool, slice]]:
    """Yield the runs of text and of image tokens of a row, in order: (is an image, slice)."""
    done = 0
    for start, stop in (*spans, (length, length)):
        if start > done:
            yield False, slice(done, start)
        if stop > start:
            yield True, slice(start, stop)
        done = stop


def merge_plora(model: nn.Module) -> None:
    """Merge every PLoRA of a model. Raises: UsageError as ``PLoRALinear.merge``."""
    for module in model.modules():
        if isinstance(module, PLoRALinear):
            module.merge()


def spans_of(types: torch.Tensor) -> Spans | None:
    """Return the runs of ones in (B, T) token types on the host; None if rows differ, () for text alone."""
    if bool((types != types[:1]).any()):
        return None
    image = (types[0] == 1).int()
    steps = torch.diff(image, prepend=image.new_zeros(1), append=image.new_zeros(1))
    starts, stops = (steps == 1).nonzero().flatten().tolist(), (steps == -1).nonzero().flatten().tolist()
    return tuple(zip(starts, stops, strict=True))


def clip_spans(spans: Spans, start: int, stop: int) -> Spans:
    """Return the spans inside [start, stop), counted from ``start``."""
    inside = ((max(a, start) - start, min(b, stop) - start) for a, b in spans)
    return tuple((a, b) for a, b in inside if a < b)


def text_only(image_mask: ImagePositions) -> bool:
    """Return True if there is no image token and no gradient is needed: then PLoRA may be skipped.

    In training the update runs even for a batch of text: its gradients are then zeros instead of missing, as sharded
    training needs. Under compilation the mask is data and cannot be read.
    """
    if isinstance(image_mask, tuple):
        return not image_mask
    if image_mask is None or torch.is_grad_enabled() or torch.compiler.is_compiling() or image_mask.is_meta:
        return False
    return not bool(image_mask.any())
