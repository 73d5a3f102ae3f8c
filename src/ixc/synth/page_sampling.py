"""From a number to a page: size, setting, kind, font, style. The family that the embedded model reads, and wider kinds.

A page is drawn for a setting: under the `native` partition its body text is then seen at 22 to 34 pixels, its lines at
least one token (28 pixels) apart. The family is drawn for HD-1, HD-4 and HD-9; a quarter of its HD-9 pages are
1344 x 1008, seen at three quarters of their size. The wider kinds are drawn where they are named, to HD-55 as well, and
in smaller letters where a page has no room for what it is named after.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from numpy.random import Generator

from ixc.core.tiling import partition
from ixc.errors import UsageError
from ixc.synth import fonts
from ixc.synth.charts import bars, curve, pie
from ixc.synth.config import FAMILY, PageFamily
from ixc.synth.layouts.basic import KINDS, PageBuilder, Style, title
from ixc.synth.layouts.boarding_passes import boarding_pass
from ixc.synth.layouts.infographics import infographic
from ixc.synth.layouts.invoices import invoice
from ixc.synth.layouts.prose import article, letter, lines
from ixc.synth.layouts.screens import screen
from ixc.synth.layouts.signs import sign
from ixc.synth.page import DrawnPage
from ixc.synth.questions import general

TILE = 336  # pixels of a tile (spec a)
TOKEN = 28  # pixels of a token: two 14-px patches
SETTINGS = FAMILY.settings
"""Settings that the family of the embedded model is drawn for."""
LARGER = (16, 25, 55)
"""Further settings, drawn where they are named."""
WIDER: dict[str, Callable[[PageBuilder], None]] = {
    "letter": letter,
    "article": article,
    "lines": lines,
    "invoice": invoice,
    "bars": bars,
    "curve": curve,
    "pie": pie,
    "infographic": infographic,
    "sign": sign,
    "screen": screen,
}
"""Kinds beyond the family of `recipes/nano.py`, drawn where they are named; each with general questions as well."""
UNSEEN = {"boarding": boarding_pass}
"""Kinds that training from nothing never draws: what fine-tuning can teach."""
DRAWN = (*KINDS, *WIDER, *UNSEEN)
"""Every kind that can be named."""
ATTEMPTS = 8
"""How often a page of a wider kind is set anew where it does not fit."""
SMALLER = 0.88
"""Letters of one attempt as a share of those before: at the last one, 9 px for 22."""
NAMED = ((3840, 1600), (816, 5133), (2550, 3300), (7680, 4320))
"""Sizes in pixels among the pages of HD-55: the largest that the paper reads, a long infographic, a letter scanned at
300 dpi, an 8K screen."""
HELD_OUT = 1 << 40
"""Numbers from here on are for testing; training draws below."""


def check_drawn(kind: str | None, hd: int | None) -> None:
    """Pages of this kind and setting can be drawn; None: of any.

    Raises:
        UsageError: an unknown one.
    """
    if kind is not None and kind not in DRAWN:
        raise UsageError(f"no kind {kind!r} of document; use one of {', '.join(DRAWN)}")
    if hd is not None and hd not in (*SETTINGS, *LARGER):
        raise UsageError(f"no pages for HD-{hd}; use one of {', '.join(map(str, (*SETTINGS, *LARGER)))}")


def canvas(rng: Generator, hd: int) -> tuple[int, int, float]:
    """Width and height of a page for a setting, and the scale at which the model sees it."""
    if hd == 1:
        return int(rng.integers(260, TILE + 1)), int(rng.integers(160, TILE + 1)), 1.0
    if hd in LARGER:
        return _large(rng, hd)
    if hd == 4:
        shapes = ((1, 2), (2, 1), (2, 2), (2, 2), (1, 3), (3, 1))
    else:
        if rng.random() < 0.25:
            wide = rng.random() < 0.5
            return (1344, 1008, 0.75) if wide else (1008, 1344, 0.75)
        shapes = ((3, 3), (2, 3), (3, 2), (2, 4), (4, 2), (3, 3))
    across, down = shapes[int(rng.integers(len(shapes)))]
    low = 0.75
    width = int(rng.integers(round((across - 1 + low) * TILE), across * TILE + 1))
    height = int(rng.integers(round((down - 1 + low) * TILE), down * TILE + 1))
    return width, height, 1.0


def _large(rng: Generator, hd: int) -> tuple[int, int, float]:
    """A page of more than nine tiles: of HD-55 a third are 3840 x 1600 and a sixth of the other `NAMED` sizes; the rest
    fill a grid of at most `hd` tiles."""
    if hd == 55 and (drawn := rng.random()) < 1 / 2:
        width, height = NAMED[0] if drawn < 1 / 3 else NAMED[1 + int(rng.integers(len(NAMED) - 1))]
        return width, height, partition(width, height, hd=hd, rule="native").resized_width / width
    grids = [
        (a, d) for a in range(2, hd) for d in range(2, hd) if 0.75 * hd <= a * d <= hd and max(a, d) <= 3 * min(a, d)
    ]
    across, down = grids[int(rng.integers(len(grids)))]
    short = rng.integers(0, TILE // 4, size=2)
    return across * TILE - int(short[0]), down * TILE - int(short[1]), 1.0


def style(rng: Generator, scale: float, height: int, family: PageFamily = FAMILY) -> Style:
    """Font sizes and distances for a page seen at `scale`."""
    least, median, most = family.letters
    seen = float(np.clip(np.exp(rng.normal(np.log(median), family.spread)), least, most))
    size = round(seen / scale)
    pitch = max(int(np.ceil(TOKEN / scale)), round(size * rng.uniform(1.2, 1.6)))
    titled = rng.random() < family.titled and height > 5 * pitch
    return Style(
        size=size,
        pitch=pitch,
        margin=round(size * rng.uniform(0.4, 1.4)),
        title_size=round(size * rng.uniform(1.1, 1.35)) if titled else 0,
    )


def colours(rng: Generator, coloured: float = 0.5) -> tuple[tuple[int, int, int], tuple[int, int, int]]:
    """Ink and paper: black on white, in a share of the cases any dark colour on any light one."""
    if rng.random() < 1 - coloured:
        return (0, 0, 0), (255, 255, 255)
    ink = tuple(int(v) for v in rng.integers(0, 100, size=3))
    paper = tuple(int(v) for v in rng.integers(222, 256, size=3))
    return ink, paper  # type: ignore[return-value]


def compose(
    number: int,
    *,
    kind: str | None = None,
    hd: int | None = None,
    font: str | None = None,
    family: PageFamily = FAMILY,
) -> DrawnPage:
    """The page of a number.

    Args:
        number: any integer from 0; from `HELD_OUT` on for pages that training never sees.
        kind: one of DRAWN; None draws one of the family.
        hd: one of SETTINGS or LARGER, which the page is drawn for; None draws one of the family's.
        font: a name of `fonts`; None draws one of the training fonts.
        family: what is drawn where nothing is named; how the pages of its kinds look.
    """
    rng = np.random.default_rng([number, 7])
    kind = kind or str(rng.choice([k for k, _ in family.shares], p=[share for _, share in family.shares]))
    hd = hd or family.settings[int(rng.integers(len(family.settings)))]
    names = family.fonts if kind in KINDS or kind in UNSEEN else tuple(fonts.TRAIN_FONTS)
    chosen = names[int(rng.integers(len(names)))]
    width, height, scale = canvas(rng, hd)
    ink, paper = colours(rng, family.coloured)
    page = DrawnPage(
        kind=kind, width=width, height=height, font=font or chosen, ink=ink, paper=paper, number=number, hd=hd
    )
    if kind in WIDER:
        return _fitted(rng, page, scale)
    sheet = PageBuilder(rng=rng, page=page, style=style(rng, scale, height, family), family=family)
    if kind in KINDS:
        title(sheet)
    (KINDS | UNSEEN)[kind](sheet)
    return page


def _fitted(rng: Generator, page: DrawnPage, scale: float) -> DrawnPage:
    """A page of a wider kind: set anew on the same canvas, smaller each time, until there is room for what it is."""
    first = style(rng, scale, page.height)
    for attempt in range(ATTEMPTS):
        found = replace(page, texts=[], rules=[], shapes=[], questions=[], drills=[], counted=[])
        sheet = PageBuilder(
            rng=rng, page=found, style=_smaller(first, SMALLER**attempt, titled=attempt < ATTEMPTS // 2)
        )
        title(sheet)
        WIDER[page.kind](sheet)
        if any(question.kind != "title" for question in found.questions):
            general(sheet)
            break
    return found


def _smaller(whole: Style, factor: float, *, titled: bool) -> Style:
    """The same setting in smaller letters; without its title where room is short."""
    sizes = {name: round(getattr(whole, name) * factor) for name in ("size", "pitch", "margin", "title_size")}
    return Style(**sizes | ({} if titled else {"title_size": 0}))
