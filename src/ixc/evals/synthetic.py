"""Exact match of a model on drawn documents it never saw: held-out numbers, held-out fonts, several HD settings.

    numbers from HELD_OUT on -> compose -> paint -> one question a page -> the model's own way of answering -> equal?

Each page is drawn for a setting and asked at that one, pages of HD-9 and HD-55 at others too. Kinds take turns, and so
do fonts: half of the pages of each kind are in fonts of training, half in fonts that training never saw.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ixc.core.tiling import partition
from ixc.errors import DataError, UsageError
from ixc.synth import fonts
from ixc.synth.layouts.basic import KINDS
from ixc.synth.page import DrawnPage, PageQuestion
from ixc.synth.page_sampling import HELD_OUT, SETTINGS, UNSEEN, WIDER, check_drawn, compose
from ixc.synth.render import paint
from ixc.utils import files

Answers = Callable[[Image.Image, str, int], str]
"""(image, question, HD) -> answer text: any model, local or behind an endpoint."""

Crew = Callable[[range], Iterator["list[SyntheticCase]"]]
"""Numbers of pages -> the cases of each, in their order."""

ASKED_AT = {9: (1, 4, 9, 16), 55: (9, 25, 55)}
"""Setting a page is drawn for -> all settings it is asked at; the others at their own."""
EVERY = (*KINDS, *WIDER)
"""Kinds that take turns."""
LARGE = 1344 * 1008
"""Pixels of the largest pages of the family; their letters are the smallest beside the page."""
WIDE = (3840, 1600)
"""The largest page that the paper reads, pixels."""
SIZES = (16, 20, 24, 28, 32)
"""Borders of the classes of letters, pixels as seen."""
Z = 1.96  # 95 % normal quantile


@dataclass(frozen=True, kw_only=True)
class SyntheticCase:
    """One question asked at one setting."""

    number: int
    page: str
    """Kind of page."""
    kind: str
    """Kind of question."""
    font: str
    width: int
    """Pixels of the page, before any partition."""
    height: int
    """Pixels of the page, before any partition."""
    drawn_for: int
    hd: int
    seen: float
    """Body text in pixels as the model sees it at this setting."""
    question: str
    answer: str
    prediction: str
    right: bool

    @property
    def font_group(self) -> str:
        """`held out` or `trained`."""
        return "held out" if self.font in fonts.TEST_FONTS else "trained"


@dataclass(frozen=True, kw_only=True)
class SyntheticReport:
    """All cases of a run; its text is the table."""

    cases: tuple[SyntheticCase, ...]

    def as_dict(self) -> dict[str, Any]:
        """For JSON: every group's share, interval and count, then the cases."""
        return {
            "groups": {t: [asdict(row) for row in rows] for t, rows in self.groups()},
            "cases": [asdict(c) for c in self.cases],
        }

    def own(self) -> list[SyntheticCase]:
        """Cases asked at the setting that their page was drawn for."""
        return [c for c in self.cases if c.hd == c.drawn_for]

    def groups(self) -> list[tuple[str, list[SyntheticRow]]]:
        """Title and rows of every part of the table."""
        own = self.own()
        small = [c for c in self.cases if c.drawn_for == 9]
        large = [c for c in small if c.width * c.height >= LARGE]
        most = [c for c in self.cases if c.drawn_for == 55]
        wide = [c for c in most if (c.width, c.height) == WIDE]
        parts = [
            ("all, at the page's own HD", [row("all", own)]),
            ("fonts of training and others, own HD", rows(own, lambda c: c.font_group)),
            ("by kind of question, own HD", rows(own, lambda c: c.kind)),
            ("by kind of page, own HD", rows(own, lambda c: c.page)),
            ("by HD the page was drawn for", rows(own, lambda c: f"HD-{c.drawn_for}")),
            ("by font, own HD", rows(own, lambda c: f"{c.font_group}: {c.font}")),
            ("by smallest letters as seen, own HD", rows(own, lambda c: size_class(c.seen))),
            ("pages drawn for HD-9, asked at", rows(small, lambda c: f"HD-{c.hd:02d}")),
            ("of these the pages of 1344x1008, asked at", rows(large, lambda c: f"HD-{c.hd:02d}")),
            ("pages drawn for HD-55, asked at", rows(most, lambda c: f"HD-{c.hd:02d}")),
            ("of these the pages of 3840x1600, asked at", rows(wide, lambda c: f"HD-{c.hd:02d}")),
        ]
        return [(title, found) for title, found in parts if found]

    def __str__(self) -> str:
        """The table, for a terminal and for Markdown."""
        lines = ["| | exact match % | 95 % interval | answers |", "|---|---|---|---|"]
        for title, found in self.groups():
            lines.append(f"| **{title}** | | | |")
            lines += [f"| {r.name} | {r.percent:.1f} | {r.low:.1f} to {r.high:.1f} | {r.count} |" for r in found]
        return "\n".join(lines)


def size_class(pixels: float) -> str:
    """The class of letters that a size falls into: `below 16 px`, `16 to 20 px`, ... `32 px and more`."""
    above = [size for size in SIZES if size > pixels]
    if len(above) == len(SIZES):
        return f"below {SIZES[0]} px"
    return f"{SIZES[-len(above) - 1]} to {above[0]} px" if above else f"{SIZES[-1]} px and more"


@dataclass(frozen=True, kw_only=True)
class SyntheticRow:
    """Share of right answers in per cent with Wilson's 95 % interval."""

    name: str
    percent: float
    low: float
    high: float
    count: int


def row(name: str, cases: Sequence[SyntheticCase]) -> SyntheticRow:
    """One group's share."""
    n = len(cases)
    if n == 0:
        return SyntheticRow(name=name, percent=0.0, low=0.0, high=100.0, count=0)
    p = sum(c.right for c in cases) / n
    centre = (p + Z**2 / (2 * n)) / (1 + Z**2 / n)
    half = Z * ((p * (1 - p) + Z**2 / (4 * n)) / n) ** 0.5 / (1 + Z**2 / n)
    return SyntheticRow(
        name=name, percent=100 * p, low=max(0.0, 100 * (centre - half)), high=100 * (centre + half), count=n
    )


def rows(cases: Sequence[SyntheticCase], key: Callable[[SyntheticCase], str]) -> list[SyntheticRow]:
    """Groups in the order of their names."""
    names = sorted({key(c) for c in cases})
    return [row(name, [c for c in cases if key(c) == name]) for name in names]


def held_out(index: int, *, kind: str | None = None, hd: int | None = None) -> tuple[DrawnPage, PageQuestion]:
    """The index-th test page and its question: kinds, fonts and settings take turns.

    Args:
        kind: of page; None: each of `EVERY` in turn.
        hd: setting it is drawn for; None: each in turn.
    """
    number, turn = HELD_OUT + index, index
    if kind is None:
        kind, turn = EVERY[index % len(EVERY)], index // len(EVERY)
    first = kind in UNSEEN  # as the figures of fine-tuning were measured
    trained, held = (fonts.FIRST_FONTS, fonts.FIRST_HELD_OUT) if first else (fonts.TRAIN_FONTS, fonts.TEST_FONTS)
    names = [*(trained if turn % 2 else held)]
    rng = np.random.default_rng([number, 13])
    hd = hd or SETTINGS[(turn // 2) % len(SETTINGS)]
    while True:
        page = compose(number, kind=kind, hd=hd, font=names[int(rng.integers(len(names)))])
        if page.questions:
            break
        number += 1 << 20
    kinds = sorted({q.kind for q in page.questions})
    asks = kinds[int(rng.integers(len(kinds)))]
    mine = [q for q in page.questions if q.kind == asks]
    return page, mine[int(rng.integers(len(mine)))]


def seen_size(page: DrawnPage, hd: int) -> float:
    """Body font size in pixels after the `native` partition at a setting."""
    place = partition(page.width, page.height, hd=hd, rule="native")
    sizes = [t.size for t in page.texts]
    return min(sizes) * place.resized_width / page.width


def marked(page: DrawnPage, question: PageQuestion, said: str, *, hd: int) -> SyntheticCase:
    """What was said to a question about a page that was seen at a setting."""
    return SyntheticCase(
        number=page.number,
        page=page.kind,
        kind=question.kind,
        font=page.font,
        width=page.width,
        height=page.height,
        drawn_for=page.hd,
        hd=hd,
        seen=round(seen_size(page, hd), 1),
        question=question.question,
        answer=question.answer,
        prediction=said,
        right=said == question.answer,
    )


def ask(
    answers: Answers,
    index: int,
    *,
    settings: Sequence[int] | None = None,
    kind: str | None = None,
    hd: int | None = None,
) -> list[SyntheticCase]:
    """The cases of one page: at its own setting and at `settings` (None: those of `ASKED_AT`). Others as `held_out`."""
    page, question = held_out(index, kind=kind, hd=hd)
    image = paint(page)
    done = []
    more = ASKED_AT.get(page.hd, ()) if settings is None else settings
    for asked in sorted({page.hd, *more}):
        said = answers(image, question.question, asked).strip()
        done.append(marked(page, question, said, hd=asked))
    return done


def _ask_in_turn(
    answers: Answers, indices: range, *, kind: str | None, hd: int | None
) -> Iterator[list[SyntheticCase]]:
    return (ask(answers, index, kind=kind, hd=hd) for index in indices)


def _whole_lines(path: Path, *, model: str) -> list[list[SyntheticCase]]:
    """The finished pages of a file; a line that a kill tore is cut off, so that the next one begins on its own."""
    text = path.read_text()
    lines = text[: text.rfind("\n") + 1]
    if lines != text:
        files.atomic_write(path, lines.encode())
    try:
        head, *pages = [json.loads(line) for line in lines.splitlines()] or [{"model": model}]
        who = head["model"]
        cases = [[SyntheticCase(**c) for c in page] for page in pages]
    except (ValueError, TypeError, KeyError) as error:
        raise DataError(f"{path} holds no cases of this command ({str(error)[:100]}); name another file") from error
    if who != model:
        raise DataError(f"{path} holds answers of {who or 'a model unnamed'}, not of {model}; name another file")
    return cases


def run(
    answers: Answers | None,
    *,
    count: int = 500,
    keep: Path | None = None,
    model: str = "",
    kind: str | None = None,
    hd: int | None = None,
    crew: Crew | None = None,
) -> Iterator[int | SyntheticReport]:
    """Ask `count` pages; yields the number of pages done, and the report last.

    Args:
        answers: the model; None: the crew asks.
        count: pages, at least 1.
        keep: file of finished cases, one JSON line a page; a run that finds it goes on behind its last line.
        model: who answers: name or fingerprint of the weights, the first line of `keep`.
        kind: of page; None: the family's.
        hd: setting the pages are drawn for; None: each in turn.
        crew: who asks them instead, pages of the same kind and setting (`crew.ask_side_by_side`).

    Raises:
        UsageError: count below 1, an unknown kind or setting. DataError: `keep` is a file of something else, or of
        another model.
    """
    if count < 1:
        raise UsageError(f"{count} documents asked for, at least 1 needed; use -n 500")
    check_drawn(kind, hd)
    cases: list[SyntheticCase] = []
    known: list[list[SyntheticCase]] = []
    if keep is not None and keep.exists():
        known = _whole_lines(keep, model=model)
    if keep is not None and not (keep.exists() and keep.stat().st_size):
        keep.write_text(json.dumps({"model": model}) + "\n")
    if crew is None:
        assert answers is not None
        crew = partial(_ask_in_turn, answers, kind=kind, hd=hd)
    for number, page in enumerate(known[:count], 1):
        cases += page
        yield number
    for number, fresh in enumerate(crew(range(len(known), count)), len(known) + 1):
        cases += fresh
        if keep is not None:
            with keep.open("a") as file:
                file.write(json.dumps([asdict(c) for c in fresh]) + "\n")
        yield number
    yield SyntheticReport(cases=tuple(cases))
