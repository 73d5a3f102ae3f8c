"""Sample a page from a number: size, setting, kind, font and style.

A page is drawn for an HD-n setting: under the `native` partition its body text then has 22 to 34 pixels, and its lines
are at least one token (28 pixels) apart. The default family is drawn for HD-1, HD-4 and HD-9; a quarter of its HD-9
pages are 1344 x 1008, resized to three quarters. Wider kinds are drawn only by name, up to HD-55, and in smaller
letters where their content would not fit.
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
from ixc.synth.page import Colour, DrawnPage
from ixc.synth.questions import general_questions
from ixc.synth.values import random_colour

TILE = 336  # pixels of a tile (spec a)
TOKEN = 28  # pixels of a token: two 14-px patches
SETTINGS = FAMILY.settings
"""Settings of the default family."""
LARGER = (16, 25, 55)
"""Further settings, drawn only by name."""
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
"""Kinds beyond the default family, drawn only by name; they have general questions as well."""
UNSEEN = {"boarding": boarding_pass}
"""Kinds that training from nothing never draws, for demonstrations of fine-tuning."""
DRAWN = (*KINDS, *WIDER, *UNSEEN)
"""Every kind that can be drawn by name."""
ATTEMPTS = 8
"""Attempts to lay out a page of a wider kind, each in smaller letters."""
SMALLER = 0.88
"""Font size of an attempt relative to the one before; at the last one 22 px have become 9."""
NAMED = ((3840, 1600), (816, 5133), (2550, 3300), (7680, 4320))
"""Page sizes in pixels drawn for HD-55: the largest of the paper, a long infographic, a letter scanned at 300 dpi, an
8K screen."""
HELD_OUT = 1 << 40
"""Numbers from here on are for evaluation; training draws smaller ones."""


def check_drawn(kind: str | None, hd: int | None) -> None:
    """Check that pages of this kind and setting can be drawn; None: any.

    Raises:
        UsageError: the kind or the setting is unknown.
    """
    if kind is not None and kind not in DRAWN:
        raise UsageError(f"no kind {kind!r} of document; use one of {', '.join(DRAWN)}")
    if hd is not None and hd not in (*SETTINGS, *LARGER):
        raise UsageError(f"no pages for HD-{hd}; use one of {', '.join(map(str, (*SETTINGS, *LARGER)))}")


def page_size(rng: Generator, hd: int) -> tuple[int, int, float]:
    """Draw width and height of a page for a setting; the third value is the factor it is resized by under it."""
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
    """Draw the size of a page of more than nine tiles.

    For HD-55 a third are 3840 x 1600 and a sixth have the other `NAMED` sizes; the rest fill a grid of at most `hd`
    tiles.
    """
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
    """Draw font sizes and distances for a page that is resized by `scale`."""
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


def colours(rng: Generator, coloured: float = 0.5) -> tuple[Colour, Colour]:
    """Draw ink and paper: black on white or, with probability `coloured`, a dark colour on a light one."""
    if rng.random() < 1 - coloured:
        return (0, 0, 0), (255, 255, 255)
    return random_colour(rng, 0, 100), random_colour(rng, 222, 256)


def compose(
    number: int,
    *,
    kind: str | None = None,
    hd: int | None = None,
    font: str | None = None,
    family: PageFamily = FAMILY,
) -> DrawnPage:
    """Compose the page of a number.

    Args:
        number: 0 or more; from `HELD_OUT` on for pages that training never sees.
        kind: one of `DRAWN`; None draws one of the family.
        hd: one of `SETTINGS` or `LARGER`, for which the page is drawn; None draws one of the family's.
        font: a name of `fonts.py`; None draws one of the training fonts.
        family: distribution of kinds, settings, fonts and styles.
    """
    rng = np.random.default_rng([number, 7])
    kind = kind or str(rng.choice([k for k, _ in family.shares], p=[share for _, share in family.shares]))
    hd = hd or family.settings[int(rng.integers(len(family.settings)))]
    names = family.fonts if kind in KINDS or kind in UNSEEN else tuple(fonts.TRAIN_FONTS)
    chosen = names[int(rng.integers(len(names)))]
    width, height, scale = page_size(rng, hd)
    ink, paper = colours(rng, family.coloured)
    page = DrawnPage(
        kind=kind, width=width, height=height, font=font or chosen, ink=ink, paper=paper, number=number, hd=hd
    )
    if kind in WIDER:
        return _fitted(rng, page, scale)
    builder = PageBuilder(rng=rng, page=page, style=style(rng, scale, height, family), family=family)
    if kind in KINDS:
        title(builder)
    (KINDS | UNSEEN)[kind](builder)
    return page


def _fitted(rng: Generator, page: DrawnPage, scale: float) -> DrawnPage:
    """Lay out a page of a wider kind, in smaller letters at each attempt, until its content fits."""
    first, found = style(rng, scale, page.height), page
    for attempt in range(ATTEMPTS):
        found = replace(page, texts=[], rules=[], shapes=[], questions=[], extra_questions=[], counted=[])
        builder = PageBuilder(
            rng=rng, page=found, style=_smaller(first, SMALLER**attempt, titled=attempt < ATTEMPTS // 2)
        )
        title(builder)
        WIDER[page.kind](builder)
        if any(question.kind != "title" for question in found.questions):
            general_questions(builder)
            break
    return found


def _smaller(whole: Style, factor: float, *, titled: bool) -> Style:
    """Scale a style down, optionally without its title."""
    sizes = {name: round(getattr(whole, name) * factor) for name in ("size", "pitch", "margin", "title_size")}
    return Style(**sizes | ({} if titled else {"title_size": 0}))
