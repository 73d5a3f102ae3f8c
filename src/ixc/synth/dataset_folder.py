"""Write a folder of drawn documents: images and `questions.jsonl` or `conversations.jsonl`, whole or not at all.

    OUT/000000-form.png, 000001-table.png, ...
    OUT/questions.jsonl        one line per question: image, number, kind, hd, asks, question, answer
    OUT/conversations.jsonl    one line per page that has questions: a conversation in the original's format

`number` draws the page again (`compose`); `hd` is the smallest setting at which its text is legible.
Pages of other origin are `Sheet`s first (`ixc.nano.data.typeset.sheets`).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from PIL import Image

from ixc.core.chat_format import IMAGE_PLACEHOLDER
from ixc.errors import UsageError
from ixc.synth.degradation import Degradation, degraded
from ixc.synth.page import PageQuestion
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
class PageFile:
    """A drawn page as it is written."""

    name: str
    """Name of the image."""
    image: bytes
    """PNG."""
    lines: tuple[str, ...]
    """Lines of the text beside the images, each with its newline."""


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

    def as_file(self, text_format: str, degradation: Degradation) -> PageFile:
        """Return the page as it is written.

        Args:
            text_format: one of `FORMATS`.
            degradation: applied to the image.
        """
        name, image = f"{self.number:06d}-{self.kind}.png", BytesIO()
        degraded(self.picture(), degradation, seed=self.number).save(image, format="PNG")
        lines = _conversations if text_format == "conversations" else _questions
        told = tuple(json.dumps(line) + "\n" for line in lines(self, name))
        return PageFile(name=name, image=image.getvalue(), lines=told)


class PageDrawing(Protocol):
    """How pages are drawn; a function of page numbers that pickles."""

    @property
    def text_format(self) -> str:
        """One of `FORMATS`."""
        ...

    def check(self) -> None:
        """Check its settings. Raises: UsageError."""
        ...

    def draw(self, number: int) -> PageFile:
        """Draw a page by its number."""
        ...


@dataclass(frozen=True, kw_only=True)
class Drawing:
    """How this package's own pages are drawn."""

    kind: str | None = None
    """One of `DRAWN`; None = the default family's, mixed."""
    hd: int | None = None
    """One of `SETTINGS` or `LARGER`, at which the pages are legible; None = `SETTINGS`, mixed."""
    text_format: str = "questions"
    """One of `FORMATS`."""
    degradation: Degradation = field(default_factory=Degradation)
    """Applied to each image before it is written."""

    def draw(self, number: int) -> PageFile:
        """Draw a page by its number."""
        page = compose(number, kind=self.kind, hd=self.hd)
        sheet = Sheet(
            number=page.number, kind=page.kind, hd=page.hd, questions=page.questions, picture=lambda: paint(page)
        )
        return sheet.as_file(self.text_format, self.degradation)

    def check(self) -> None:
        """Check kind and setting. Raises: UsageError."""
        check_drawn(self.kind, self.hd)


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
        kind, hd, text_format, degradation: as of `Drawing`.

    Raises:
        UsageError: a number out of range, an unknown kind or format, or `out` exists.
        DataError: the folder cannot be written.
    """
    drawing = Drawing(kind=kind, hd=hd, text_format=text_format, degradation=degradation or Degradation())
    check(drawing, count, seed)
    yield from write_drawn(out, drawing, map(drawing.draw, range(seed, seed + count)))


def write_drawn(out: Path, drawing: PageDrawing, pages: Iterable[PageFile]) -> Generator[int, None, None]:
    """Write pages that are drawn elsewhere, as `write_folder` does.

    Args:
        out: folder to make.
        drawing: how they are drawn.
        pages: in the order of their numbers.
    """
    with atomic_folder(out) as draft, (draft / FORMATS[drawing.text_format]).open("w", encoding="utf-8") as file:
        for done, page in enumerate(pages, start=1):
            (draft / page.name).write_bytes(page.image)
            file.writelines(page.lines)
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


def check(drawing: PageDrawing, count: int, seed: int) -> None:
    """Check a drawing and its numbers before anything is drawn. Raises: UsageError: one is out of range or unknown."""
    if count < 1:
        raise UsageError(f"{count} documents asked for, at least 1 needed; use -n 20")
    if seed < 0:
        raise UsageError(f"seed is {seed}, at least 0 needed")
    drawing.check()
    if drawing.text_format not in FORMATS:
        raise UsageError(f"no format {drawing.text_format!r}; use one of {', '.join(FORMATS)}")
