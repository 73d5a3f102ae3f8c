"""The measured model: that of a folder, or random weights in given sizes, in 32, 8 or 4 bits."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from ixc.bench.names import UNQUANTIZED, check_names
from ixc.errors import UsageError
from ixc.inference.cost import ModelGeometry, read_geometry
from ixc.inference.engine import Engine, load
from ixc.inference.model_folder import EMBEDDED, find_folder, read_processor
from ixc.model.configuration import IxcConfig
from ixc.model.modeling import IxcForConditionalGeneration
from ixc.model.quantization.convert import quantize
from ixc.model.quantization.layers import Quantization, QuantizedLinear, group_size, replace_modules
from ixc.model.sizes import BITS

GEOMETRIES = {"7b": ModelGeometry(), "nano": read_geometry(EMBEDDED)}
"""Values of `--geometry`."""

SPREAD = 0.02
"""Standard deviation of random weights."""


@dataclass(frozen=True, kw_only=True)
class Subject:
    """The measured model."""

    folder: Path | None = None
    """Model folder; None with `geometry` None = the embedded model."""
    geometry: str | None = None
    """Key of `GEOMETRIES`: random weights of these widths."""
    layers: int | None = None
    """With a geometry: layers of vision encoder and decoder each; None = all."""

    def __post_init__(self) -> None:
        check_names(geometry=self.geometry)
        if self.geometry is not None and self.folder is not None:
            raise UsageError("a folder and a geometry were named; measure one of them")
        if self.layers is not None and (self.geometry is None or self.layers < 1):
            raise UsageError(f"layers is {self.layers}: at least 1, and only with a geometry")

    @property
    def name(self) -> str:
        """Name in tables."""
        if self.geometry is None:
            return "embedded model" if self.folder is None else self.folder.resolve().name
        return f"{self.geometry} widths, {self.layers or 'all'} layers, random weights"

    @property
    def sizes(self) -> ModelGeometry:
        """Sizes of the model, for the roofline."""
        if self.geometry is None:
            return read_geometry(find_folder(self.folder))
        full = GEOMETRIES[self.geometry]
        return full if self.layers is None else replace(full, layers=self.layers, vit_layers=self.layers)

    def engine(self, bits: int, *, device: str = "auto") -> Engine:
        """Load the model.

        Raises:
            UsageError: bits other than 32, 8 and 4; a quantised folder asked for in other bits.
        """
        if bits not in (UNQUANTIZED, *BITS):
            raise UsageError(f"bits is {bits}, one of 32, 8, 4 needed")
        if self.geometry is not None:
            return _random(self.sizes, bits, device)
        if bits == UNQUANTIZED:
            return load(self.folder, device=device)
        with tempfile.TemporaryDirectory() as scratch:
            return load(quantize(find_folder(self.folder), Path(scratch) / "small", bits=bits), device=device)


def _random(sizes: ModelGeometry, bits: int, device: str) -> Engine:
    """Create random weights layer by layer, in place: a quantised model never exists in float32 as a whole."""
    processor = read_processor(find_folder(None))
    where = torch.device("cuda" if device == "auto" and torch.cuda.is_available() else device.replace("auto", "cpu"))
    dtype = torch.float32 if where.type == "cpu" else torch.bfloat16
    config = _config(sizes, processor.image_token_id)
    with torch.device("meta"):
        model = IxcForConditionalGeneration(config)
    if bits != UNQUANTIZED:
        replace_modules(model, Quantization(bits=bits, group_size=group_size(config), half="bfloat16"), dtype=dtype)
    _fill(model, where, dtype)
    return Engine(model=model.eval().requires_grad_(False), processor=processor)


def _config(sizes: ModelGeometry, image_token_id: int) -> IxcConfig:
    text: dict[str, Any] = {
        "num_hidden_layers": sizes.layers,
        "hidden_size": sizes.width,
        "intermediate_size": sizes.mlp,
        "num_attention_heads": sizes.heads,
        "num_key_value_heads": sizes.kv_heads,
        "head_dim": sizes.head_dim,
        "vocab_size": sizes.vocab,
        "plora_r": sizes.plora_r,
        "plora_qkv_r": sizes.plora_qkv_r,
        "max_position_embeddings": sizes.max_positions,
    }
    vision: dict[str, Any] = {
        "num_hidden_layers": sizes.vit_layers,
        "hidden_size": sizes.vit_width,
        "intermediate_size": sizes.vit_mlp,
        "num_attention_heads": max(1, sizes.vit_width // 64),
    }
    return IxcConfig(text_config=text, vision_config=vision, image_token_id=image_token_id)


@torch.no_grad()
def _fill(model: torch.nn.Module, device: torch.device, dtype: torch.dtype) -> None:
    """Fill in weights from a fixed seed; quantisation scales and offsets give quantised weights the same spread."""
    generator = torch.Generator(device).manual_seed(0)
    for module in model.modules():
        for name, empty in [*module._parameters.items(), *module._buffers.items()]:
            if empty is None:
                continue
            target = empty.dtype if empty.dtype in (torch.bfloat16, torch.int8, torch.uint8) else dtype
            if not target.is_floating_point:
                low, high = (-127, 128) if target == torch.int8 else (0, 256)
                values = torch.empty(empty.shape, dtype=target, device=device).random_(low, high, generator=generator)
            elif isinstance(module, QuantizedLinear):
                step = SPREAD * 12**0.5 / (255 if module.bits == 8 else 15)
                start = step if name == "scale" else -7.5 * step
                values = torch.full(empty.shape, start, dtype=target, device=device)
            elif empty.dim() < 2:
                values = torch.full(empty.shape, float(name == "weight"), dtype=target, device=device)
            else:
                values = torch.empty(empty.shape, dtype=target, device=device).normal_(0, SPREAD, generator=generator)
            if name in module._parameters:
                module._parameters[name] = torch.nn.Parameter(values, requires_grad=False)
            else:
                module._buffers[name] = values
