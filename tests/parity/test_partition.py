"""The partition of the original code, case by case: 322 sizes and budgets, compared exactly. Spec (a)."""

import json
from pathlib import Path

import pytest

from ixc.core.tiling import partition
from ixc.core.token_layout import num_image_tokens
from ixc.errors import GeometryError

GOLDENS = Path(__file__).parents[1] / "goldens" / "reference"
CASES = json.loads((GOLDENS / "partition.json").read_text(encoding="utf-8"))["cases"]

NAMES = {"canvas_width": "padded_width", "canvas_height": "padded_height"}
"""Ours -> theirs, where the names differ."""
SAME = ["transposed", "grid_h", "grid_w", *(f"pad_{side}" for side in ("left", "top", "right", "bottom"))]
FIELDS = {name: name for name in [*SAME, "resized_width", "resized_height"]} | NAMES


@pytest.mark.parametrize("case", CASES, ids=lambda c: f"{c['width']}x{c['height']}-hd{c['hd_num']}")
def test_partition(case: dict) -> None:
    size = {"width": case["width"], "height": case["height"], "hd": case["hd_num"]}
    if "error" in case:
        with pytest.raises(GeometryError):
            partition(**size)
        return
    part = partition(**size)
    assert {theirs: getattr(part, ours) for ours, theirs in FIELDS.items()} == {k: case[k] for k in FIELDS.values()}
    assert num_image_tokens(part.grid_h, part.grid_w) == case["num_tokens"]


def test_partition_goldens_hold_the_sizes_integers_get_wrong() -> None:
    """Trap 7: without these cases, integer arithmetic would pass."""
    assert sum(case["float_sensitive"] == "height" for case in CASES) > 20
