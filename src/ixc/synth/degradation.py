"""Image degradation: rotation, blur, resampling, noise and JPEG compression, none by default.

    image -> rotated -> blurred -> resampled -> noisy -> JPEG -> image of the same size

The paper's sources (scans, photographs, screenshots) have such defects; its own data are not public.
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
    """Strength of each degradation; the defaults change nothing."""

    jpeg: int | None = None
    """Quality of a JPEG round trip, 1 to 95; None = none."""
    blur: float = 0.0
    """Radius of a Gaussian blur in pixels, 0 to 10."""
    noise: float = 0.0
    """Standard deviation of added noise, 0 to 64 of 255."""
    shrink: float = 1.0
    """Factor by which the image is resized down and then up again, 0.1 to 1."""
    rotate: float = 0.0
    """Rotation in degrees counter-clockwise, -15 to 15; the corners become white."""

    def __post_init__(self) -> None:
        """Check the ranges; raises UsageError."""
        limits = {"blur": (0, 10), "noise": (0, 64), "shrink": (0.1, 1), "rotate": (-15, 15)}
        limits |= {"jpeg": (1, 95)} if self.jpeg is not None else {}
        for name, (low, high) in limits.items():
            value = getattr(self, name)
            if not low <= value <= high:
                raise UsageError(f"{name} is {value}; use a number from {low} to {high}")


def degraded(image: Image.Image, degradation: Degradation, *, seed: int = 0) -> Image.Image:
    """Return a degraded copy of an RGB image, of the same size; the same seed gives the same noise."""
    if degradation.rotate:
        image = image.rotate(degradation.rotate, Image.Resampling.BICUBIC, fillcolor=(255, 255, 255))
    if degradation.blur:
        image = image.filter(ImageFilter.GaussianBlur(degradation.blur))
    if degradation.shrink < 1:
        width, height = (max(1, round(side * degradation.shrink)) for side in image.size)
        small = image.resize((width, height), Image.Resampling.BILINEAR)
        image = small.resize(image.size, Image.Resampling.BILINEAR)
    if degradation.noise:
        pixels = np.asarray(image, np.float32)
        noise = np.random.default_rng([seed, 19]).normal(0, degradation.noise, pixels.shape)
        image = Image.fromarray((pixels + noise).clip(0, 255).round().astype(np.uint8))
    if degradation.jpeg is not None:
        file = io.BytesIO()
        image.save(file, "JPEG", quality=degradation.jpeg)
        image = Image.open(file).convert("RGB")
    return image


def random_degradation(rng: Generator) -> Degradation:
    """Draw a degradation that leaves letters of 15 px legible: JPEG, blur, noise and resampling, each by chance."""
    return Degradation(
        jpeg=int(rng.integers(40, 91)) if rng.random() < 0.6 else None,
        blur=float(rng.uniform(0.2, 0.8)) if rng.random() < 0.4 else 0.0,
        noise=float(rng.uniform(2, 14)) if rng.random() < 0.4 else 0.0,
        shrink=float(rng.uniform(0.75, 1.0)) if rng.random() < 0.3 else 1.0,
    )


def maybe_degraded(image: Image.Image, rng: Generator, share: float) -> Image.Image:
    """Degrade the image with probability `share`; a share of 0 draws nothing from `rng`."""
    if not share or rng.random() >= share:
        return image
    return degraded(image, random_degradation(rng), seed=int(rng.integers(1 << 31)))
