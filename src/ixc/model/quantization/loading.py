"""Loading a quantized folder: tensors go from the file into an empty model as they are stored.

config.json says quant_method "ixc" --is_quantized--> empty model --replace_modules--> modules <--assign-- safetensors
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import GenerationConfig

from ixc.errors import UsageError, WeightsError
from ixc.model.checkpoint_files import check_keys, weight_files
from ixc.model.configuration import IxcConfig
from ixc.model.generation import with_stop_tokens
from ixc.model.key_mapping import is_ignored, published_name
from ixc.model.quantization.layers import (
    METHOD,
    HalfPrecisionEmbedding,
    HalfPrecisionLinear,
    QuantizedLinear,
    read_quantization,
    replace_modules,
)
from ixc.model.tensor_files import stored_tensors

_ARGUMENTS = ("config", "dtype", "torch_dtype", "attn_implementation", "device_map")
"""Arguments of ``from_pretrained`` that have an effect here."""

_HARMLESS_ARGUMENTS = ("trust_remote_code", "local_files_only", "output_loading_info")
"""Arguments that may be given and change nothing."""

_NO_EFFECT = (None, False, {})
"""Values of the other arguments that change nothing."""


def is_quantized(source: Any) -> bool:
    """Return True for a local folder whose config.json names our quantization method."""
    try:
        path = Path(source) / "config.json"
        found = json.loads(path.read_text(encoding="utf-8")).get("quantization_config")
    except (OSError, ValueError, TypeError, AttributeError):
        return False
    return isinstance(found, dict) and found.get("quant_method") == METHOD


def load_quantized(cls: Any, source: Any, **kwargs: Any) -> Any:
    """Do what ``from_pretrained`` of ``cls`` (the whole model) does, for a quantized folder.

    Args:
        cls: the model class.
        source: local folder.
        **kwargs: dtype (of everything that is not quantized; "auto" = the folder's), device_map (one device),
            attn_implementation, config.

    Raises:
        WeightsError: keys missing, unexpected, of another shape or kind, or a damaged file.
        UsageError: an argument that has no effect on quantized weights.
    """
    useless = sorted(key for key, value in kwargs.items() if key not in _ARGUMENTS and value not in _NO_EFFECT)
    useless = [key for key in useless if key not in _HARMLESS_ARGUMENTS]
    if useless:
        raise UsageError(f"{', '.join(useless)} has no effect on the quantized weights of {source}; leave it out")
    return fill_quantized(cls, Path(source), _stored(Path(source)), **kwargs)


def fill_quantized(cls: Any, folder: Path, stored: Iterator[tuple[str, torch.Tensor]], **kwargs: Any) -> Any:
    """Make an empty quantized model and fill it with tensors.

    Args:
        cls: the model class.
        folder: of the model, for its settings and for messages.
        stored: (published name, tensor), quantized.
        **kwargs: as ``load_quantized``.

    Raises:
        WeightsError: keys missing, unexpected, of another shape or kind.
    """
    config = kwargs.get("config") or IxcConfig.from_pretrained(folder)
    if kwargs.get("attn_implementation") is not None:
        config._attn_implementation = kwargs["attn_implementation"]
    settings, dtype = read_quantization(config), _activation_dtype(kwargs, config)
    assert settings is not None
    with torch.device("meta"):
        model = cls(config)
    replace_modules(model, settings, dtype=dtype)
    model.load_state_dict(_tensors(model, folder, stored, dtype), assign=True)
    if (folder / "generation_config.json").is_file():
        model.generation_config = GenerationConfig.from_pretrained(folder)
    model.generation_config = with_stop_tokens(model, folder)
    device = kwargs.get("device_map")
    model = model.requires_grad_(False).eval()
    if device in (None, "auto", {}):
        return model
    return model.to(device[""] if isinstance(device, dict) else device)


def _activation_dtype(kwargs: dict[str, Any], config: Any) -> torch.dtype:
    found = kwargs.get("dtype", kwargs.get("torch_dtype"))
    if found in (None, "auto"):
        found = config.dtype if found == "auto" and config.dtype is not None else torch.float32
    return getattr(torch, found) if isinstance(found, str) else found


def _tensors(
    model: nn.Module, folder: Path, stored: Iterator[tuple[str, torch.Tensor]], dtype: torch.dtype
) -> dict[str, torch.Tensor]:
    """Return every tensor of the model, under our names.

    Raises:
        WeightsError: see ``load_quantized``.
    """
    expected = {published_name(key): (key, value) for key, value in model.state_dict().items()}
    as_stored = _names_kept_as_stored(model)
    found: dict[str, torch.Tensor] = {}
    unexpected: list[str] = []
    mismatched: list[tuple[str, tuple[int, ...], tuple[int, ...]]] = []
    for name, tensor in stored:
        if name not in expected:
            unexpected += [] if is_ignored(name) else [name]
            continue
        key, empty = expected[name]
        if tensor.shape != empty.shape:
            mismatched.append((name, tuple(tensor.shape), tuple(empty.shape)))
        is_stored = key in as_stored
        found[key] = _converted(name, tensor, empty.dtype if is_stored else dtype, stored=is_stored)
    missing = [name for name, (key, _) in expected.items() if key not in found]
    check_keys(folder, missing=missing, unexpected=unexpected, mismatched=mismatched)
    return found


def _names_kept_as_stored(model: nn.Module) -> set[str]:
    """Return the keys of tensors that keep their stored dtype, whatever the dtype of the activations."""
    return {
        f"{prefix}.{name}"
        for prefix, module in model.named_modules()
        if isinstance(module, QuantizedLinear | HalfPrecisionLinear | HalfPrecisionEmbedding)
        for name in module.state_dict()
    }


def _converted(name: str, tensor: torch.Tensor, dtype: torch.dtype, *, stored: bool) -> torch.Tensor:
    """Cast a tensor; integers are never cast, because they are packed weights."""
    if tensor.is_floating_point() != dtype.is_floating_point or (
        stored and not dtype.is_floating_point and tensor.dtype != dtype
    ):
        raise WeightsError(f"{name} is {tensor.dtype}, {dtype} needed; quantize the original folder again")
    return tensor.to(dtype)


def _stored(folder: Path) -> Iterator[tuple[str, torch.Tensor]]:
    """Yield (published name, tensor) of all files."""
    for path in weight_files(folder):
        if path.suffix != ".safetensors":
            raise WeightsError(
                f"{path} is pickled, quantized weights are safetensors; quantize the original folder again"
            )
        yield from stored_tensors(path)
