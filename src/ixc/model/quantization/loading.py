"""Loading a folder of small weights (``quantized``): tensors go from the file into an empty model, none is widened.

config.json says quant_method "ixc" --is_quantized--> empty model --prepare--> small modules <--assign-- safetensors
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import nn
from transformers import GenerationConfig

from ixc.errors import UsageError, WeightsError
from ixc.model.configuration import IxcConfig
from ixc.model.key_mapping import is_ignored, published_name
from ixc.model.quantization.layers import (
    METHOD,
    HalfPrecisionEmbedding,
    HalfPrecisionLinear,
    QuantizedLinear,
    read_quantization,
    replace_modules,
)

_TAKEN = ("config", "dtype", "torch_dtype", "attn_implementation", "device_map")
"""Arguments of ``from_pretrained`` that mean something here."""

_EMPTY = (None, False, {})
"""Values of other arguments that change nothing."""


def is_quantized(source: Any) -> bool:
    """True for a local folder whose config.json names our method."""
    try:
        path = Path(source) / "config.json"
        found = json.loads(path.read_text(encoding="utf-8")).get("quantization_config")
    except (OSError, ValueError, TypeError, AttributeError):
        return False
    return isinstance(found, dict) and found.get("quant_method") == METHOD


def load_quantized(cls: Any, source: Any, **kwargs: Any) -> Any:
    """As ``from_pretrained`` of ``cls`` (the whole model), for a folder of small weights.

    Args:
        **kwargs: dtype (of everything that is not small; "auto" = the folder's), device_map (one device),
            attn_implementation, config.

    Raises:
        WeightsError: keys missing, surplus, of another shape or kind, or a damaged file.
        UsageError: an argument that has no effect on small weights.
    """
    useless = sorted(key for key, value in kwargs.items() if key not in _TAKEN and value not in _EMPTY)
    useless = [key for key in useless if key not in ("trust_remote_code", "local_files_only", "output_loading_info")]
    if useless:
        raise UsageError(f"{', '.join(useless)} has no effect on the small weights of {source}; leave it out")
    folder = Path(source)
    config = kwargs.get("config") or IxcConfig.from_pretrained(folder)
    if kwargs.get("attn_implementation") is not None:
        config._attn_implementation = kwargs["attn_implementation"]
    settings, dtype = read_quantization(config), _dtype(kwargs, config)
    assert settings is not None
    with torch.device("meta"):
        model = cls(config)
    replace_modules(model, settings, dtype=dtype)
    model.load_state_dict(_tensors(model, folder, dtype), assign=True)
    model.generation_config = _generation_config(model, folder)
    where = kwargs.get("device_map")
    model = model.requires_grad_(False).eval()
    return model if where in (None, "auto", {}) else model.to(where[""] if isinstance(where, dict) else where)


def _dtype(kwargs: dict[str, Any], config: Any) -> torch.dtype:
    """Of the activations."""
    found = kwargs.get("dtype", kwargs.get("torch_dtype"))
    if found in (None, "auto"):
        found = config.dtype if found == "auto" and config.dtype is not None else torch.float32
    return getattr(torch, found) if isinstance(found, str) else found


def _tensors(model: nn.Module, folder: Path, dtype: torch.dtype) -> dict[str, torch.Tensor]:
    """Every tensor of the model from the folder's files, under our names.

    Raises:
        WeightsError: see ``load_quantized``.
    """
    from ixc.model.checkpoint_files import weight_files
    from ixc.model.strict_loading import refuse

    wanted = {published_name(key): (key, value) for key, value in model.state_dict().items()}
    kept = _kept(model)
    found: dict[str, torch.Tensor] = {}
    surplus, misshapen = [], []
    for path in weight_files(folder):
        for name, tensor in _read(path):
            if name not in wanted:
                surplus += [] if is_ignored(name) else [name]
                continue
            key, empty = wanted[name]
            if tensor.shape != empty.shape:
                misshapen.append((name, tuple(tensor.shape), tuple(empty.shape)))
            found[key] = _fitting(name, tensor, empty.dtype if key in kept else dtype, stored=key in kept)
    missing = [name for name, (key, _) in wanted.items() if key not in found]
    refuse(folder, missing=missing, surplus=surplus, misshapen=misshapen)
    return found


def _kept(model: nn.Module) -> set[str]:
    """Names of tensors that stay as they are stored, whatever the dtype of the activations."""
    return {
        f"{prefix}.{name}"
        for prefix, module in model.named_modules()
        if isinstance(module, QuantizedLinear | HalfPrecisionLinear | HalfPrecisionEmbedding)
        for name in module.state_dict()
    }


def _fitting(name: str, tensor: torch.Tensor, dtype: torch.dtype, *, stored: bool) -> torch.Tensor:
    if tensor.is_floating_point() != dtype.is_floating_point or (
        stored and not dtype.is_floating_point and tensor.dtype != dtype
    ):
        raise WeightsError(f"{name} is {tensor.dtype}, {dtype} needed; quantize the original folder again")
    return tensor.to(dtype)


def _read(path: Path) -> Any:
    """(published name, tensor) one after the other."""
    if path.suffix != ".safetensors":
        raise WeightsError(f"{path} is pickled, small weights are safetensors; quantize the original folder again")
    try:
        with safe_open(path, framework="pt") as file:
            for name in file.keys():  # noqa: SIM118
                yield name, file.get_tensor(name)
    except (SafetensorError, OSError) as error:
        raise WeightsError(f"{path} is damaged or cut off ({error}); quantize the original folder again") from error


def _generation_config(model: Any, folder: Path) -> GenerationConfig:
    from ixc.model.strict_loading import _generation_config as with_stops

    if (folder / "generation_config.json").is_file():
        model.generation_config = GenerationConfig.from_pretrained(folder)
    return with_stops(model, folder)
