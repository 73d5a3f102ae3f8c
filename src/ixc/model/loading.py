"""Loading a folder of weights: read its configuration, compare keys and shapes, make the model.

A folder is ``config.json`` and either safetensors (``model.safetensors``, or shards with
``model.safetensors.index.json``) or the published ``pytorch_model*.bin`` shards. Only one shard is in memory at a time.

    check(folder)   every key present, none too many, all shapes right; reads only the headers of safetensors
    load(folder)    check, then a model
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from huggingface_hub.errors import StrictDataclassError

from ixc.errors import UsageError, WeightsError
from ixc.model.checkpoint_files import check_keys, json_object, weight_files
from ixc.model.configuration import IxcConfig
from ixc.model.key_mapping import is_ignored, published_name
from ixc.model.modeling import IxcForConditionalGeneration
from ixc.model.quantization.layers import group_size, read_quantization, replace_modules
from ixc.model.quantization.loading import is_quantized
from ixc.model.tensor_files import Shape, stored_shapes

_MAX_REASON_LENGTH = 200
"""Characters of another library's message repeated in ours."""


def read_config(folder: str | Path) -> IxcConfig:
    """Read the configuration of a folder, in the flat published form or the nested one of this package.

    Raises:
        WeightsError: there is no config.json, it is not JSON, or it holds a value no model can have.
    """
    path = Path(folder) / "config.json"
    if not path.is_file():
        raise WeightsError(f"{folder} has no config.json; name the folder that holds config.json and the weights")
    try:
        return IxcConfig.from_dict(json_object(path))
    except (StrictDataclassError, UsageError, TypeError, ValueError, AttributeError) as error:
        reason = " ".join(str(error).split())[:_MAX_REASON_LENGTH]
        raise WeightsError(f"{path} describes no model of ours ({reason}); correct it or fetch it again") from error


def expected_shapes(config: IxcConfig) -> dict[str, Shape]:
    """Return published key -> shape of every weight of a model; the model is made on the meta device only."""
    with torch.device("meta"):
        model = IxcForConditionalGeneration(config)
    if (settings := read_quantization(config)) is not None:
        replace_modules(model, settings)
    return {published_name(key): tuple(value.shape) for key, value in model.state_dict().items()}


def check(folder: str | Path) -> IxcConfig:
    """Check that a folder holds exactly the weights its config.json asks for.

    Returns:
        The configuration.

    Raises:
        WeightsError: weights are missing, unexpected, of another shape or damaged; named by their published keys.
    """
    config = read_config(folder)
    expected = expected_shapes(config)
    found: dict[str, Shape] = {}
    for path in weight_files(folder):
        found |= stored_shapes(path)
    both = expected.keys() & found.keys()
    check_keys(
        folder,
        missing=expected.keys() - found.keys(),
        unexpected=[key for key in found.keys() - expected.keys() if not is_ignored(key)],
        mismatched=[(key, found[key], expected[key]) for key in both if found[key] != expected[key]],
    )
    return config


QUANTIZATIONS = {"int8": 8, "int4": 4}
"""Values of `quantization` -> bits of the decoder's linear layers and its head."""


def check_quantization(folder: Path, config: IxcConfig, quantization: str | None) -> None:
    """Check whether a folder can be quantized while it is loaded.

    Raises:
        UsageError: an unknown value, weights that are quantized already, or widths that have no common group.
    """
    if quantization is None:
        return
    if quantization not in QUANTIZATIONS:
        raise UsageError(f"no quantization {quantization!r}; use one of {', '.join(QUANTIZATIONS)}")
    if (already := read_quantization(config)) is not None:
        raise UsageError(f"{folder} holds weights of {already.bits} bits already; leave quantization out")
    group_size(config)


def load(folder: str | Path, *, quantization: str | None = None, **kwargs: Any) -> IxcForConditionalGeneration:
    """Check a folder, then load it.

    Args:
        folder: local folder.
        quantization: key of `QUANTIZATIONS`: round the decoder's linear layers and its head while they are loaded.
        **kwargs: as ``from_pretrained``: dtype, device_map, attn_implementation, quantization_config, ...

    Raises:
        WeightsError: as ``check``. UsageError: as ``check_quantization``.
    """
    config = check(folder)
    if quantization is None:
        return IxcForConditionalGeneration.from_pretrained(folder, config=config, **kwargs)
    check_quantization(Path(folder), config, quantization)
    from ixc.model.quantization.on_load import load_and_quantize

    return load_and_quantize(folder, config, bits=QUANTIZATIONS[quantization], **kwargs)


__all__ = ["QUANTIZATIONS", "check", "check_quantization", "expected_shapes", "is_quantized", "load", "read_config"]
