"""Windows of 336 px with the characters on them: what the vision encoder learns from.

A window is a cut of a typeset page or a drawn image of text. Its characters stand in reading order, each with the pixel
of its centre, which is 0.35 em above the baseline, so that all characters of a line lie in one row of patches.

    picture (336, 336) or (336, 336, 3) uint8; classes, x, y, size (n,)
    window_labels -> (P, 4): classes of the characters whose centres lie in each 14-px patch, in reading order
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image

from ixc.nano.data.alphabet import classes_of
from ixc.nano.data.glyph_tokens import ranks
from ixc.nano.data.pdf_pages import TypesetPage

SIDE, PATCH, SLOTS = 336, 14, 4
"""Pixels of a window and of a patch; characters a patch may name."""
CENTRE = 0.35
"""Height of a character's centre above its baseline, in em: half an x-height, as on drawn pages."""
IGNORED = -1
"""Class of a character that nothing is asked of: a rotated one."""


@dataclass(frozen=True, kw_only=True)
class Window:
    """A picture and its characters in reading order."""

    picture: np.ndarray
    """(336, 336) or (336, 336, 3) uint8."""
    classes: np.ndarray
    """(n,) int64, `IGNORED` for rotated ones."""
    x: np.ndarray
    """(n,) float32 pixels."""
    y: np.ndarray
    """(n,) float32 pixels."""
    size: np.ndarray
    """(n,) float32: em in pixels."""
    source: str
    """Package, or `drawn`."""


@dataclass(frozen=True, kw_only=True)
class WindowConfig:
    """How windows are cut from pages."""

    shrunk: float = 0.35
    """Share of windows cut larger and made smaller: another size and other edges of letters."""
    most: float = 2.2
    """Largest such factor."""
    least_em: float = 7.0
    """Pixels of a page's em below which nothing is shrunk."""
    centred: float = 0.85
    """Share of windows that hold a character drawn at random; the others lie anywhere on the page."""


@dataclass(frozen=True, kw_only=True)
class _Characters:
    """Of a page, in reading order, rotated ones last."""

    classes: np.ndarray
    x: np.ndarray
    y: np.ndarray
    size: np.ndarray


def page_characters(page: TypesetPage) -> _Characters:
    """Classes, centres and sizes of a page's characters."""
    glyphs, order = page.glyphs, page.lines.order
    rotated = np.setdiff1d(np.arange(len(glyphs)), order)
    whole = np.concatenate([order, rotated])
    classes = classes_of(glyphs.code[whole])
    classes[len(order) :] = IGNORED
    box, size = glyphs.loose[whole], glyphs.size[whole]
    y = glyphs.origin[whole, 1] - CENTRE * size
    y[len(order) :] = (box[len(order) :, 1] + box[len(order) :, 3]) / 2
    tight = glyphs.tight[whole]
    return _Characters(classes=classes, x=(tight[:, 0] + tight[:, 2]) / 2, y=y, size=size)


def cut_windows(
    page: TypesetPage, rng: np.random.Generator, count: int, config: WindowConfig, *, source: str
) -> list[Window]:
    """So many windows of a page; pages smaller than a window are set on their own paper."""
    characters = page_characters(page)
    return [_cut(page, characters, rng, config, source) for _ in range(count)]


def _cut(
    page: TypesetPage, characters: _Characters, rng: np.random.Generator, config: WindowConfig, source: str
) -> Window:
    factor = 1.0
    if rng.random() < config.shrunk and page.em > config.least_em:
        factor = float(rng.uniform(1.0, min(config.most, page.em / config.least_em)))
    side = round(SIDE * factor)
    height, width = page.picture.shape[:2]
    left, top = _corner(rng, characters, config, side=side, width=width, height=height)
    picture = _paper(page.picture, left, top, side)
    if side != SIDE:
        resample = Image.Resampling.BICUBIC if rng.random() < 0.5 else Image.Resampling.BILINEAR
        picture = np.asarray(Image.fromarray(picture).resize((SIDE, SIDE), resample))
    scale = SIDE / side
    x, y = (characters.x - left) * scale, (characters.y - top) * scale
    inside = (x >= 0) & (y >= 0) & (x < SIDE) & (y < SIDE)
    return Window(
        picture=picture,
        classes=characters.classes[inside],
        x=x[inside].astype(np.float32),
        y=y[inside].astype(np.float32),
        size=(characters.size[inside] * scale).astype(np.float32),
        source=source,
    )


def _corner(
    rng: np.random.Generator, characters: _Characters, config: WindowConfig, *, side: int, width: int, height: int
) -> tuple[int, int]:
    if rng.random() < config.centred and len(characters.x):
        i = int(rng.integers(len(characters.x)))
        left, top = (float(v) - rng.uniform(0.05, 0.95) * side for v in (characters.x[i], characters.y[i]))
    else:
        left, top = rng.uniform(0, max(1, width - side)), rng.uniform(0, max(1, height - side))
    return int(np.clip(left, 0, max(0, width - side))), int(np.clip(top, 0, max(0, height - side)))


def _paper(picture: np.ndarray, left: int, top: int, side: int) -> np.ndarray:
    """A square cut; what lies beyond the page is white."""
    cut = picture[top : top + side, left : left + side]
    if cut.shape[:2] == (side, side):
        return np.ascontiguousarray(cut)
    whole = np.full((side, side, *picture.shape[2:]), 255, np.uint8)
    whole[: cut.shape[0], : cut.shape[1]] = cut
    return whole


def window_labels(
    classes: np.ndarray, x: np.ndarray, y: np.ndarray, *, side: int = SIDE
) -> tuple[np.ndarray, np.ndarray]:
    """Targets of a square of so many pixels.

    Args:
        classes: (n,) in reading order. x, y: (n,) pixels in the square; characters outside are left out.

    Returns:
        (P, 4) int64 classes, 0 for nothing, `IGNORED` in patches that hold a rotated character;
        (n,) int64 the place `patch * 4 + slot` of each character, -1 where it has none.
    """
    patches = side // PATCH
    patch, slot = patch_slots(x, y, rows=patches, columns=patches)
    labels, places = np.zeros((patches * patches, SLOTS), np.int64), np.full(len(classes), -1, np.int64)
    kept = slot >= 0
    labels[patch[kept], slot[kept]] = classes[kept]
    places[kept] = patch[kept] * SLOTS + slot[kept]
    unasked = patch[(classes == IGNORED) & (patch >= 0)]
    labels[unasked] = IGNORED
    return labels, places


def patch_slots(x: np.ndarray, y: np.ndarray, *, rows: int, columns: int) -> tuple[np.ndarray, np.ndarray]:
    """Patch (row-major) and slot of each character centre in a grid of 14-px patches.

    Args:
        x, y: (n,) pixels, in reading order.

    Returns:
        (n,) int64 patch, -1 outside of the grid; (n,) int64 slot, -1 outside and for the fifth and later of a patch.
    """
    inside = (x >= 0) & (y >= 0) & (x < columns * PATCH) & (y < rows * PATCH)
    patch = np.where(inside, (y // PATCH).astype(np.int64) * columns + (x // PATCH).astype(np.int64), -1)
    slot = ranks(patch)
    return patch, np.where(inside & (slot < SLOTS), slot, -1)
