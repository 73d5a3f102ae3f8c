"""Reading the golden model: its folder, its cases as inputs, and how close is close.

Tolerance: the goldens were made by other code in float32; sums in another order differ in the last digits. An
independent implementation stayed within 2e-5 of the largest value, so 1e-4 leaves room and still sees any real change.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from safetensors.torch import load_file

REFERENCE = Path(__file__).parents[1] / "goldens" / "reference"
FOLDER = REFERENCE / "checkpoint"
RECORD = json.loads((REFERENCE / "model.json").read_text())
INFERENCE = {case["name"]: case for case in RECORD["inference_cases"]}
TENSORS = load_file(REFERENCE / "model.safetensors")
ROUNDING = 1e-6
"""Norm of a gradient that is zero on paper: a key's bias moves all scores of a query alike. What is left is rounding
and depends on the processor (5e-8 in the goldens, 1.5e-7 on a Xeon); all other norms are 10,000 times larger."""
IMAGE_ID = 505
"""512 - 7, what the flat config gives; the golden ids say -1."""


def tiles(image: dict[str, Any]) -> torch.Tensor:
    """(h*w, 3, 336, 336) uint8 of a processed canvas."""
    pixels = torch.from_numpy(np.array(Image.open(REFERENCE / image["processed"])))
    rows, columns = pixels.shape[0] // 336, pixels.shape[1] // 336
    return pixels.view(rows, 336, columns, 336, 3).permute(0, 2, 4, 1, 3).reshape(-1, 3, 336, 336)


def images(case: dict[str, Any]) -> dict[str, torch.Tensor]:
    """pixel_values and image_grids, or nothing for a case of text."""
    found = case.get("images", [])
    if not found:
        return {}
    grids = [[image["grid_h"], image["grid_w"]] for image in found]
    return {"pixel_values": torch.cat([tiles(image) for image in found]), "image_grids": torch.tensor(grids)}


def inputs(case: dict[str, Any]) -> dict[str, torch.Tensor]:
    """A batch of one."""
    ids = TENSORS[f"{case['name']}.input_ids"].long()[None]
    mask = ids == -1
    return {"input_ids": ids.masked_fill(mask, IMAGE_ID), "mm_token_type_ids": mask.long(), **images(case)}


def assert_close(found: torch.Tensor, wanted: torch.Tensor, *, tolerance: float = 1e-4) -> None:
    """Largest difference as a share of the largest value."""
    assert found.shape == wanted.shape
    difference, largest = (found.detach() - wanted).abs().max().item(), wanted.abs().max().item()
    assert difference <= tolerance * largest, f"{difference:.2e} of {largest:.2e}, allowed {tolerance:.0e} of it"
