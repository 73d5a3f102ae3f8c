"""Evidence of an answer: the boxes of each picture that its tokens were copied from, by the model's attention.

    attention of every answer token on the image tokens (attention_maps.py) --strongest cells--> regions --> boxes

A token of the answer points at the cells of 28 x 28 canvas pixels that receive at least half of the most attention.
Cells that touch, or have one cell between them in a row, make a region; a region that fewer than a tenth of the
answer's tokens point at is left out. How often the boxes hold the answer is measured for the embedded model
(`dev/evidence.py`); for other weights they show where the model looked, and nobody has counted.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ixc.core.tiling import Partition, partition

if TYPE_CHECKING:
    import numpy as np
    from PIL import Image

    from ixc.inference.attention_maps import AttentionMaps
    from ixc.inference.engine import Engine
    from ixc.inference.request import Request

STRONG = 0.5
"""Share of a token's strongest cell from which another cell counts."""
LEAST_SHARE = 0.1
"""Share of the answer's tokens that must point at a region."""
MARGIN = 0.25
"""Cells by which a box is larger on every side: a letter belongs to the cell of its centre and may stand out of it."""
COLOUR = (215, 25, 70)
"""Of the boxes that `draw_boxes` draws."""


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """A box of a picture that an answer was copied from."""

    image: int
    """Place of the picture in the question, from 0."""
    box: tuple[float, float, float, float]
    """Left, top, right, bottom as shares of the picture's width and height, 0 to 1."""
    share: float
    """Share of the answer's tokens that point there, 0 to 1."""

    def pixels(self, width: int, height: int) -> tuple[int, int, int, int]:
        """Return the box in the pixels of a picture of this size."""
        left, top, right, bottom = self.box
        return round(left * width), round(top * height), round(right * width), round(bottom * height)


def find(
    engine: Engine, request: Request, answer: Sequence[int], sizes: Sequence[tuple[int, int]]
) -> tuple[Evidence, ...]:
    """Return the boxes of an answer, those that most of it was copied from first.

    Args:
        engine: that gave the answer; its prefix cache must be on.
        request: as it was answered.
        answer: its tokens, without the stop token.
        sizes: (width, height) of every picture, pixels.

    Raises:
        UsageError: no prefix cache, or compiled steps. CapacityError: too little memory.
    """
    import torch

    from ixc.inference import attention_maps

    if not answer or not sizes:
        return ()
    new = torch.tensor([list(answer)])
    more = {"input_ids": new, "attention_mask": torch.ones_like(new), "mm_token_type_ids": torch.zeros_like(new)}
    inputs = {
        name: torch.cat([value, more[name].to(value.dtype)], 1) if name in more else value
        for name, value in request.inputs.items()
    }
    maps = attention_maps.compute(engine, inputs, answer_tokens=len(answer))
    places = [partition(*size, hd=request.hd, rule=request.partition) for size in sizes]
    found = [
        Evidence(image=image, box=box, share=share)
        for image, (boxes, place) in enumerate(zip(canvas_boxes(maps), places, strict=True))
        for canvas_box, share in boxes
        if (box := _on_picture(canvas_box, place)) is not None
    ]
    return tuple(sorted(found, key=lambda each: -each.share))


Box = tuple[float, float, float, float]
"""Left, top, right, bottom as shares of a width and a height, 0 to 1."""


def canvas_boxes(maps: Sequence[AttentionMaps]) -> list[list[tuple[Box, float]]]:
    """Return for each image the boxes on its canvas with the share of the answer's tokens that point there.

    A token points at its strongest cells of all images together.
    """
    import numpy as np

    if not maps:
        return []
    strongest = np.max([one.tokens.flatten(1).max(1).values.numpy() for one in maps], axis=0)  # (A,)
    found = []
    for one in maps:
        pointed = one.tokens.numpy() >= STRONG * strongest[:, None, None]  # (A, rows, columns)
        pointed &= (strongest > 0)[:, None, None]
        shares = [(_box(region), float(pointed[:, region].any(1).mean())) for region in regions(pointed.any(0))]
        found.append([(box, round(share, 3)) for box, share in shares if share >= LEAST_SHARE])
    return found


def regions(cells: np.ndarray) -> list[np.ndarray]:
    """Return the parts of (rows, columns) bool whose cells touch, or have one cell between them in a row."""
    import numpy as np

    left, found = cells.copy(), []
    while left.any():
        region = np.zeros_like(cells)
        waiting = [tuple(np.argwhere(left)[0])]
        left[waiting[0]] = False
        while waiting:
            row, column = waiting.pop()
            region[row, column] = True
            top, start = max(0, row - 1), max(0, column - 2)
            for near_row, near_column in np.argwhere(left[top : row + 2, start : column + 3]):
                at = (int(near_row) + top, int(near_column) + start)
                left[at] = False
                waiting.append(at)
        found.append(region)
    return found


def _box(region: np.ndarray) -> Box:
    """Return the box around a region of (rows, columns) cells as shares of the canvas."""
    import numpy as np

    rows, columns = np.flatnonzero(region.any(1)), np.flatnonzero(region.any(0))
    y = [(edge / region.shape[0]) for edge in (rows[0] - MARGIN, rows[-1] + 1 + MARGIN)]
    x = [(edge / region.shape[1]) for edge in (columns[0] - MARGIN, columns[-1] + 1 + MARGIN)]
    return _clipped(x[0], y[0], x[1], y[1])


def _on_picture(box: Box, place: Partition) -> Box | None:
    """Return a box of the canvas as shares of the picture; None for one in the padding."""
    x = [(edge * place.canvas_width - place.pad_left) / place.resized_width for edge in (box[0], box[2])]
    y = [(edge * place.canvas_height - place.pad_top) / place.resized_height for edge in (box[1], box[3])]
    found = _clipped(x[0], y[0], x[1], y[1])
    return found if found[0] < found[2] and found[1] < found[3] else None


def _clipped(left: float, top: float, right: float, bottom: float) -> Box:
    x0, y0, x1, y1 = (round(min(1.0, max(0.0, float(edge))), 4) for edge in (left, top, right, bottom))
    return x0, y0, x1, y1


def draw_boxes(picture: Image.Image, evidence: Sequence[Evidence]) -> Image.Image:
    """Return an RGB copy of a picture with a frame around each box."""
    from PIL import ImageDraw

    drawn = picture.convert("RGB")
    pen, width = ImageDraw.Draw(drawn), max(2, round(min(drawn.size) / 300))
    for each in evidence:
        left, top, right, bottom = each.pixels(*drawn.size)
        pen.rectangle((left - width, top - width, right + width, bottom + width), outline=COLOUR, width=width)
    return drawn


__all__ = ["Evidence", "canvas_boxes", "draw_boxes", "find", "regions"]
