"""Questions over the pages of a few documents, page by page: printed answers and `--out FILE`; a kill costs one page.

    names --pages_of--> DocumentPage, ... --read--> PageAnswer (answers or an error), written to the state file at once

The state file holds JSON lines: the settings first, then one line a page, each flushed to disk before the next page
starts. A page is identified by its file's bytes and its number. Failed pages are not written: they are tried again.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from itertools import groupby
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any

from ixc.apps.reading import listing
from ixc.apps.reading.opening import PageOpener
from ixc.apps.reading.records import Page
from ixc.apps.reading.sources import FoundFile
from ixc.errors import ImageError, IxcError, UsageError
from ixc.inference.request import Answer
from ixc.processing.pages import Rendering
from ixc.utils.counted import counted

if TYPE_CHECKING:
    from ixc.inference.engine import Engine
    from ixc.inference.lazy import LazyEngine

TRANSCRIBE = "Write down all the text of this page, line by line."
"""Question asked where none is given; for a model that was trained to transcribe."""

VERSION = 2
"""Version of the state file."""


@dataclass(frozen=True, kw_only=True)
class DocumentPage:
    """One page to be read."""

    page: Page
    """The page, or why its file cannot be opened at all."""
    digest: str = ""
    """Digest of the file's bytes; empty where it cannot be read."""

    @property
    def file(self) -> str:
        """Name of the document."""
        return self.page.file.name

    @property
    def number(self) -> int:
        """1 .. pages of a PDF or a TIFF; 1 for another image."""
        return self.page.number

    @property
    def paged(self) -> bool:
        """Whether the file is a PDF or a TIFF of several pages."""
        return self.page.paged

    @property
    def error(self) -> str | None:
        """Why the file cannot be opened at all."""
        return self.page.error

    @property
    def name(self) -> str:
        """Name of the page for a reader."""
        return self.page.name


@dataclass(frozen=True, kw_only=True)
class PageAnswer:
    """The answers about one page, or its error."""

    page: DocumentPage
    answers: tuple[Answer, ...] = ()
    """One answer a question; empty where the page failed."""
    error: str | None = None
    """One line; None where the page was read."""
    seconds: float = 0.0
    """Wall time, rendering of the page included."""
    kept: bool = False
    """Whether an earlier run had read it."""
    warnings: tuple[str, ...] = ()
    """Contents a viewer may show that the model did not receive."""


def pages_of(files: Iterable[FoundFile], *, numbers: tuple[int, ...] | None = None) -> list[DocumentPage]:
    """List every page of every file, in order; a file that cannot be opened is one page with an error.

    Args:
        files: as `sources.list_files` yields them.
        numbers: of the pages of PDFs and TIFFs; None = all. A file with fewer pages gives those it has.

    Raises:
        MissingPackageError: a missing extra. UsageError: no page is left; pages were named and no file has any.
    """
    pages = list(listing.pages_of(files, numbers=numbers))
    if numbers is not None and not any(page.paged for page in pages) and pages:
        count = len({page.file for page in pages})
        raise UsageError(
            f"pages are named and none of {counted(count, 'file')} is a PDF or has pages; leave --pages out"
        )
    if not pages:
        first = "" if numbers is None else f"; the first page named is {numbers[0]}"
        raise UsageError(f"0 pages found{first}; name PDFs, pictures, or folders and archives that hold some")
    found: list[DocumentPage] = []
    with PageOpener(Rendering()) as opener:
        for _, group in groupby(pages, key=lambda page: page.file):
            of_file = list(group)
            found += [
                DocumentPage(page=page, digest=digest) for digest in [_digest(of_file[0], opener)] for page in of_file
            ]
    return found


def _digest(page: Page, opener: PageOpener) -> str:
    """Return the digest of a page's file; empty where it cannot be read."""
    try:
        source = opener.source(page.file)
        data = source if isinstance(source, bytes) else source.read_bytes()
    except (ImageError, OSError):
        return ""
    return blake2b(data, digest_size=16).hexdigest()


def read(
    engine: Engine | LazyEngine,
    pages: Sequence[DocumentPage],
    questions: Sequence[str],
    *,
    state: ReadState | None = None,
    rendering: Rendering | None = None,
    **options: Any,
) -> Iterator[PageAnswer]:
    """Read the pages in order; a page that fails does not stop the others.

    Args:
        engine: answers the questions.
        pages: as `pages_of` lists them.
        questions: asked about each page by itself; the page is prefilled once.
        state: holds the answers of earlier runs and receives new ones.
        rendering: how pages of a PDF become pixels.
        options: of `Engine.ask`.
    """
    with PageOpener(rendering or Rendering()) as opener:
        yield from _read(engine, pages, questions, opener, state, options)


def _read(
    engine: Engine | LazyEngine,
    pages: Sequence[DocumentPage],
    questions: Sequence[str],
    opener: PageOpener,
    state: ReadState | None,
    options: Mapping[str, Any],
) -> Iterator[PageAnswer]:
    for page in pages:
        kept = None if state is None else state.answers(page)
        if kept is not None:
            yield PageAnswer(page=page, answers=kept, kept=True)
            continue
        start = perf_counter()
        try:
            shown = opener.open(page.page)
            if shown.image is None:
                raise ImageError(shown.error or "no picture")
            answers = tuple(engine.ask([shown.image], question, **options) for question in questions)
        except IxcError as error:
            yield PageAnswer(page=page, error=" ".join(str(error).split()), seconds=perf_counter() - start)
            continue
        if state is not None:
            state.add(page, answers)
        yield PageAnswer(page=page, answers=answers, seconds=perf_counter() - start, warnings=shown.warnings)


class ReadState:
    """Finished answers in a file, found again by the next run."""

    def __init__(self, path: Path, settings: Mapping[str, Any]) -> None:
        """
        Args:
            path: of the file; created if missing.
            settings: what the answers depend on, for JSON.

        Raises:
            UsageError: it was written with other settings, is no state file, or cannot be written.
        """
        self.path = path
        self._settings = {"ixc read": VERSION, **settings}
        self._found: dict[tuple[str, int], tuple[Answer, ...]] = {}
        try:
            whole = self._lines()
            for line in whole[1:]:
                self._found[line["digest"], line["page"]] = tuple(map(Answer.from_dict, line["answers"]))
            self._file = path.open("r+b" if whole else "wb")
            self._file.truncate(self._end)
            self._file.seek(self._end)
        except OSError as error:
            raise UsageError(f"{path} cannot be written ({error.strerror}); choose another --out") from error
        if not whole:
            self._write(self._settings)

    def answers(self, page: DocumentPage) -> tuple[Answer, ...] | None:
        """Return the answers of an earlier run; None where there are none."""
        return None if page.error else self._found.get((page.digest, page.number))

    def add(self, page: DocumentPage, answers: tuple[Answer, ...]) -> None:
        """Write a page's answers; they are on disk when this returns."""
        found = [answer.as_dict() for answer in answers]
        self._write({"digest": page.digest, "page": page.number, "answers": found})

    def done(self) -> None:
        """Delete the file after a complete run."""
        self._file.close()
        self.path.unlink(missing_ok=True)

    def __enter__(self) -> ReadState:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def _write(self, line: Mapping[str, Any]) -> None:
        self._file.write(json.dumps(line, ensure_ascii=False).encode() + b"\n")
        self._file.flush()
        os.fsync(self._file.fileno())

    def _lines(self) -> list[dict[str, Any]]:
        """Read complete lines; a last line cut off by a kill is dropped and overwritten."""
        self._end = 0
        text = self.path.read_bytes() if self.path.exists() else b""
        found: list[dict[str, Any]] = []
        for line in text.splitlines(keepends=True):
            if not line.endswith(b"\n"):
                break
            self._end += len(line)
            try:
                found.append(json.loads(line))
            except ValueError:
                raise UsageError(f"{self.path} is no state of ixc read; move it away or choose another --out") from None
        if found and found[0] != self._settings:
            ours, theirs = self._settings, found[0]
            other = [key for key in ours if theirs.get(key) != ours[key]] or ["form"]
            raise UsageError(
                f"{self.path} was begun with another {other[0]} ({theirs.get(other[0])!r}, now "
                f"{ours.get(other[0])!r}); delete it to begin anew, or choose another --out"
            )
        return found


def as_json(found: Sequence[PageAnswer], questions: Sequence[str]) -> str:
    """Return one JSON object: the questions, and a list of pages with answers or an error.

    The answers have no `seconds`, so that an interrupted run ends with the bytes of an unbroken one.
    """
    pages = [
        {"file": each.page.file, "page": each.page.number}
        | ({"answers": _answers(each, questions)} if each.error is None else {"error": each.error})
        | ({"warnings": list(each.warnings)} if each.warnings else {})
        for each in found
    ]
    return json.dumps({"questions": list(questions), "pages": pages}, ensure_ascii=False, indent=1) + "\n"


def _answers(found: PageAnswer, questions: Sequence[str]) -> list[dict[str, Any]]:
    """Return the answers about one page for JSON."""
    page = found.page
    name = f"{page.file}#{page.number}" if page.paged else page.file
    pairs = zip(questions, found.answers, strict=True)
    named = [{"question": question, "images": [name], **answer.as_dict()} for question, answer in pairs]
    return [{key: value for key, value in each.items() if key != "seconds"} for each in named]


def as_markdown(found: PageAnswer, questions: Sequence[str]) -> str:
    """Return a page as a Markdown section; with several questions each stands above its answer."""
    if found.error is not None:
        return f"## {found.page.name}\n\n*Not read: {found.error}*\n\n"
    warnings = "".join(f"*Warning: {warning}*\n\n" for warning in found.warnings)
    several = len(questions) > 1
    parts = [f"**{q}**\n\n{a.text}" if several else a.text for q, a in zip(questions, found.answers, strict=True)]
    return f"## {found.page.name}\n\n{warnings}" + "\n\n".join(parts) + "\n\n"
