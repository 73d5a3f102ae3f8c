"""Pictures without text: blank paper, noise, and soft shapes as of a photograph."""

from __future__ import annotations

import numpy as np
from numpy.random import Generator
from PIL import Image

KINDS = ("paper", "noise", "photograph")
"""What `empty_picture` draws, each with the same probability."""


def empty_picture(width: int, height: int, rng: Generator) -> np.ndarray:
    """(height, width, 3) uint8 without a character."""
    kind = KINDS[int(rng.integers(len(KINDS)))]
    if kind == "paper":
        return np.broadcast_to(rng.integers(150, 256, size=3, dtype=np.uint8), (height, width, 3)).copy()
    if kind == "noise":
        deviation, channels = float(rng.uniform(8, 90)), int(rng.choice((1, 3)))
        grain = rng.normal(rng.uniform(60, 200), deviation, size=(height, width, channels))
        return np.broadcast_to(np.clip(grain, 0, 255).astype(np.uint8), (height, width, 3)).copy()
    return _photograph(width, height, rng)


def _photograph(width: int, height: int, rng: Generator) -> np.ndarray:
    """Colours that change slowly, with edges and grain: coarse noise at several scales, enlarged and added."""
    whole = np.zeros((height, width, 3), np.float32)
    for side, weight in ((3, 1.0), (8, 0.6), (24, 0.3), (70, 0.12)):
        coarse = Image.fromarray(rng.integers(0, 256, size=(side, side, 3), dtype=np.uint8))
        smooth = Image.Resampling.NEAREST if rng.random() < 0.2 else Image.Resampling.BICUBIC
        whole += weight * np.asarray(coarse.resize((width, height), smooth), np.float32)
    whole = (whole - whole.min()) / max(1.0, float(np.ptp(whole))) * rng.uniform(120, 255)
    return np.clip(whole + rng.normal(0, rng.uniform(0, 8), size=whole.shape), 0, 255).astype(np.uint8)


__all__ = ["KINDS", "empty_picture"]
