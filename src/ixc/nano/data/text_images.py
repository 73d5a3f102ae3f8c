"""Drawn images of text: random strings in many fonts, so that every character of the alphabet is seen often.

Real pages hold few of the rarer characters; here each line draws from letters, figures, ASCII or the whole alphabet.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from ixc.errors import UsageError
from ixc.nano.data.alphabet import ALPHABET, ASCII, LATIN_1, TYPOGRAPHIC, classes_of
from ixc.nano.data.windows import CENTRE, SIDE, Window

LETTERS = "abcdefghijklmnopqrstuvwxyz"
FIGURES = "0123456789"
POOLS = (
    (LETTERS, 0.16),
    (LETTERS.upper(), 0.12),
    (LETTERS + LETTERS.upper(), 0.12),
    (FIGURES + FIGURES + ".,-/:%$€£", 0.14),
    (FIGURES + LETTERS.upper(), 0.06),
    (ASCII, 0.16),
    (LATIN_1, 0.06),
    (ASCII + LATIN_1, 0.08),
    (TYPOGRAPHIC + LETTERS, 0.04),
    (ALPHABET, 0.06),
)
"""Characters that a word is drawn from, and how often."""
HELD_OUT = ("carlito", "gentium", "hack", "play", "sora", "aileron")
"""Families that the drawn test pages hold out; their files are never trained with."""


@dataclass(frozen=True, kw_only=True)
class TextImageConfig:
    """How images of text are drawn."""

    sizes: tuple[float, float] = (8.0, 64.0)
    """Pixels of the em, drawn uniformly in the logarithm."""
    coloured: float = 0.4
    """Share of images in colours."""
    inverted: float = 0.25
    """Share of light text on dark ground."""
    mixed: float = 0.4
    """Share of images whose lines have fonts of their own."""


def find_fonts(folders: tuple[Path, ...]) -> list[Path]:
    """Font files of Latin script below folders, those of held-out families left out.

    Raises:
        UsageError: none is there.
    """
    files = sorted({p for f in folders for suffix in ("ttf", "otf", "pfb") for p in f.rglob(f"*.{suffix}")})
    usable = [p for p in files if not any(name in p.name.lower() for name in HELD_OUT) and len(_supported(p)) > 80]
    if not usable:
        raise UsageError(f"0 fonts of Latin script in {', '.join(map(str, folders))}; name folders of .ttf or .otf")
    return usable


@lru_cache(maxsize=4096)
def _supported(path: Path) -> frozenset[str]:
    """Characters of the alphabet that a font draws."""
    try:
        font = ImageFont.truetype(str(path), 24, layout_engine=ImageFont.Layout.BASIC)
        missing = {_drawn(font, c) for c in ("\uffff", "\U0010fffd", "\u0378")}
        found = frozenset(c for c in ALPHABET if (shape := _drawn(font, c)) not in missing and shape[0] != (0, 0))
    except (OSError, ValueError):
        return frozenset()
    return (
        found if set(LETTERS) | set(FIGURES) <= found and len({_drawn(font, c) for c in LETTERS}) == 26 else frozenset()
    )


def _drawn(font: ImageFont.FreeTypeFont, character: str) -> tuple[tuple[int, int], bytes]:
    mask: Any = font.getmask(character)
    return mask.size, bytes(mask)


@lru_cache(maxsize=256)
def _font(path: Path, size: int) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(str(path), size, layout_engine=ImageFont.Layout.BASIC)


def draw_text_window(rng: np.random.Generator, fonts: list[Path], config: TextImageConfig) -> Window:
    """An image full of random strings."""
    em = float(np.exp(rng.uniform(*np.log(config.sizes))))
    ink, paper = _colours(rng, config)
    image = Image.new("RGB", (SIDE, SIDE), paper)
    draw, own, mixed = ImageDraw.Draw(image), _pick(rng, fonts), rng.random() < config.mixed
    classes, xs, ys, sizes = [], [], [], []
    y = float(rng.uniform(0.3, 1.2)) * em
    while y < SIDE + 0.3 * em:
        path = _pick(rng, fonts) if mixed else own
        size = max(6, round(em * (rng.uniform(0.7, 1.3) if mixed else 1.0)))
        font, x = _font(path, size), float(rng.uniform(-0.5, 3.0)) * em
        while x < SIDE:
            word = _word(rng, path)
            draw.text((x, y), word, font=font, fill=ink, anchor="ls")
            edges = x + np.array([font.getlength(word[:k]) for k in range(len(word) + 1)])
            classes.extend(classes_of(np.array([ord(c) for c in word])).tolist())
            xs.extend(((edges[1:] + edges[:-1]) / 2).tolist())
            ys.extend([y - CENTRE * size] * len(word))
            sizes.extend([float(size)] * len(word))
            x = float(edges[-1]) + size * rng.uniform(0.22, 0.6 if rng.random() < 0.9 else 3.0)
        if rng.random() < 0.06:
            draw.line((0, y + 0.35 * em, SIDE, y + 0.35 * em), fill=ink, width=1 + int(em > 24))
        y += em * rng.uniform(1.1, 1.9)
    x, y_centres = np.array(xs, np.float32), np.array(ys, np.float32)
    inside = (x >= 0) & (y_centres >= 0) & (x < SIDE) & (y_centres < SIDE)
    return Window(
        picture=np.asarray(image),
        classes=np.array(classes, np.int64)[inside],
        x=x[inside],
        y=y_centres[inside],
        size=np.array(sizes, np.float32)[inside],
        source="drawn",
    )


def _pick(rng: np.random.Generator, fonts: list[Path]) -> Path:
    return fonts[int(rng.integers(len(fonts)))]


def _word(rng: np.random.Generator, path: Path) -> str:
    pools, shares = zip(*POOLS, strict=True)
    pool = pools[int(rng.choice(len(pools), p=np.array(shares) / sum(shares)))]
    known = _supported(path)
    letters = [c for c in pool if c in known] or list(LETTERS)
    count = int(np.clip(rng.poisson(4.5) + 1, 1, 14))
    word = "".join(letters[int(i)] for i in rng.integers(len(letters), size=count))
    return word.capitalize() if pool == LETTERS and rng.random() < 0.3 else word


def _colours(rng: np.random.Generator, config: TextImageConfig) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Ink and paper whose brightness differs by at least 90 of 255."""
    if rng.random() < config.coloured:
        while True:
            ink, paper = rng.integers(0, 256, size=3), rng.integers(0, 256, size=3)
            light = np.array([0.299, 0.587, 0.114])
            if abs(float(ink @ light - paper @ light)) > 90:
                break
    else:
        ink, paper = np.full(3, rng.integers(0, 90)), np.full(3, rng.integers(200, 256))
    if (ink.sum() > paper.sum()) != (rng.random() < config.inverted):
        ink, paper = paper, ink
    return tuple(int(v) for v in ink), tuple(int(v) for v in paper)
