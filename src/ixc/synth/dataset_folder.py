"""Write a folder of drawn documents: images and `questions.jsonl` or `conversations.jsonl`, whole or not at all.

    OUT/000000-form.png, 000001-table.png, ...
    OUT/questions.jsonl        one line per question: image, number, kind, hd, asks, question, answer
    OUT/conversations.jsonl    one line per page that has questions: a conversation in the original's format

`number` draws the page again (`compose`); `hd` is the smallest setting at which its text is legible.
Pages of other origin are written as `Sheet`s (`write_sheets`).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ixc.core.chat_format import IMAGE_PLACEHOLDER
from ixc.errors import UsageError
from ixc.synth.degradation import Degradation, degraded
from ixc.synth.page import DrawnPage, PageQuestion
from ixc.synth.page_sampling import check_drawn, compose
from ixc.synth.render import paint
from ixc.utils.files import atomic_folder

QUESTIONS = "questions.jsonl"
"""Name of the file with questions and answers."""

CONVERSATIONS = "conversations.jsonl"
"""Name of the file with conversations; `talks.jsonl` in folders written before 30 November 2026."""

FORMATS = {"questions": QUESTIONS, "conversations": CONVERSATIONS}
"""Format of the text beside the images -> its file."""

TURNS = 6
"""Most questions of a conversation. A table has up to a hundred, and later ones are easier given earlier answers."""

_ORDER = 8
"""Key of the random generator that chooses the questions."""


@dataclass(frozen=True, kw_only=True)
class Sheet:
    """A page of a dataset: its picture and its questions."""

    number: int
    """That it was drawn from."""
    kind: str
    hd: int
    """Smallest setting at which its text is legible."""
    questions: Sequence[PageQuestion]
    picture: Callable[[], Image.Image]
    """Draws it."""


def write_folder(
    out: Path,
    *,
    count: int,
    seed: int = 0,
    kind: str | None = None,
    hd: int | None = None,
    text_format: str = "questions",
    degradation: Degradation | None = None,
) -> Generator[int, None, None]:
    """Draw pages `seed` to `seed + count - 1` into a new folder; yields the number of pages done.

    The pages are drawn into a hidden folder beside `out`, which is renamed at the end: an interrupted run, or a
    generator closed early, leaves nothing.

    Args:
        out: folder to make; it must not exist, or be empty.
        count: number of pages, >= 1.
        seed: number of the first page, >= 0.
        kind: one of `DRAWN`; None = the default family's, mixed.
        hd: one of `SETTINGS` or `LARGER`, at which the pages are legible; None = `SETTINGS`, mixed.
        text_format: one of `FORMATS`.
        degradation: applied to each image before it is written; None = none.

    Raises:
        UsageError: a number out of range, an unknown kind or format, or `out` exists.
        DataError: the folder cannot be written.
    """
    check_numbers(count, seed, text_format)
    check_drawn(kind, hd)
    pages = (compose(number, kind=kind, hd=hd) for number in range(seed, seed + count))
    yield from write_sheets(out, map(_sheet, pages), text_format=text_format, degradation=degradation)


def _sheet(page: DrawnPage) -> Sheet:
    return Sheet(number=page.number, kind=page.kind, hd=page.hd, questions=page.questions, picture=lambda: paint(page))


def write_sheets(
    out: Path, sheets: Iterable[Sheet], *, text_format: str = "questions", degradation: Degradation | None = None
) -> Generator[int, None, None]:
    """Write sheets into a new folder as `write_folder` does; yields the number of pages done.

    Raises:
        UsageError: `out` exists. DataError: the folder cannot be written.
    """
    lines = _conversations if text_format == "conversations" else _questions
    worn = degradation or Degradation()
    with atomic_folder(out) as folder, (folder / FORMATS[text_format]).open("w", encoding="utf-8") as file:
        for done, page in enumerate(sheets, start=1):
            name = f"{page.number:06d}-{page.kind}.png"
            degraded(page.picture(), worn, seed=page.number).save(folder / name)
            file.writelines(json.dumps(line) + "\n" for line in lines(page, name))
            yield done


def _conversations(page: Sheet, name: str) -> Iterator[dict[str, Any]]:
    """Yield one conversation, or none without questions; the page's number chooses and orders its questions."""
    order = np.random.default_rng([page.number, _ORDER]).permutation(len(page.questions))[:TURNS]
    turns: list[dict[str, str]] = []
    for asked in (page.questions[i] for i in order):
        placeholder = "" if turns else IMAGE_PLACEHOLDER
        turns.append({"from": "user", "value": placeholder + asked.question})
        turns.append({"from": "assistant", "value": asked.answer})
    if turns:
        yield {"image": [name], "conversations": turns}


def _questions(page: Sheet, name: str) -> Iterator[dict[str, Any]]:
    for asked in page.questions:
        yield {
            "image": name,
            "number": page.number,
            "kind": page.kind,
            "hd": page.hd,
            "asks": asked.kind,
            "question": asked.question,
            "answer": asked.answer,
        }


def check_numbers(count: int, seed: int, text_format: str) -> None:
    """Check what to write. Raises: UsageError: a number out of range, or an unknown format."""
    if count < 1:
        raise UsageError(f"{count} documents asked for, at least 1 needed; use -n 20")
    if seed < 0:
        raise UsageError(f"seed is {seed}, at least 0 needed")
    if text_format not in FORMATS:
        raise UsageError(f"no format {text_format!r}; use one of {', '.join(FORMATS)}")
