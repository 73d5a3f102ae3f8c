"""What happens to a page on its way to a reader: printed small, scanned, compressed. Options, none by default.

    image -> turned -> blurred -> resampled -> noisy -> JPEG -> image of the same size

Robustness to these is what the paper's sources (scans, photographs, screenshots) ask for; its own data are not public.
"""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np
from numpy.random import Generator
from PIL import Image, ImageFilter

from ixc.errors import UsageError


@dataclass(frozen=True, kw_only=True)
class Degradation:
    """How worn a picture is; the defaults change nothing."""

    jpeg: int | None = None
    """Quality of a JPEG round trip, 1 to 95; None = none."""
    blur: float = 0.0
    """Radius of a Gaussian blur in pixels, 0 to 10."""
    noise: float = 0.0
    """Standard deviation of added noise, 0 to 64 of 255."""
    shrink: float = 1.0
    """The picture is made smaller by this factor and large again, 0.1 to 1."""
    turn: float = 0.0
    """Degrees of a slight rotation, -15 to 15, counter-clockwise; the corners are white."""

    def __post_init__(self) -> None:
        limits = {"blur": (0, 10), "noise": (0, 64), "shrink": (0.1, 1), "turn": (-15, 15)}
        limits |= {"jpeg": (1, 95)} if self.jpeg is not None else {}
        for name, (low, high) in limits.items():
            value = getattr(self, name)
            if not low <= value <= high:
                raise UsageError(f"{name} is {value}; use a number from {low} to {high}")


def degraded(image: Image.Image, wear: Degradation, *, seed: int = 0) -> Image.Image:
    """A worn copy of an RGB picture, of the same size; the same seed gives the same noise."""
    if wear.turn:
        image = image.rotate(wear.turn, Image.Resampling.BICUBIC, fillcolor=(255, 255, 255))
    if wear.blur:
        image = image.filter(ImageFilter.GaussianBlur(wear.blur))
    if wear.shrink < 1:
        small = tuple(max(1, round(side * wear.shrink)) for side in image.size)
        image = image.resize(small, Image.Resampling.BILINEAR).resize(image.size, Image.Resampling.BILINEAR)
    if wear.noise:
        pixels = np.asarray(image, np.float32)
        noise = np.random.default_rng([seed, 19]).normal(0, wear.noise, pixels.shape)
        image = Image.fromarray((pixels + noise).clip(0, 255).round().astype(np.uint8))
    if wear.jpeg is not None:
        file = io.BytesIO()
        image.save(file, "JPEG", quality=wear.jpeg)
        image = Image.open(file).convert("RGB")
    return image


def random_degradation(rng: Generator) -> Degradation:
    """As much as leaves letters of 15 px legible: JPEG, a soft lens, a little noise, fewer pixels; each by chance."""
    return Degradation(
        jpeg=int(rng.integers(40, 91)) if rng.random() < 0.6 else None,
        blur=float(rng.uniform(0.2, 0.8)) if rng.random() < 0.4 else 0.0,
        noise=float(rng.uniform(2, 14)) if rng.random() < 0.4 else 0.0,
        shrink=float(rng.uniform(0.75, 1.0)) if rng.random() < 0.3 else 1.0,
    )


def maybe_degraded(image: Image.Image, rng: Generator, share: float) -> Image.Image:
    """The picture, in so many cases of one worn by `random_degradation`; a share of 0 draws nothing from `rng`."""
    if not share or rng.random() >= share:
        return image
    return degraded(image, random_degradation(rng), seed=int(rng.integers(1 << 31)))
