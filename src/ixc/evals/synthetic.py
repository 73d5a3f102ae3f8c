"""Exact match of a model on held-out synthetic documents: held-out seeds, held-out fonts, several HD settings.

    seeds from HELD_OUT on -> compose -> paint -> one question per page -> the model's answer -> exact match

Each page is drawn for one HD setting and asked at that setting; pages of HD-9 and HD-55 are asked at others too. Page
kinds alternate, and so do fonts: half of the pages of each kind use training fonts, half use held-out fonts.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol

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

AskPages = Callable[[range], Iterator["list[SyntheticCase]"]]
"""Page indices -> the cases of each page, in the same order."""

ASKED_AT = {9: (1, 4, 9, 16), 55: (9, 25, 55)}
"""HD a page is drawn for -> all settings it is asked at; pages of other settings are asked at their own only."""
EVERY = (*KINDS, *WIDER)
"""Page kinds, which alternate."""
LARGE = 1344 * 1008
"""Area of the largest pages drawn for HD-9, pixels; their letters are the smallest relative to the page."""
WIDE = (3840, 1600)
"""Largest page of the paper (width, height), pixels."""
SIZES = (16, 20, 24, 28, 32)
"""Bin edges of the letter size, pixels as the model sees them."""
Z = 1.96
"""97.5 % quantile of the normal distribution, for 95 % intervals."""


@dataclass(frozen=True, kw_only=True)
class SyntheticCase:
    """One question asked at one setting."""

    number: int
    """Seed of the page."""
    page: str
    """Kind of page."""
    kind: str
    """Kind of question."""
    font: str
    """Font family of the page."""
    width: int
    """Pixels of the page, before any partition."""
    height: int
    """Pixels of the page, before any partition."""
    drawn_for: int
    """HD the page was drawn for."""
    hd: int
    """HD it was asked at."""
    seen: float
    """Size of the body text as the model sees it at this setting, pixels."""
    question: str
    """Question."""
    answer: str
    """Ground truth."""
    prediction: str
    """Answer of the model."""
    right: bool
    """Exact match."""

    @property
    def font_group(self) -> str:
        """Return `held out` or `trained`."""
        return "held out" if self.font in fonts.TEST_FONTS else "trained"


@dataclass(frozen=True, kw_only=True)
class SyntheticReport:
    """All cases of a run; `str` gives the table."""

    cases: tuple[SyntheticCase, ...]

    def as_dict(self) -> dict[str, Any]:
        """Return the JSON form: share, interval and count of every group, then the cases."""
        return {
            "groups": {t: [asdict(row) for row in rows] for t, rows in self.groups()},
            "cases": [asdict(c) for c in self.cases],
        }

    def own(self) -> list[SyntheticCase]:
        """Return the cases asked at the setting that their page was drawn for."""
        return [c for c in self.cases if c.hd == c.drawn_for]

    def groups(self) -> list[tuple[str, list[SyntheticRow]]]:
        """Return title and rows of every part of the table."""
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
        """Return the table in Markdown."""
        lines = ["| | exact match % | 95 % interval | answers |", "|---|---|---|---|"]
        for title, found in self.groups():
            lines.append(f"| **{title}** | | | |")
            lines += [f"| {r.name} | {r.percent:.1f} | {r.low:.1f} to {r.high:.1f} | {r.count} |" for r in found]
        return "\n".join(lines)


def size_class(pixels: float) -> str:
    """Return the bin of a letter size: `below 16 px`, `16 to 20 px`, ... `32 px and more`."""
    above = [size for size in SIZES if size > pixels]
    if len(above) == len(SIZES):
        return f"below {SIZES[0]} px"
    return f"{SIZES[-len(above) - 1]} to {above[0]} px" if above else f"{SIZES[-1]} px and more"


@dataclass(frozen=True, kw_only=True)
class SyntheticRow:
    """Accuracy of one group with its Wilson 95 % interval."""

    name: str
    """Group."""
    percent: float
    """Exact match, per cent."""
    low: float
    """Lower end of the interval, per cent."""
    high: float
    """Upper end of the interval, per cent."""
    count: int
    """Cases."""


class Graded(Protocol):
    """A question whose answer was right or wrong."""

    @property
    def right(self) -> bool:
        """Exact match."""
        ...


def row(name: str, cases: Sequence[Graded]) -> SyntheticRow:
    """Compute the accuracy of one group (Wilson score interval)."""
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
    """Compute the accuracy of every group, in the order of their names."""
    names = sorted({key(c) for c in cases})
    return [row(name, [c for c in cases if key(c) == name]) for name in names]


def held_out(index: int, *, kind: str | None = None, hd: int | None = None) -> tuple[DrawnPage, PageQuestion]:
    """Compose the index-th test page and its question; kinds, fonts and settings alternate.

    Args:
        index: of the test page, >= 0.
        kind: kind of page; None: each of `EVERY` in turn.
        hd: HD the page is drawn for; None: each in turn.
    """
    number, turn = HELD_OUT + index, index
    if kind is None:
        kind, turn = EVERY[index % len(EVERY)], index // len(EVERY)
    first = kind in UNSEEN  # the fine-tuning results in the documents were measured with these fonts
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
    """Return the body font size after the `native` partition at a setting, pixels."""
    place = partition(page.width, page.height, hd=hd, rule="native")
    sizes = [t.size for t in page.texts]
    return min(sizes) * place.resized_width / page.width


def case_of(page: DrawnPage, question: PageQuestion, prediction: str, *, hd: int) -> SyntheticCase:
    """Build the case of a prediction that was made at HD-`hd`."""
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
        prediction=prediction,
        right=prediction == question.answer,
    )


def ask(
    answers: Answers,
    index: int,
    *,
    settings: Sequence[int] | None = None,
    kind: str | None = None,
    hd: int | None = None,
) -> list[SyntheticCase]:
    """Ask one page at its own setting and at `settings` (None: those of `ASKED_AT`); other arguments as `held_out`."""
    page, question = held_out(index, kind=kind, hd=hd)
    image = paint(page)
    done = []
    more = ASKED_AT.get(page.hd, ()) if settings is None else settings
    for asked in sorted({page.hd, *more}):
        prediction = answers(image, question.question, asked).strip()
        done.append(case_of(page, question, prediction, hd=asked))
    return done


def _ask_sequentially(
    answers: Answers, indices: range, *, kind: str | None, hd: int | None
) -> Iterator[list[SyntheticCase]]:
    return (ask(answers, index, kind=kind, hd=hd) for index in indices)


def _finished_pages(path: Path, *, model: str) -> list[list[SyntheticCase]]:
    """Read the finished pages of a file and cut off a truncated last line, so that appending can continue."""
    text = path.read_text()
    lines = text[: text.rfind("\n") + 1]
    if lines != text:
        files.atomic_write(path, lines.encode())
    try:
        head, *pages = [json.loads(line) for line in lines.splitlines()] or [{"model": model}]
        answered_by = head["model"]
        cases = [[SyntheticCase(**c) for c in page] for page in pages]
    except (ValueError, TypeError, KeyError) as error:
        raise DataError(f"{path} holds no cases of this command ({str(error)[:100]}); name another file") from error
    if answered_by != model:
        raise DataError(
            f"{path} holds answers of {answered_by or 'a model unnamed'}, not of {model}; name another file"
        )
    return cases


def run(
    answers: Answers | None,
    *,
    count: int = 500,
    keep: Path | None = None,
    model: str = "",
    kind: str | None = None,
    hd: int | None = None,
    parallel: AskPages | None = None,
) -> Generator[int | SyntheticReport]:
    """Ask `count` pages; yield the number of pages done, and the report last.

    Args:
        answers: the model; None where `parallel` is given.
        count: pages, >= 1.
        keep: file of finished cases, one JSON line per page; a run that finds the file resumes behind its last line.
        model: name or fingerprint of the weights, recorded in the first line of `keep`.
        kind: kind of page; None: each of `EVERY` in turn.
        hd: HD the pages are drawn for; None: each in turn.
        parallel: asks the pages instead of `answers`, with the same `kind` and `hd` (`parallel.ask_in_parallel`).

    Raises:
        UsageError: count below 1, an unknown kind or setting. DataError: `keep` is another kind of file, or of another
        model.
    """
    if count < 1:
        raise UsageError(f"{count} documents asked for, at least 1 needed; use -n 500")
    check_drawn(kind, hd)
    cases: list[SyntheticCase] = []
    known: list[list[SyntheticCase]] = []
    if keep is not None and keep.exists():
        known = _finished_pages(keep, model=model)
    if keep is not None and not (keep.exists() and keep.stat().st_size):
        keep.write_text(json.dumps({"model": model}) + "\n")
    if parallel is None:
        assert answers is not None
        parallel = partial(_ask_sequentially, answers, kind=kind, hd=hd)
    for number, page in enumerate(known[:count], 1):
        cases += page
        yield number
    for number, fresh in enumerate(parallel(range(len(known), count)), len(known) + 1):
        cases += fresh
        if keep is not None:
            with keep.open("a") as file:
                file.write(json.dumps([asdict(c) for c in fresh]) + "\n")
        yield number
    yield SyntheticReport(cases=tuple(cases))
