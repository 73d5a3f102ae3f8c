"""A folder of pictures of pages and questions about them: what `ixc eval pages` asks.

    folder of `ixc data pages` --draw pages, packages in turn--> ask_page --> OUT/0000.png ..., OUT/questions.jsonl

A line of questions.jsonl: image, kind, question, answer, em (median of the page, pixels), width, height, package,
document, page.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.random import Generator
from PIL import Image

from ixc.errors import DataError, MissingFileError
from ixc.nano.data.page_files import page_numbers, read_pages
from ixc.nano.data.page_folder import DOCUMENTS, read_index
from ixc.nano.data.page_questions import ask_page, keys_and_words
from ixc.nano.data.page_text import PageText, read_page_text
from ixc.synth.page import PageQuestion
from ixc.utils.files import atomic_folder

QUESTIONS = "questions.jsonl"
WEIGHTS = {"value": 4.0, "title": 4.0, "line": 2.0, "next": 1.0, "previous": 1.0} | {
    "first_line": 0.7,
    "last_line": 0.7,
    "yes_no": 0.4,
}
"""Kind -> how often it is chosen: what people ask for stands on few pages, and a yes is half the answers by chance."""


@dataclass(frozen=True, kw_only=True)
class QuestionConfig:
    """How pages and questions are chosen."""

    pages: int = 120
    per_page: int = 4
    """Most questions of a page, each of another kind."""
    seed: int = 0


@dataclass(frozen=True, kw_only=True)
class _Place:
    path: Path
    number: int
    package: str
    document: str


def write_questions(pages: Path, out: Path, config: QuestionConfig) -> Iterator[int]:
    """Write the folder; yields the number of pages done.

    Args:
        pages: folder of `ixc data pages`.
        out: folder to make; it must not exist, or be empty.

    Raises:
        MissingFileError: no such folder. DataError: `pages` holds no pages that can be asked about.
        UsageError: `out` is taken.
    """
    if not pages.is_dir():
        raise MissingFileError(f"no folder {pages}; make it with ixc data pages")
    rng = np.random.default_rng(config.seed)
    places = _in_turn(_places(pages), rng)
    if not places:
        raise DataError(f"0 pages in {pages}; build them first (ixc data pages)")
    with atomic_folder(out) as draft, (draft / QUESTIONS).open("w", encoding="utf-8") as file:
        done = 0
        for place in places:
            other = places[int(rng.integers(len(places)))]
            rows = _rows(place, other, rng, config.per_page)
            if not rows:
                continue
            picture, facts = next(((page.picture, facts) for page, facts in read_pages(place.path, [place.number])))
            name = f"{done:04d}.png"
            Image.fromarray(picture).save(draft / name)
            notes = {"em": facts["em"], "width": facts["width"], "height": facts["height"]}
            source = {"package": place.package, "document": place.document, "page": facts["page"]}
            for one in rows:
                asked = {"image": name, "kind": one.kind, "question": one.question, "answer": one.answer}
                file.write(json.dumps(asked | notes | source, ensure_ascii=False) + "\n")
            done += 1
            yield done
            if done == config.pages:
                return
        if not done:
            raise DataError(f"no page of {pages} has a line to ask about")


def _places(pages: Path) -> dict[str, list[_Place]]:
    """Pages by package."""
    found: dict[str, list[_Place]] = {}
    for outcome in read_index(pages):
        path = pages / DOCUMENTS / outcome.file
        for number in page_numbers(path) if outcome.pages else ():
            place = _Place(path=path, number=number, package=outcome.package, document=outcome.document)
            found.setdefault(outcome.package, []).append(place)
    return found


def _in_turn(by_package: dict[str, list[_Place]], rng: Generator) -> list[_Place]:
    """All places in random order, one of each package in turn, so that no package outweighs the others."""
    columns = [[mine[i] for i in rng.permutation(len(mine))] for _, mine in sorted(by_package.items())]
    return [column[i] for i in range(max(map(len, columns), default=0)) for column in columns if i < len(column)]


def _rows(place: _Place, other: _Place, rng: Generator, count: int) -> list[PageQuestion]:
    page = read_page_text(place.path, place.number)
    drawn = ask_page(page, rng, 12 * count, elsewhere=keys_and_words(_read(other)))
    chosen: dict[str, PageQuestion] = {}
    for one in drawn:
        chosen.setdefault(one.kind, one)
    if not chosen:
        return []
    kinds = sorted(chosen)
    weight = np.array([WEIGHTS[kind] for kind in kinds])
    picked = rng.choice(len(kinds), size=min(count, len(kinds)), replace=False, p=weight / weight.sum())
    return [chosen[kinds[i]] for i in picked.tolist()]


def _read(place: _Place) -> PageText:
    return read_page_text(place.path, place.number)


__all__ = ["QUESTIONS", "QuestionConfig", "write_questions"]
