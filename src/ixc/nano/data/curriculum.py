"""Curriculum of the layout pre-training, smallest contexts first: from one line of large letters to nine tiles.

Half of the steps are on the stage reached, a quarter on the one above it (without them a run settles on guessing
between lines), the rest on earlier ones. A page of a stage is a pure function of its number.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.random import Generator

from ixc.nano.data.glyph_tokens import TOKEN, GlyphTokens, glyph_grid, page_glyph_tokens, with_newlines
from ixc.synth import values
from ixc.synth.config import FAMILY, PageFamily
from ixc.synth.layouts.basic import KINDS, PageBuilder, Style, title
from ixc.synth.page import DrawnPage, characters
from ixc.synth.page_sampling import compose

NO_KIND = "none"
"""Kind of a page of the first stages, which is of no kind of the family."""


@dataclass(frozen=True, kw_only=True)
class CurriculumStage:
    """One stage: size and content of its pages."""

    rows: int = 0
    """Tokens from top to bottom; 0 = whole pages of the family, with overview."""
    columns: int = 0
    """Tokens from left to right."""
    letters: tuple[int, int] = (0, 0)
    """Smallest and largest font size, pixels."""
    words: str = "page"
    """`tiny`: one-letter keys; `short`: codes; `page`: the kinds of the family."""
    hd: int = 0
    """Setting of whole pages."""
    pages: int
    """Pages a step."""
    questions: int = 8
    """Questions a page."""
    short: float = 0.0
    """Share of the steps whose questions are the key alone, directly followed by the answer."""


CURRICULUM = (
    CurriculumStage(rows=1, columns=8, letters=(38, 46), words="short", pages=192, questions=1, short=1.0),
    CurriculumStage(rows=3, columns=4, letters=(38, 46), words="tiny", pages=128, questions=3, short=1.0),
    CurriculumStage(rows=6, columns=6, letters=(36, 46), words="tiny", pages=48, questions=6, short=0.5),
    CurriculumStage(rows=4, columns=12, letters=(36, 46), words="short", pages=48, questions=4, short=0.5),
    CurriculumStage(rows=4, columns=16, letters=(30, 46), pages=28, questions=4),
    CurriculumStage(rows=6, columns=12, letters=(24, 36), pages=18, questions=6),
    CurriculumStage(rows=12, columns=12, letters=(22, 34), pages=9, questions=10),
    CurriculumStage(hd=1, pages=6, questions=12),
    CurriculumStage(hd=4, pages=2, questions=24),
    CurriculumStage(hd=9, pages=1, questions=32),
)


FINAL_MIX = (0.01, 0.01, 0.01, 0.01, 0.02, 0.04, 0.06, 0.20, 0.26, 0.38)
"""Shares of the stages once the last one is reached: the largest pages are the slowest to learn."""


def draw_stage(rng: Generator, reached: int, shares: tuple[float, ...] = FINAL_MIX) -> int:
    """Draw the stage of a step; `shares`: of every stage once the last one is reached."""
    if reached == len(shares) - 1:
        return int(rng.choice(len(shares), p=shares))
    r = rng.random()
    if r < 0.5:
        return reached
    if r < 0.75:
        return min(len(shares) - 1, reached + 1)
    return max(0, reached - 1) if r < 0.85 else int(rng.integers(0, reached + 1))


def pairs(builder: PageBuilder, tiny: bool) -> None:
    """Fill a page with one `K:V` a line; keys are one letter or short codes."""
    rng, page = builder.rng, builder.page
    lines = range(builder.y, page.height, TOKEN)
    used: set[str] = set()
    for y in lines:
        k = values.letters(rng, values.CODE, 1, 1 if tiny else 2)
        v = values.letters(rng, values.CODE, 1 if tiny else 2, 2 if tiny else 4)
        space = page.width - builder.width_of(f"{k}:{v}")
        if space < 0 or any(k in other or other in k for other in used):
            continue
        used.add(k)
        builder.put(f"{k}:{v}", int(rng.integers(0, int(space) + 1)), y)
        builder.ask("value", f"What is the {k}?", v)


def small_page(number: int, stage: CurriculumStage, family: PageFamily) -> DrawnPage:
    """Draw a page of a fixed grid; its lines are at least one token apart, at any height inside their token row."""
    rng = np.random.default_rng([number, 11])
    names = family.fonts
    size = int(rng.integers(stage.letters[0], stage.letters[1] + 1))
    page = DrawnPage(
        kind=NO_KIND, width=stage.columns * TOKEN, height=stage.rows * TOKEN, font=names[rng.integers(len(names))]
    )
    pitch = TOKEN if stage.words != "page" else max(TOKEN, round(size * rng.uniform(0.9, 1.3)))
    titled = round(size * 1.3) if stage.words == "page" and stage.rows >= 12 and rng.random() < 0.8 else 0
    setting = Style(size=size, pitch=pitch, margin=int(rng.integers(0, 10)), title_size=titled)
    builder = PageBuilder(rng=rng, page=page, style=setting, family=family)
    first = round(0.35 * size) + int(rng.integers(2, TOKEN - 1))
    if stage.words != "page":
        builder.y = first
        pairs(builder, stage.words == "tiny")
    else:
        title(builder)
        if not titled:
            builder.y = first
        page.kind = family.shares[rng.integers(len(family.shares))][0]
        KINDS[page.kind](builder)
    return page


def stage_page(number: int, stage: CurriculumStage, family: PageFamily = FAMILY) -> tuple[DrawnPage, GlyphTokens]:
    """Draw a page of a stage, with its glyph tokens."""
    if stage.hd:
        page = compose(number, hd=stage.hd, family=family)
        return page, page_glyph_tokens(page, hd=stage.hd)
    page = small_page(number, stage, family)
    return page, with_newlines(*glyph_grid(*characters(page), rows=stage.rows, columns=stage.columns))


def same_shape(
    rng: Generator, stage: CurriculumStage, family: PageFamily = FAMILY
) -> list[tuple[DrawnPage, GlyphTokens]]:
    """Draw the pages of one step, all with the same number of image tokens and at least one question."""
    found: list[tuple[DrawnPage, GlyphTokens]] = []
    for _ in range(60 * stage.pages):
        page, glyph_tokens = stage_page(int(rng.integers(1 << 39)), stage, family)
        if page.questions and (not found or len(glyph_tokens.special) == len(found[0][1].special)):
            found.append((page, glyph_tokens))
        if len(found) == stage.pages:
            break
    return found
