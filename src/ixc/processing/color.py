"""Colours as a viewer shows them: any mode of Pillow to 8-bit sRGB on white.

    loaded image --grey range, palette--> 8 bit --ICC profile, or gAMA and cHRM--> sRGB --alpha on white--> RGB

Everything here works on single pixels, so that large pictures go through in strips: no more than the picture itself and
its result are in memory (`STRIP_PIXELS`).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from io import BytesIO
from typing import Any, cast

import numpy as np
from PIL import Image, ImageCms

from ixc.errors import ImageError

WHITE = 255
"""Value of the paper under transparent pictures."""

EIGHT_BIT, SIXTEEN_BIT = 255, 65_535
"""Largest values of 8 and 16 bit channels."""

STRIP_PIXELS = 4_000_000
"""Pixels converted at a time."""

SAME = 2
"""Largest difference on 0 .. 255 at which a profile counts as sRGB, and pixels stay as they are: profiles of sRGB by
several makers differ by 1 or 2 after rounding, and most pictures carry one."""

SRGB_GAMMA, GAMMA_TOLERANCE = 1 / 2.2, 0.05
"""The gAMA of sRGB, and the share by which another one may differ (libpng's own threshold)."""

SRGB_CHROMATICITIES = (0.3127, 0.3290, 0.64, 0.33, 0.30, 0.60, 0.15, 0.06)
"""White, red, green and blue of sRGB: x, y each (ITU-R BT.709), in the order of cHRM."""

CHROMATICITY_TOLERANCE = 0.01

_SPACES = {"RGB": "RGB", "GRAY": "L", "CMYK": "CMYK"}
"""Colour space of an ICC profile -> Pillow's mode of pixels in it."""

Convert = Callable[[Image.Image], Image.Image]


def to_white_paper(image: Image.Image, turn: Image.Transpose | None = None) -> Image.Image:
    """A loaded picture as RGB, 8 bit, sRGB, transparent parts on white; itself where it is that already.

    Args:
        turn: what makes it upright.

    Raises:
        ImageError: greys outside 0 .. 65,535, or a mode that cannot be turned into RGB.
    """
    profile = _profile(image)
    plain = image.mode == "RGB" and "transparency" not in image.info
    if plain and profile is None:
        return image if turn is None else image.transpose(turn)
    grey = _grey_scale(image) if image.mode == "F" or image.mode.startswith("I") else None

    def convert(strip: Image.Image) -> Image.Image:
        return _convert(strip, grey, profile)

    try:
        return _in_strips(image, convert, turn)
    except (ValueError, ImageCms.PyCMSError) as error:
        raise ImageError(f"mode {image.mode} cannot be turned into RGB ({error}); save the picture as RGB") from error


_SIDEWAYS = (
    *(Image.Transpose.TRANSPOSE, Image.Transpose.TRANSVERSE),
    *(Image.Transpose.ROTATE_90, Image.Transpose.ROTATE_270),
)
_FROM_THE_END = (
    *(Image.Transpose.ROTATE_180, Image.Transpose.FLIP_TOP_BOTTOM),
    *(Image.Transpose.TRANSVERSE, Image.Transpose.ROTATE_270),
)
"""Under which rows become columns, and the first row comes last."""


def _in_strips(image: Image.Image, convert: Convert, turn: Image.Transpose | None) -> Image.Image:
    """Converted and turned, without a second copy of the whole."""
    rows = max(1, STRIP_PIXELS // image.width)
    if rows >= image.height:
        whole = convert(image)
        return whole if turn is None else whole.transpose(turn)
    found = Image.new("RGB", (image.height, image.width) if turn in _SIDEWAYS else image.size)
    for top in range(0, image.height, rows):
        bottom = min(top + rows, image.height)
        strip = convert(image.crop((0, top, image.width, bottom)))
        at = image.height - bottom if turn in _FROM_THE_END else top
        found.paste(strip if turn is None else strip.transpose(turn), (at, 0) if turn in _SIDEWAYS else (0, at))
    return found


def _convert(image: Image.Image, grey: Convert | None, profile: Convert | None) -> Image.Image:
    alpha = None
    if grey is not None:
        image = grey(image)
    elif image.has_transparency_data:
        # "La" and "RGBa" carry colours already multiplied by alpha; Pillow converts the first only by way of "LA".
        image = image.convert("LA") if image.mode == "La" else image
        image = image if image.mode == "LA" else image.convert("RGBA")
    if image.mode in ("LA", "RGBA"):
        alpha = image.getchannel("A")
        image = image.getchannel("L") if image.mode == "LA" else image.convert("RGB")
    if profile is not None:
        image = profile(image)
    image = image.convert("RGB")
    if alpha is None or alpha.getextrema()[0] == EIGHT_BIT:
        return image
    image.putalpha(alpha)
    paper = Image.new("RGBA", image.size, (WHITE, WHITE, WHITE, WHITE))
    return Image.alpha_composite(paper, image).convert("RGB")


# -- greys of more than 8 bits ----------------------------------------------------------------------------------------


def _grey_scale(image: Image.Image) -> Convert:
    """Modes I;16*, I and F to L or LA: by the range the file declares, else by the values.

    A 16-bit file is scaled from 0 .. 65,535 whatever its values are, as viewers do; a TIFF by its bits a sample, with
    WhiteIsZero inverted; floats and 32-bit integers, which declare no range, count as 0 .. 1, 0 .. 255 or 0 .. 65,535,
    whichever is the first to hold all values.
    """
    # Values of mode I;16* cannot leave the range, and Pillow has no extrema of I;16B.
    low, high = (0, SIXTEEN_BIT) if image.mode.startswith("I;16") else cast(tuple[float, float], image.getextrema())
    _check_range(low, high)
    tags = getattr(image, "tag_v2", {})
    inverted = tags.get(262) == 0
    top = _top(image, high, tags)
    clear = image.info.get("transparency")  # PNG: one grey value means paper

    def scale(strip: Image.Image) -> Image.Image:
        values = np.asarray(strip).astype(np.float32)
        if image.mode == "F" and np.isnan(values).any():  # extrema pass over NaN
            _check_range(float("nan"), float("nan"))
        grey = values if top == EIGHT_BIT else np.round(values * (EIGHT_BIT / top))
        if inverted:
            grey = EIGHT_BIT - grey
        found = Image.fromarray(grey.astype(np.uint8))
        if isinstance(clear, int):
            found.putalpha(Image.fromarray(np.where(values == clear, 0, EIGHT_BIT).astype(np.uint8)))
        return found

    return scale


def _check_range(low: float, high: float) -> None:
    if not (low >= 0 and high <= SIXTEEN_BIT):  # also true for NaN
        raise ImageError(
            f"grey values run from {low:g} to {high:g}, only 0 to {SIXTEEN_BIT:,} are understood; scale them to 8 bit"
        )


def _top(image: Image.Image, high: float, tags: Any) -> float:
    """The value of white."""
    bits = tags.get(258, (None,))[0]
    if bits in (12, 16):
        return 2**bits - 1 if image.mode.startswith("I;16") else SIXTEEN_BIT
    if image.mode.startswith("I;16") or image.format == "PPM":  # Pillow scales PNM by its own maximum
        return SIXTEEN_BIT
    if image.mode == "F" and high <= 1:
        return 1
    return SIXTEEN_BIT if high > EIGHT_BIT else EIGHT_BIT


# -- profiles ---------------------------------------------------------------------------------------------------------


def _profile(image: Image.Image) -> Convert | None:
    """What turns the picture's colours into sRGB; None where they are it, or nothing is said, or it makes no sense."""
    if image.mode == "1":
        return None
    if image.mode == "LAB":  # Pillow converts it by littleCMS alone
        return _transform(ImageCms.createProfile("LAB"), "LAB")
    data = image.info.get("icc_profile")
    if isinstance(data, bytes) and data:
        return _icc(data, image.mode == "CMYK")
    # Pillow's PNG plugin alone sets these; they stay in the info of copies.
    if "srgb" not in image.info and isinstance(image.info.get("gamma"), float):
        return _gamma(image.info["gamma"], tuple(image.info.get("chromaticity", SRGB_CHROMATICITIES)))
    return None


@lru_cache(maxsize=8)
def _icc(data: bytes, four_inks: bool) -> Convert | None:
    """The conversion of an ICC profile; a profile that is damaged or of another kind of pixels counts as none."""
    try:
        profile = ImageCms.ImageCmsProfile(BytesIO(data))
        header: Any = profile.profile
        mode = _SPACES.get(header.xcolor_space.strip())
        if mode is None or (mode == "CMYK") != four_inks or header.device_class == "link":
            return None
        convert = _transform(profile, mode)
        probe = _probe(mode)
        changed = np.asarray(convert(probe)).astype(int) - np.asarray(probe.convert("RGB"))
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
        return None
    return None if mode != "CMYK" and np.abs(changed).max() <= SAME else convert


def _transform(profile: ImageCms.ImageCmsProfile, mode: str) -> Convert:
    """Pixels of a mode under a profile to sRGB, by the perceptual intent as viewers have it."""
    transform = ImageCms.buildTransform(
        profile, ImageCms.createProfile("sRGB"), mode, "RGB", ImageCms.Intent.PERCEPTUAL
    )

    def convert(image: Image.Image) -> Image.Image:
        if image.mode != mode and mode == "L":  # the profile of a grey scanner says nothing about colours
            return image
        ready = image if image.mode == mode else image.convert(mode)  # a grey picture may carry a screen's profile
        return cast(Image.Image, ImageCms.applyTransform(ready, transform))

    return convert


def _probe(mode: str) -> Image.Image:
    """Colours that stand for all: a grid of 17 values a channel, or all greys."""
    if mode != "RGB":
        return Image.fromarray(np.arange(256, dtype=np.uint8)[None]).convert(mode)
    steps = np.linspace(0, 255, 17).round().astype(np.uint8)
    grid = np.stack(np.meshgrid(steps, steps, steps, indexing="ij"), axis=-1)
    return Image.fromarray(grid.reshape(17 * 17, 17, 3))


@lru_cache(maxsize=8)
def _gamma(gamma: float, chromaticities: tuple[float, ...]) -> Convert | None:
    """PNG's gAMA and cHRM (PNG 3rd edition, 11.3.2): file value ** (1 / gamma) is light."""
    if gamma <= 0:
        return None
    same_curve = abs(gamma / SRGB_GAMMA - 1) <= GAMMA_TOLERANCE
    differ = max(abs(a - b) for a, b in zip(chromaticities, SRGB_CHROMATICITIES, strict=True))
    matrix = None if differ <= CHROMATICITY_TOLERANCE else _to_srgb_light(chromaticities)
    if same_curve and matrix is None:
        return None
    values = np.arange(256) / EIGHT_BIT
    light = _srgb_light(values) if same_curve else values ** (1 / gamma)
    curve = np.round(_srgb_values(light) * EIGHT_BIT).astype(np.uint8)

    def convert(image: Image.Image) -> Image.Image:
        if image.mode == "L":
            return image.point(curve.tolist())
        rgb = np.asarray(image.convert("RGB"))
        if matrix is None:
            return Image.fromarray(curve[rgb])
        mixed = light.astype(np.float32)[rgb] @ matrix.T.astype(np.float32)
        return Image.fromarray(np.round(_srgb_values(mixed) * EIGHT_BIT).astype(np.uint8))

    return convert


def _srgb_light(values: np.ndarray) -> np.ndarray:
    """0 .. 1 of sRGB to linear light (IEC 61966-2-1)."""
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)


def _srgb_values(light: np.ndarray) -> np.ndarray:
    """Linear light to 0 .. 1 of sRGB, clipped."""
    light = np.clip(light, 0, 1)
    return np.where(light <= 0.0031308, light * 12.92, 1.055 * light ** (1 / 2.4) - 0.055)


def _to_srgb_light(chromaticities: tuple[float, ...]) -> np.ndarray | None:
    """(3, 3): linear light of the given primaries to that of sRGB, white kept (Bradford); None where there is none."""
    try:
        source, target = _to_xyz(chromaticities), _to_xyz(SRGB_CHROMATICITIES)
    except (np.linalg.LinAlgError, ZeroDivisionError):
        return None
    bradford = np.array([[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]])
    cones = np.diag((bradford @ target.sum(1)) / (bradford @ source.sum(1)))
    found = np.linalg.inv(target) @ np.linalg.inv(bradford) @ cones @ bradford @ source
    return found if np.isfinite(found).all() else None


def _to_xyz(chromaticities: tuple[float, ...]) -> np.ndarray:
    """(3, 3): columns are red, green and blue in XYZ, their sum is the white."""
    points = zip(chromaticities[::2], chromaticities[1::2], strict=True)
    white, *primaries = [np.array([x / y, 1, (1 - x - y) / y]) for x, y in points]
    columns = np.stack(primaries, axis=1)
    return columns * np.linalg.solve(columns, white)
