"""Quantized weights: linear maps stored in 8 or 4 bits.

    8 bits   q8 (out, in) int8                        scale (out, 1) bfloat16                 w = q8 * scale
    4 bits   q4 (out, in / 2) uint8, two a byte       scale, low (out, in / group) bfloat16    w = q4 * scale + low
             of 64 consecutive weights (32 in groups of 32) the first half is in the low nibbles, the second in the high

Quantized are the ``base`` of every PLoRA map of the decoder, and the output head. PLoRA, embeddings, vision tower and
projector keep their values; where the source stores them in 16 bits they stay so in memory and are cast when used,
which changes no result and halves their memory. Stored under the published names with ``.base.q4``,
``.base.scale``, ``.base.low`` (``output.q8``, ``output.scale``) in place of ``.weight``; config.json says
``"quantization_config": {"quant_method": "ixc", "version": 2, "bits": 4, "group_size": 128, "half": "bfloat16"}``.

On a CPU the stored weights are multiplied as integers (``kernels``) with activations rounded to 16 bits a row (8 bits)
or 8 bits a group (4 bits); many rows where the processor has bfloat16 products, in bfloat16 (``kernels/prefill.py``;
the 16-bit maps too). Elsewhere, and without a compiler, every call dequantizes the whole map in torch: the
activations keep their precision; the speed on a GPU was not measured.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from ixc.errors import UsageError, WeightsError
from ixc.model.kernels import ops, prefill
from ixc.model.plora import PLoRALinear
from ixc.model.sizes import check_bits

METHOD = "ixc"
"""``quant_method`` in config.json."""

GROUPS = (128, 64, 32)
"""Sizes of a group, which shares a scale and a minimum in 4 bits; the largest that divides every width is used."""

VERSION = 2
"""Version of the packing."""

HALVES = {"bfloat16": torch.bfloat16, "float16": torch.float16}
"""Values of ``half``: the dtype of the other weights in memory."""


@dataclass(frozen=True, kw_only=True)
class Quantization:
    """How the weights of a folder are stored."""

    bits: int
    """Bits of the decoder's maps and the output head: 8 or 4."""
    group_size: int = GROUPS[0]
    """Weights that share a scale in 4 bits; in 8 bits a whole row does."""
    half: str | None = None
    """"bfloat16" or "float16": dtype of the other matrices; None = float32."""

    def __post_init__(self) -> None:
        check_bits(self.bits)
        if self.group_size not in GROUPS:
            raise UsageError(f"group_size is {self.group_size}, it must be one of {', '.join(map(str, GROUPS))}")
        if self.half is not None and self.half not in HALVES:
            raise UsageError(f"half is {self.half!r}, it must be bfloat16, float16 or null")

    def as_dict(self) -> dict[str, Any]:
        """Return the entry of config.json."""
        return {"quant_method": METHOD, "version": VERSION, **asdict(self)}


def read_quantization(config: Any) -> Quantization | None:
    """Read the quantization of a configuration; None if it has none.

    Raises:
        WeightsError: another method, or a value that this package does not write.
    """
    found = getattr(config, "quantization_config", None)
    if not isinstance(found, Mapping):
        return None
    if found.get("quant_method") != METHOD:
        raise WeightsError(
            f"the weights were quantized by {found.get('quant_method')!r}, which is not read here; "
            "quantize the original folder: ixc quantize SRC DST --bits 4"
        )
    if found.get("version") != VERSION:
        raise WeightsError(
            f"the weights are packed in version {found.get('version', 1)}, this package reads {VERSION}; quantize the "
            "original folder again"
        )
    rest = {key: value for key, value in found.items() if key not in ("quant_method", "version")}
    try:
        return Quantization(**rest)
    except (TypeError, UsageError) as error:
        raise WeightsError(f"quantization_config {dict(found)} is none of ours ({error}); quantize again") from error


class QuantizedLinear(nn.Module):
    """A linear map without bias over quantized weights: buffers ``q8`` or ``q4``, ``scale``, ``low``."""

    scale: torch.Tensor
    low: torch.Tensor | None

    def __init__(self, in_features: int, out_features: int, *, bits: int, group_size: int) -> None:
        super().__init__()
        group = in_features if bits == 8 else group_size
        if in_features % group or in_features % GROUPS[-1]:
            raise UsageError(f"a map of width {in_features} cannot be held in groups of {min(group, in_features)}")
        self.in_features, self.out_features, self.bits, self.group_size = in_features, out_features, bits, group
        shape = (out_features, in_features // group)
        if bits == 8:
            self.register_buffer("q8", torch.zeros(out_features, in_features, dtype=torch.int8))
        else:
            self.register_buffer("q4", torch.zeros(out_features, in_features // 2, dtype=torch.uint8))
        self.register_buffer("scale", torch.zeros(shape, dtype=torch.bfloat16))
        self.register_buffer("low", torch.zeros(shape, dtype=torch.bfloat16) if bits == 4 else None)

    def extra_repr(self) -> str:
        return f"{self.in_features}, {self.out_features}, bits={self.bits}, group_size={self.group_size}"

    @property
    def q(self) -> torch.Tensor:
        """The stored integers: ``q8`` or ``q4``."""
        return self.q8 if self.bits == 8 else self.q4  # type: ignore[return-value]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(..., in) -> (..., out), in x's dtype."""
        if prefill.usable(x, self.in_features * self.out_features):
            return prefill.quantized_linear(x, self.q, self.scale, self.low)
        if not ops.usable(x):
            return F.linear(x, self.dequantized(x.dtype))
        if self.low is None:
            return ops.linear8(x, self.q, self.scale)
        return ops.linear4(x, self.q, self.scale, self.low)

    def dequantized(self, dtype: torch.dtype = torch.float32) -> torch.Tensor:
        """Return the weights as floating-point numbers. (out, in)"""
        scale = self.scale.float().unsqueeze(-1)  # (out, groups, 1)
        if self.low is None:
            return (self.q.unsqueeze(1) * scale).flatten(1).to(dtype)
        blocks = self.q.view(self.out_features, -1, 1, _run(self.group_size) // 2)
        numbers = torch.cat([blocks & 15, blocks >> 4], dim=2).view(*self.scale.shape, -1)  # (out, groups, group)
        return (numbers * scale + self.low.float().unsqueeze(-1)).flatten(1).to(dtype)


class HalfPrecisionLinear(nn.Linear):
    """A linear map stored in 16 bits, and computed in the dtype of the activations: the same result, half the memory.

    Many rows on a processor with bfloat16 products are multiplied as stored, with activations rounded to bfloat16.
    """

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        if self.weight.dtype == torch.bfloat16 and prefill.usable(input, self.weight.numel()):
            return prefill.half_linear(input, self.weight, self.bias)
        bias = None if self.bias is None else self.bias.to(input.dtype)
        return F.linear(input, self.weight.to(input.dtype), bias)


class HalfPrecisionEmbedding(nn.Embedding):
    """An embedding stored in 16 bits and returned in the dtype of the activations."""

    wide = torch.float32

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        return super().forward(input).to(self.wide)


def quantize_weight(weight: torch.Tensor, *, bits: int, group_size: int) -> dict[str, torch.Tensor]:
    """Round a matrix (out, in) to the nearest quantized weights.

    Returns:
        Buffers of ``QuantizedLinear``: q8 and scale, or q4, scale and low.
    """
    rows = len(weight)
    wide = weight.float()
    if bits == 8:
        scale = (wide.abs().amax(1, keepdim=True) / 127).bfloat16()
        return {"q8": (wide / _divisor(scale)).round().clamp(-127, 127).to(torch.int8), "scale": scale}
    groups = wide.view(rows, -1, group_size)
    low = groups.amin(-1).bfloat16()
    scale = ((groups.amax(-1) - low.float()) / 15).bfloat16()
    # Rounded against scale and minimum as stored, so that their own rounding to bfloat16 adds no further error.
    steps = (groups - low.float().unsqueeze(-1)) / _divisor(scale).unsqueeze(-1)
    blocks = steps.round().clamp(0, 15).to(torch.uint8).view(rows, -1, 2, _run(group_size) // 2)
    return {"q4": (blocks[:, :, 0] | blocks[:, :, 1] << 4).reshape(rows, -1), "scale": scale, "low": low}


def _run(group_size: int) -> int:
    """Return the number of weights whose two halves share bytes: one vector of the kernel, or a shorter group."""
    return min(group_size, GROUPS[1])


def _divisor(scale: torch.Tensor) -> torch.Tensor:
    """Return the scale with zeros replaced by 1: a group of equal weights has scale zero."""
    wide = scale.float()
    return torch.where(wide == 0, 1.0, wide)


def group_size(config: Any) -> int:
    """The widest group that divides every width of a decoder.

    Raises:
        UsageError: none does.
    """
    text = config.text_config
    widths = (text.hidden_size, text.intermediate_size, text.num_attention_heads * text.head_dim)
    for size in GROUPS:
        if all(width % size == 0 for width in widths):
            return size
    raise UsageError(
        f"widths {', '.join(map(str, widths))} have no common group of {GROUPS[-1]}; this model stays float"
    )


def replace_modules(model: nn.Module, settings: Quantization, *, dtype: torch.dtype = torch.float32) -> None:
    """Replace the modules to quantize by empty quantized ones, in place, on any device (meta too).

    Args:
        model: an ``IxcForConditionalGeneration``.
        settings: bits and groups.
        dtype: of the activations.
    """
    for module in model.modules():
        if isinstance(module, PLoRALinear):
            module.base = _quantized_like(module.base, settings.bits, settings.group_size)  # type: ignore[assignment]
    model.output = _quantized_like(model.output, settings.bits, settings.group_size)  # type: ignore[assignment, arg-type]
    if settings.half is not None:
        _store_in_half_precision(model, HALVES[settings.half], dtype)


def _quantized_like(linear: nn.Linear, bits: int, group: int) -> QuantizedLinear:
    with linear.weight.device:
        return QuantizedLinear(linear.in_features, linear.out_features, bits=bits, group_size=group)


def _store_in_half_precision(model: nn.Module, half: torch.dtype, wide: torch.dtype) -> None:
    """Store every remaining linear map and embedding in 16 bits, by changing the class of the module."""
    for module in model.modules():
        if type(module) is nn.Linear:
            module.__class__ = HalfPrecisionLinear
            module.to(half)
        elif type(module) is nn.Embedding and module.padding_idx is not None:
            module.__class__, module.wide = HalfPrecisionEmbedding, wide  # pyright: ignore[reportArgumentType]
            module.to(half)


__all__ = [
    "HalfPrecisionLinear",
    "Quantization",
    "QuantizedLinear",
    "group_size",
    "quantize_weight",
    "read_quantization",
    "replace_modules",
]
