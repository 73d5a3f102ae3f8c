"""A folder of drawn documents: pictures and `questions.jsonl`, whole or not at all.

    OUT/000000-form.png, 000001-table.png, ...
    OUT/questions.jsonl    one line a question: image, number, kind, hd, asks, question, answer

`number` draws the page again (`compose`), `hd` is the smallest setting at which its text is legible.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ixc.data.synth.compose import compose
from ixc.data.synth.kinds import KINDS
from ixc.data.synth.page import Page
from ixc.data.synth.paint import paint
from ixc.errors import DataError, UsageError

QUESTIONS = "questions.jsonl"
"""Name of the file with questions and answers."""


def write_folder(out: Path, *, count: int, seed: int = 0, kind: str | None = None) -> Iterator[int]:
    """Draws pages `seed` .. `seed + count - 1` into a new folder; yields the number of pages done.

    The pages are drawn into a hidden folder beside `out`, which takes the name at the very end: a run that is cut
    short, or whose generator is closed, leaves nothing.

    Args:
        out: folder to make; it must not exist, or be empty.
        count: pages, >= 1.
        seed: number of the first page, >= 0.
        kind: one of `KINDS`; None = all of them, mixed.

    Raises:
        UsageError: a number out of range, an unknown kind, `out` taken. DataError: the disk refuses.
    """
    _check(out, count, seed, kind)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        draft = Path(tempfile.mkdtemp(prefix=f".{out.name}.", dir=out.parent))
    except OSError as error:
        raise DataError(f"no folder can be made in {out.parent} ({error.strerror}); choose another place") from error
    try:
        yield from _draw(draft, range(seed, seed + count), kind)
        draft.chmod(0o755)
        os.replace(draft, out)
    except OSError as error:
        raise DataError(f"{out} cannot be written ({error.strerror or error}); free space or choose a place") from error
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _draw(folder: Path, numbers: range, kind: str | None) -> Iterator[int]:
    with (folder / QUESTIONS).open("w", encoding="utf-8") as file:
        for done, number in enumerate(numbers, start=1):
            page = compose(number, kind=kind)
            name = f"{number:06d}-{page.kind}.png"
            paint(page).save(folder / name)
            file.writelines(json.dumps(line) + "\n" for line in _lines(page, name))
            yield done


def _lines(page: Page, name: str) -> Iterator[dict[str, Any]]:
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


def _check(out: Path, count: int, seed: int, kind: str | None) -> None:
    if count < 1:
        raise UsageError(f"{count} documents asked for, at least 1 needed; use -n 20")
    if seed < 0:
        raise UsageError(f"seed is {seed}, at least 0 needed")
    if kind is not None and kind not in KINDS:
        raise UsageError(f"no kind {kind!r} of document; use one of {', '.join(KINDS)}")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        found = f"a folder with {len(list(out.iterdir()))} entries" if out.is_dir() else "a file"
        raise UsageError(f"{out} is {found}; name a new or an empty folder")
