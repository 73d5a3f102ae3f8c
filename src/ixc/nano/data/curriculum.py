"""The ladder of lessons: the smallest contexts first, mixed. From one line of large letters to pages of nine tiles.

Half of the steps go to the lesson reached, a quarter to the one above it (that is what keeps a run from settling on
choosing between lines by luck), the rest to earlier ones. A page of a lesson is a pure function of its number.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.random import Generator

from ixc.nano.data.glyph_tokens import TOKEN, GlyphTokens, grid_symbols, page_symbols, with_newlines
from ixc.synth import values
from ixc.synth.config import FAMILY, PageFamily
from ixc.synth.layouts.basic import KINDS, PageBuilder, Style, title
from ixc.synth.page import DrawnPage, characters
from ixc.synth.page_sampling import compose

NO_KIND = "lesson"
"""Kind of a page that is of no kind of the family yet."""


@dataclass(frozen=True, kw_only=True)
class CurriculumStage:
    """One size of page.

    rows, columns: tokens; 0 rows = whole pages of the family, with overview. letters: smallest and largest font size in
    pixels. words: `tiny` one-letter keys, `short` codes, `page` the kinds of the family. pages: a step.
    """

    rows: int = 0
    columns: int = 0
    letters: tuple[int, int] = (0, 0)
    words: str = "page"
    hd: int = 0
    pages: int
    questions: int = 8
    short: float = 0.0
    """Share of the steps that ask with the key alone, the answer right behind it."""


LESSONS = (
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


ALL_REACHED = (0.01, 0.01, 0.01, 0.01, 0.02, 0.04, 0.06, 0.20, 0.26, 0.38)
"""Shares of the lessons once the ladder has been climbed: the largest pages are the slowest to learn."""


def draw_lesson(rng: Generator, reached: int, shares: tuple[float, ...] = ALL_REACHED) -> int:
    """Which lesson a step takes; `shares`: of every lesson once the last one is reached."""
    if reached == len(shares) - 1:
        return int(rng.choice(len(shares), p=shares))
    r = rng.random()
    if r < 0.5:
        return reached
    if r < 0.75:
        return min(len(shares) - 1, reached + 1)
    return max(0, reached - 1) if r < 0.85 else int(rng.integers(0, reached + 1))


def pairs(sheet: PageBuilder, tiny: bool) -> None:
    """One `K:V` a line, keys of one letter or short codes."""
    rng, page = sheet.rng, sheet.page
    lines = range(sheet.y, page.height, TOKEN)
    used: set[str] = set()
    for y in lines:
        k = values.letters(rng, values.CODE, 1, 1 if tiny else 2)
        v = values.letters(rng, values.CODE, 1 if tiny else 2, 2 if tiny else 4)
        room = page.width - sheet.width_of(f"{k}:{v}")
        if room < 0 or any(k in other or other in k for other in used):
            continue
        used.add(k)
        sheet.put(f"{k}:{v}", rng.integers(0, int(room) + 1), y)
        sheet.ask("value", f"What is the {k}?", v)


def small_page(number: int, lesson: CurriculumStage, family: PageFamily) -> DrawnPage:
    """A page of a fixed grid; lines one token apart or more, at any height inside their token row."""
    rng = np.random.default_rng([number, 11])
    names = family.fonts
    size = int(rng.integers(lesson.letters[0], lesson.letters[1] + 1))
    page = DrawnPage(
        kind=NO_KIND, width=lesson.columns * TOKEN, height=lesson.rows * TOKEN, font=names[rng.integers(len(names))]
    )
    pitch = TOKEN if lesson.words != "page" else max(TOKEN, round(size * rng.uniform(0.9, 1.3)))
    titled = round(size * 1.3) if lesson.words == "page" and lesson.rows >= 12 and rng.random() < 0.8 else 0
    setting = Style(size=size, pitch=pitch, margin=int(rng.integers(0, 10)), title_size=titled)
    sheet = PageBuilder(rng=rng, page=page, style=setting, family=family)
    first = round(0.35 * size) + int(rng.integers(2, TOKEN - 1))
    if lesson.words != "page":
        sheet.y = first
        pairs(sheet, lesson.words == "tiny")
    else:
        title(sheet)
        if not titled:
            sheet.y = first
        page.kind = family.shares[rng.integers(len(family.shares))][0]
        KINDS[page.kind](sheet)
    return page


def lesson_page(number: int, lesson: CurriculumStage, family: PageFamily = FAMILY) -> tuple[DrawnPage, GlyphTokens]:
    """A page of a lesson and what a perfect eye sees of it."""
    if lesson.hd:
        page = compose(number, hd=lesson.hd, family=family)
        return page, page_symbols(page, hd=lesson.hd)
    page = small_page(number, lesson, family)
    return page, with_newlines(*grid_symbols(*characters(page), rows=lesson.rows, columns=lesson.columns))


def same_shape(
    rng: Generator, lesson: CurriculumStage, family: PageFamily = FAMILY
) -> list[tuple[DrawnPage, GlyphTokens]]:
    """Pages for one step, all with the same number of image tokens and at least one question."""
    found: list[tuple[DrawnPage, GlyphTokens]] = []
    for _ in range(60 * lesson.pages):
        page, symbols = lesson_page(int(rng.integers(1 << 39)), lesson, family)
        if page.questions and (not found or len(symbols.marks) == len(found[0][1].marks)):
            found.append((page, symbols))
        if len(found) == lesson.pages:
            break
    return found
