"""The dynamic image partition (paper eq. 1; spec (a)): grid and size of an image's tiles, under one of three rules.

An image of any size is resized, aspect ratio kept, and placed on a white canvas whose sides are multiples of the tile;
the canvas is cut into grid_h x grid_w tiles, never more than `hd` of them (the paper's H: HD-25, HD-55).

    image (width x height)  --transpose if portrait-->  landscape
        --resize-->  resized_width x resized_height  --pad-->  canvas  --cut-->  grid_h x grid_w tiles

Rules (`RULES`), all for landscape; a portrait image is transposed first:

    original   the published rule. Largest integer s with s * ceil(s / ratio) <= hd; the width becomes s tiles exactly,
               only the height is padded. Small images are enlarged to fill the budget.
    native     never enlarges. An image whose own size fits into the budget keeps every pixel as it is, centred on
               white up to the next multiple of the tile on both axes; a larger one is reduced by `original`.
               (The successor model caps s at ceil(width / tile) but still stretches the width to s tiles exactly: up
               to one tile of enlargement. Here the pixels are left alone and the rest is padding.)
    fit        keeps the most pixels the budget allows: the width or the height may be the side that fills its tiles,
               the other one is padded. Never keeps fewer pixels than `original`; enlarges small images likewise.

Pure Python, no tensors, no pictures. All sizes are pixels.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import lru_cache
from math import ceil
from numbers import Integral
from typing import Literal

from ixc.errors import GeometryError

TILE = 336
"""Side of a tile in pixels: the input of CLIP ViT-L/14-336 (paper section 3.1)."""

MAX_HD = 256
"""Largest HD a request may set: 256 tiles are over 37,000 tokens, and the published 7B has 32,768 positions."""


AUTO: Literal["auto"] = "auto"
"""A budget that is chosen for the images: the smallest HD at which none is scaled down, at most `AUTO_MOST`."""

AUTO_MOST = 25
"""Largest HD that `AUTO` chooses, the published default: what `ixc plan --hd auto` gives the cost of."""

Budget = int | Literal["auto"]
"""A setting of HD: most tiles of an image, or `AUTO`."""


@dataclass(frozen=True, kw_only=True)
class Partition:
    """The tiles of one image. All values are in the image's own orientation; pixels unless said otherwise.

    Always: pad_left + resized_width + pad_right == grid_w * tile, the same for the height, grid_h * grid_w <= hd.
    """

    width: int
    """Width of the source image."""
    height: int
    """Height of the source image."""
    hd: int
    """Budget: the most tiles allowed."""
    rule: str
    """Name of the partition rule, a key of `RULES`."""
    tile: int = TILE
    """Side of a tile."""
    transposed: bool
    """Portrait: resize the transposed (mirrored on the main diagonal) image and transpose the canvas back.
    Resizing works in 8 bit, width first, so the detour is needed for bit equality."""
    resized_width: int
    """Width of the picture on the canvas."""
    resized_height: int
    """Height of the picture on the canvas."""
    pad_left: int
    """White columns left of the picture."""
    pad_top: int
    """White rows above the picture."""
    pad_right: int
    """White columns right of the picture."""
    pad_bottom: int
    """White rows below the picture."""
    grid_h: int
    """Rows of tiles."""
    grid_w: int
    """Columns of tiles."""

    @property
    def canvas_width(self) -> int:
        """grid_w * tile."""
        return self.grid_w * self.tile

    @property
    def canvas_height(self) -> int:
        """grid_h * tile."""
        return self.grid_h * self.tile

    @property
    def tiles(self) -> int:
        """Number of tiles, without the overview: 1 .. hd."""
        return self.grid_h * self.grid_w

    @property
    def pixels_kept(self) -> int:
        """Pixels of the picture on the canvas, padding not counted."""
        return self.resized_width * self.resized_height

    @property
    def picture_box(self) -> tuple[int, int, int, int]:
        """Box of the picture on the canvas: (x0, y0, x1, y1), x1 and y1 excluded."""
        x1, y1 = self.pad_left + self.resized_width, self.pad_top + self.resized_height
        return self.pad_left, self.pad_top, x1, y1


def partition(width: int, height: int, *, hd: int, rule: str = "original", tile: int = TILE) -> Partition:
    """Return the partition of a width x height image under a budget of `hd` tiles.

    Args:
        width, height: of the image, pixels, >= 1.
        hd: most tiles allowed, >= 1 (25 is the published default, 55 the 4K setting).
        rule: key of `RULES`: "original" (published), "native" (never enlarges), "fit" (keeps the most pixels).
        tile: side of a tile, pixels.

    Raises:
        GeometryError: size or hd below 1, an unknown rule, or an aspect ratio beyond tile * hd to 1, for which the
            short side would be resized to 0 px.

    Source: paper eq. 1, spec (a).
    """
    _check(width, height, hd, rule, tile)
    return _partition(width, height, hd, rule, tile)


@lru_cache(maxsize=1024)
def _partition(width: int, height: int, hd: int, rule: str, tile: int) -> Partition:
    """Compute a partition. Cached, because a request counts its tokens before the image processor cuts its tiles."""
    transposed = width < height
    wide, short = (height, width) if transposed else (width, height)
    resized = RULES[rule](wide, short, hd, tile)
    if resized is None:
        raise GeometryError(
            f"a {width} x {height} px image has aspect ratio {wide / short:.0f} : 1, but hd={hd} draws at most "
            f"{tile * hd} : 1 ({hd} tiles of {tile} px); crop the image or use hd >= {-(-wide // (short * tile))}"
        )
    left, right, grid_w = _pad(resized[0], tile)
    top, bottom, grid_h = _pad(resized[1], tile)
    if transposed:
        return Partition(
            width=width, height=height, hd=hd, rule=rule, tile=tile, transposed=True,
            resized_width=resized[1], resized_height=resized[0],
            pad_left=top, pad_top=left, pad_right=bottom, pad_bottom=right, grid_h=grid_w, grid_w=grid_h,
        )  # fmt: skip
    return Partition(
        width=width, height=height, hd=hd, rule=rule, tile=tile, transposed=False,
        resized_width=resized[0], resized_height=resized[1],
        pad_left=left, pad_top=top, pad_right=right, pad_bottom=bottom, grid_h=grid_h, grid_w=grid_w,
    )  # fmt: skip


def check_hd(hd: int, *, name: str = "hd") -> None:
    """Check the tile budget that a request, an option or a file sets; `partition` itself takes any budget.

    Args:
        hd: most tiles per image.
        name: of the setting, for the message.

    Raises:
        GeometryError: not a whole number from 1 to `MAX_HD`.
    """
    if not isinstance(hd, Integral) or hd < 1:
        raise GeometryError(f"{name} counts tiles and must be at least 1, got {hd!r}; use 25 (default) or 55 (4K)")
    if hd > MAX_HD:
        raise GeometryError(
            f"{name} counts tiles of {TILE} px and is at most {MAX_HD}, got {hd}; use 25 (default) or 55 (4K)"
        )


def check_budget(hd: Budget, *, name: str = "hd") -> None:
    """Check a setting of HD that may also be `AUTO`; as `check_hd`."""
    if hd != AUTO:
        if isinstance(hd, str):
            raise GeometryError(f"{name} is {hd!r}; use a number of tiles from 1 to {MAX_HD}, or {AUTO}")
        check_hd(hd, name=name)


def resolve_hd(hd: Budget, sizes: Iterable[tuple[int, int]], *, rule: str, most: int = AUTO_MOST) -> int:
    """Return the most tiles of an image: `hd` itself, or for `AUTO` what these images need.

    Args:
        hd: setting.
        sizes: (width, height) of the images of a question, pixels, >= 1. The one that needs most counts.
        rule: key of `RULES`.
        most: largest HD that is chosen.

    Raises:
        GeometryError: a size below 1, or an unknown rule.
    """
    if hd != AUTO:
        return hd  # type: ignore[return-value]
    return max((_needed_hd(width, height, rule, most) for width, height in sizes), default=1)


@lru_cache(maxsize=1024)
def _needed_hd(width: int, height: int, rule: str, most: int) -> int:
    """Return the smallest HD at which an image keeps its pixels, at most `most`."""
    _check(width, height, 1, rule, TILE)
    wide, short = max(width, height), min(width, height)
    for hd in range(1, most):
        resized = RULES[rule](wide, short, hd, TILE)
        if resized is not None and resized[0] >= wide and resized[1] >= short:
            return hd
    return most


def _check(width: int, height: int, hd: int, rule: str, tile: int) -> None:
    if width < 1 or height < 1:
        raise GeometryError(f"an image needs at least 1 x 1 px, got {width} x {height}; check the file")
    if not isinstance(hd, Integral) or hd < 1:
        raise GeometryError(f"hd counts tiles and must be at least 1, got {hd!r}; use 25 (default) or 55 (4K)")
    if tile < 1:
        raise GeometryError(f"a tile needs at least 1 px, got {tile}; use {TILE}")
    if rule not in RULES:
        raise GeometryError(f"no partition rule {rule!r}; use one of {', '.join(RULES)}")


def _pad(size: int, tile: int) -> tuple[int, int, int]:
    """Return the padding before and after `size` pixels (the odd pixel after) and the number of tiles."""
    tiles = -(-size // tile)
    white = tiles * tile - size
    return white // 2, white - white // 2, tiles


Resized = tuple[int, int] | None
"""(width, height) of the picture on a landscape canvas, or None if the short side would be 0 px."""


def _original(width: int, height: int, hd: int, tile: int) -> Resized:
    ratio = width / height
    scale = 1
    while (scale + 1) * ceil((scale + 1) / ratio) <= hd:
        scale += 1
    return _by_width(scale, ratio, tile)


def _native(width: int, height: int, hd: int, tile: int) -> Resized:
    if ceil(width / tile) * ceil(height / tile) <= hd:
        return width, height
    # An enlarged image would need at least the tiles of its own size, so this reduces (or keeps) both sides.
    return _original(width, height, hd, tile)


def _fit(width: int, height: int, hd: int, tile: int) -> Resized:
    ratio = width / height
    best: Resized = None
    best_score = (0, 0)
    for scale in range(1, hd + 1):
        over = 0
        for sides in (_by_width(scale, ratio, tile), _by_height(scale, ratio, tile)):
            if sides is None:
                continue
            tiles = ceil(sides[0] / tile) * ceil(sides[1] / tile)
            score = (sides[0] * sides[1], -tiles)  # most pixels; of equals, the fewest tiles
            over += tiles > hd
            if tiles <= hd and score > best_score:
                best, best_score = sides, score
        if over == 2:  # larger scales need still more tiles
            break
    return best


def _by_width(scale: int, ratio: float, tile: int) -> Resized:
    """Resize so that the width fills `scale` tiles."""
    # float64 in exactly this order: integer arithmetic is one pixel off in 1 of 9 sizes (spec (a) 4).
    new_width = scale * tile
    new_height = int(new_width / ratio)
    return (new_width, new_height) if new_height else None


def _by_height(scale: int, ratio: float, tile: int) -> Resized:
    """Resize so that the height fills `scale` tiles."""
    new_height = scale * tile
    return int(new_height * ratio), new_height


RULES: dict[str, Callable[[int, int, int, int], Resized]] = {"original": _original, "native": _native, "fit": _fit}
"""Partition rules by name: (landscape width, height, hd, tile) -> resized size. Described at the top of the file."""
