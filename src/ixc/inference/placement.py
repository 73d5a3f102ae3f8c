"""Checks of where and how weights are loaded: attention kernel, device map, quantization on loading."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec
from typing import Any

import torch

from ixc.errors import MissingPackageError, UsageError

DeviceMap = str | Mapping[str, int | str]
"""How weights are spread: a strategy of `DEVICE_MAPS`, or module name -> device."""

DEVICE_MAPS = ("auto", "balanced", "balanced_low_0", "sequential")
"""Strategies of accelerate."""

ATTENTION = ("sdpa", "eager", "flex_attention", "flash_attention_2", "flash_attention_3")
"""Attention kernels of transformers that the model runs with."""

FLASH = {"flash_attention_2": "flash_attn", "flash_attention_3": "flash_attn_interface"}
"""Kernels that a package of their own brings -> its module."""


def check_attention(name: str | None, device: torch.device, dtype: torch.dtype) -> None:
    """Check an attention kernel; None is the default.

    Raises:
        UsageError: an unknown name, or a kernel that does not run on this device or in this dtype.
        MissingPackageError: its package is not installed.
    """
    if name is None:
        return
    if name not in ATTENTION:
        raise UsageError(f"no attention implementation {name!r}; use one of {', '.join(ATTENTION)}")
    if name == "flex_attention" and device.type == "cpu":  # compiles for minutes, and falls back to plain loops
        raise UsageError(f"flex_attention runs on cuda, not on {device}; use sdpa")
    if name not in FLASH:
        return
    if device.type != "cuda" or dtype == torch.float32:
        kind = str(dtype).removeprefix("torch.")
        raise UsageError(f"{name} runs on cuda in float16 or bfloat16, not on {device} in {kind}; use sdpa")
    if find_spec(FLASH[name]) is None:
        raise MissingPackageError(f"{FLASH[name]} is missing, which {name} needs; pip install flash-attn, or use sdpa")


def check_placement(
    device_map: DeviceMap | None, *, device: str, quantization: str | None, chosen: Mapping[str, Any]
) -> None:
    """Check a device map beside the other options of `load`.

    Args:
        device_map: None = one device.
        device: as given to `load`.
        quantization: as given to `load`.
        chosen: plora and compile.

    Raises:
        UsageError: an unknown strategy, or an option that a spread model does not have.
        MissingPackageError: accelerate is not installed.
    """
    if device_map is None:
        return
    if isinstance(device_map, str) and device_map not in DEVICE_MAPS:
        raise UsageError(
            f"no device_map {device_map!r}; use one of {', '.join(DEVICE_MAPS)}, a mapping of module to device, or "
            f"device={device_map!r}"
        )
    given = {
        "device": device != "auto",
        "quantization": quantization is not None,
        "compile": chosen["compile"],
        "plora": chosen["plora"] != "separate",
    }
    if wrong := [name for name, is_given in given.items() if is_given]:
        raise UsageError(f"device_map and {', '.join(wrong)} exclude each other; leave one of them out")
    if find_spec("accelerate") is None:
        raise MissingPackageError("accelerate is missing, which device_map needs; pip install accelerate")
