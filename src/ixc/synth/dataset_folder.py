"""A folder of drawn documents: pictures and `questions.jsonl` or `talks.jsonl`, whole or not at all.

    OUT/000000-form.png, 000001-table.png, ...
    OUT/questions.jsonl    one line a question: image, number, kind, hd, asks, question, answer
    OUT/talks.jsonl        one line a page that has questions: a conversation in the original's form

`number` draws the page again (`compose`), `hd` is the smallest setting at which its text is legible.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from ixc.core.chat_format import IMAGE_PLACEHOLDER
from ixc.errors import DataError, UsageError
from ixc.synth.degradation import Degradation, degraded
from ixc.synth.page import DrawnPage
from ixc.synth.page_sampling import check_drawn, compose
from ixc.synth.render import paint

QUESTIONS = "questions.jsonl"
"""Name of the file with questions and answers."""

TALKS = "talks.jsonl"
"""Name of the file with conversations."""

FORMS = {"questions": QUESTIONS, "conversations": TALKS}
"""What may be written beside the pictures -> its file."""

TURNS = 6
"""Most questions of a conversation: a table has up to a hundred, and later ones are easier for what was said before."""

_ORDER = 8
"""Purpose of the random numbers that choose them."""


def write_folder(
    out: Path,
    *,
    count: int,
    seed: int = 0,
    kind: str | None = None,
    hd: int | None = None,
    form: str = "questions",
    wear: Degradation | None = None,
) -> Iterator[int]:
    """Draws pages `seed` .. `seed + count - 1` into a new folder; yields the number of pages done.

    The pages are drawn into a hidden folder beside `out`, which takes the name at the very end: a run that is cut
    short, or whose generator is closed, leaves nothing.

    Args:
        out: folder to make; it must not exist, or be empty.
        count: pages, >= 1.
        seed: number of the first page, >= 0.
        kind: one of `DRAWN`; None = the family's, mixed.
        hd: one of `SETTINGS` or `LARGER`, at which the pages are legible; None = `SETTINGS`, mixed.
        form: one of `FORMS`.
        wear: what happens to each picture before it is written; None = nothing.

    Raises:
        UsageError: a number out of range, an unknown kind or form, `out` taken. DataError: the disk refuses.
    """
    _check(out, count, seed, kind, hd, form)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        draft = Path(tempfile.mkdtemp(prefix=f".{out.name}.", dir=out.parent))
    except OSError as error:
        raise DataError(f"no folder can be made in {out.parent} ({error.strerror}); choose another place") from error
    try:
        yield from _draw(
            draft, (compose(n, kind=kind, hd=hd) for n in range(seed, seed + count)), form, wear or Degradation()
        )
        draft.chmod(0o755)
        os.replace(draft, out)
    except OSError as error:
        raise DataError(f"{out} cannot be written ({error.strerror or error}); free space or choose a place") from error
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _draw(folder: Path, pages: Iterable[DrawnPage], form: str, wear: Degradation) -> Iterator[int]:
    lines = _talks if form == "conversations" else _lines
    with (folder / FORMS[form]).open("w", encoding="utf-8") as file:
        for done, page in enumerate(pages, start=1):
            name = f"{page.number:06d}-{page.kind}.png"
            degraded(paint(page), wear, seed=page.number).save(folder / name)
            file.writelines(json.dumps(line) + "\n" for line in lines(page, name))
            yield done


def _talks(page: DrawnPage, name: str) -> Iterator[dict[str, Any]]:
    """One conversation, or none where nothing can be asked; the page's number chooses and orders its questions."""
    order = np.random.default_rng([page.number, _ORDER]).permutation(len(page.questions))[:TURNS]
    turns: list[dict[str, str]] = []
    for asked in (page.questions[i] for i in order):
        place = "" if turns else IMAGE_PLACEHOLDER
        turns.append({"from": "user", "value": place + asked.question})
        turns.append({"from": "assistant", "value": asked.answer})
    if turns:
        yield {"image": [name], "conversations": turns}


def _lines(page: DrawnPage, name: str) -> Iterator[dict[str, Any]]:
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


def _check(out: Path, count: int, seed: int, kind: str | None, hd: int | None, form: str) -> None:
    if count < 1:
        raise UsageError(f"{count} documents asked for, at least 1 needed; use -n 20")
    if seed < 0:
        raise UsageError(f"seed is {seed}, at least 0 needed")
    check_drawn(kind, hd)
    if form not in FORMS:
        raise UsageError(f"no format {form!r}; use one of {', '.join(FORMS)}")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        found = f"a folder with {len(list(out.iterdir()))} entries" if out.is_dir() else "a file"
        raise UsageError(f"{out} is {found}; name a new or an empty folder")
