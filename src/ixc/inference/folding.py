"""PLoRA as a second copy of the decoder's matrices, or as low-rank products: which one, by the plan's arithmetic.

Folding saves the low-rank products of the prefill (about 6 % of its work at the published ranks) and costs the
decoder's matrices once more. `auto` folds where the copy fits the free memory beside the keys and values of the longest
prompt.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch

from ixc.errors import UsageError
from ixc.inference.plan import read_geometry

PLORA = ("low_rank", "folded", "auto")
"""What `load` takes."""

SPARE = 0.1
"""Share of the free memory left alone."""


def check_plora(value: str) -> None:
    """Raises: UsageError: no such way."""
    if value not in PLORA:
        raise UsageError(f"plora is {value!r}; use one of {', '.join(PLORA)}")


def fits_folded(folder: Path, model: Any) -> bool:
    """True if the copy and the longest prompt fit the free memory beside the model, which is loaded already."""
    m = read_geometry(folder)
    size = model.dtype.itemsize
    copy = m.layers * m.matrices_per_layer * size
    longest = 2 * m.layers * m.kv_heads * m.head_dim * m.max_positions * size
    return copy + longest <= (1 - SPARE) * free_bytes(model.device)


def free_bytes(device: torch.device) -> int:
    """Memory nobody uses: of the GPU, or of the machine."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
