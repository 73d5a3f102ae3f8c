"""PLoRA as a second copy of the decoder's matrices, or as low-rank products: which one, by the plan's arithmetic.

Merging saves the low-rank products of the prefill (about 6 % of its work at the published ranks) and costs the
decoder's matrices once more. `auto` merges where the copy fits the free memory beside the keys and values of the
longest prompt.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch

from ixc.inference.cost import ModelGeometry, read_geometry
from ixc.model.linear import is_plain
from ixc.model.plora import PLoRALinear

SPARE = 0.1
"""Share of the free memory left alone."""


def should_merge(value: str, folder: Path, model: Any, *, compile: bool) -> bool:
    """Whether to merge. `auto` does so where the copy and the longest prompt fit the free memory beside the model."""
    if value != "auto":
        return value == "merged"
    return (
        not compile
        and _is_whole(model)
        and merged_bytes_needed(read_geometry(folder), model) <= available_bytes(model.device)
    )


def merged_bytes_needed(sizes: ModelGeometry, model: Any) -> int:
    """Bytes of the copy, and of the keys and values of the longest prompt."""
    size = model.dtype.itemsize
    copy = sizes.layers * sizes.matrices_per_layer * size
    return copy + 2 * sizes.layers * sizes.kv_heads * sizes.head_dim * sizes.max_positions * size


def available_bytes(device: torch.device) -> int:
    """Bytes that may be taken."""
    return int((1 - SPARE) * free_bytes(device))


def _is_whole(model: Any) -> bool:
    """True if no map of the decoder is quantized."""
    return all(is_plain(part.base) for part in model.modules() if isinstance(part, PLoRALinear))


def free_bytes(device: torch.device) -> int:
    """Memory nobody uses: of the GPU, or of the machine."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
