"""The pixels of the original code: canvas bytes exactly, normalised values and overview within float rounding.

The goldens were made after `convert("RGB")`, which drops alpha; `to_rgb` lays it on white instead (a difference on
purpose, see its docstring), so the RGBA picture is converted here the way the original was.
"""

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.numpy import load_file

from ixc.core.tiling import TILE, partition
from ixc.processing.canvas import resize_to_canvas
from ixc.processing.image_io import open_image
from ixc.processing.image_processing import IxcImageProcessorPil

GOLDENS = Path(__file__).parents[1] / "goldens" / "reference"
CASES = json.loads((GOLDENS / "images.json").read_text(encoding="utf-8"))["cases"]
CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)


@pytest.fixture(scope="module")
def tensors() -> dict[str, np.ndarray]:
    return load_file(GOLDENS / "images.safetensors")


def canvas_of(case: dict) -> np.ndarray:
    image = Image.open(GOLDENS / case["image"]).convert("RGB")
    return resize_to_canvas(image, partition=partition(*image.size, hd=case["hd_num"]))


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["key"])
def test_resize_to_canvas_is_bit_equal(case: dict, tensors: dict[str, np.ndarray]) -> None:
    canvas = canvas_of(case)
    assert canvas.shape == (case["out_height"], case["out_width"], 3)
    stride = case["stride"]
    np.testing.assert_array_equal(canvas[::stride, ::stride], tensors[f"{case['key']}.rgb_strided"])
    assert hashlib.sha256(canvas.tobytes()).hexdigest() == case["sha256_rgb"]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["key"])
def test_image_features_normalised_and_overview(case: dict, tensors: dict[str, np.ndarray]) -> None:
    """Written out here on its own, so that the model's overview has something independent to be compared with."""
    pixels = torch.from_numpy(canvas_of(case)).permute(2, 0, 1) / 255
    pixels = (pixels - torch.tensor(CLIP_MEAN)[:, None, None]) / torch.tensor(CLIP_STD)[:, None, None]
    if (corner := tensors.get(f"{case['key']}.normalized_corner")) is not None:  # came with ten of the cases
        # float32 rounding of two operations on values below 3.
        np.testing.assert_allclose(pixels[:, 140:180, 140:180].numpy(), corner, atol=1e-5, rtol=0)
    view = torch.nn.functional.interpolate(pixels[None], size=(TILE, TILE), mode="bicubic")[0]
    # Sixteen products summed, in an order that depends on the build of torch.
    np.testing.assert_allclose(view[:, ::16, ::16].numpy(), tensors[f"{case['key']}.global_strided"], atol=1e-4, rtol=0)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["key"])
def test_image_processing_gives_the_same_pixels(case: dict) -> None:
    """The whole way, from the file through `open_image`, put back together to a canvas."""
    path = GOLDENS / case["image"]
    image = Image.open(path).convert("RGB") if case["mode"] == "RGBA" else open_image(path)
    batch = IxcImageProcessorPil(hd=case["hd_num"])(image)
    h, w = batch["image_grids"][0].tolist()
    canvas = batch["pixel_values"].reshape(h, w, 3, TILE, TILE).permute(0, 3, 1, 4, 2).reshape(h * TILE, w * TILE, 3)
    assert hashlib.sha256(canvas.numpy().tobytes()).hexdigest() == case["sha256_rgb"]


def test_image_processing_goldens_have_ten_normalised_cases(tensors: dict[str, np.ndarray]) -> None:
    assert sum(key.endswith(".normalized_corner") for key in tensors) == 10
