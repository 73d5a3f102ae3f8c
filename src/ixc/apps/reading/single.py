"""Questions over the pages of documents, page by page; finished answers survive a killed process.

    files --pages_of--> DocumentPage, ... --read--> PageAnswer (answers or an error), written to the state file at once

The state file holds JSON lines: the settings first, then one line a page, each flushed to disk before the next page
starts. A page is identified by its file's bytes and its number. Failed pages are not written: they are tried again.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any

from ixc.errors import ImageError, IxcError, UsageError
from ixc.inference.request import Answer
from ixc.processing.pages import Document, Rendering, open_document
from ixc.processing.pdf import PageImage, is_pdf
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

    file: Path
    """Path of the document."""
    number: int
    """1 .. pages of a PDF or a TIFF; 1 for another image."""
    paged: bool
    """Whether the file is a PDF or a TIFF of several pages."""
    digest: str = ""
    """Digest of the file's bytes; empty where it cannot be read."""
    error: str | None = None
    """Why the file cannot be opened at all."""

    @property
    def name(self) -> str:
        """Name of the page for a reader."""
        return f"{self.file}, page {self.number}" if self.paged else str(self.file)


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


def numbers_of(text: str) -> tuple[int, ...]:
    """Parse page numbers: "1-3,7" -> (1, 2, 3, 7), in order, each once.

    Raises:
        UsageError: the text is not of this form.
    """
    found: set[int] = set()
    for part in text.split(","):
        first, dash, last = part.strip().partition("-")
        last = last if dash else first
        if not (first.isdecimal() and last.isdecimal() and 1 <= int(first) <= int(last) <= 100_000):
            raise UsageError(f"--pages {text!r}: {part.strip()!r} is no page; write 1-5 or 1,3,7-9")
        found |= set(range(int(first), int(last) + 1))
    return tuple(sorted(found))


def pages_of(files: Sequence[Path], *, numbers: tuple[int, ...] | None = None) -> list[DocumentPage]:
    """List every page of every file, in order; a file that cannot be opened is one page with an error.

    Args:
        files: images and PDFs.
        numbers: of the pages of PDFs and TIFFs; None = all. A file with fewer pages gives those it has.

    Raises:
        MissingPackageError: a missing extra. UsageError: no page is left; pages were named and no file has any.
    """
    found: list[DocumentPage] = []
    paged_files = 0
    for file in files:
        paged = is_pdf(file)
        try:
            document = open_document(file)
            count, paged = document.pages, paged or document.pages > 1
            document.close()
            digest = blake2b(_bytes(file), digest_size=16).hexdigest()
        except ImageError as error:
            found.append(DocumentPage(file=file, number=1, paged=paged, error=str(error)))
            continue
        finally:
            paged_files += paged
        there = [n for n in range(1, count + 1) if not paged or numbers is None or n in numbers]
        found += [DocumentPage(file=file, number=n, paged=paged, digest=digest) for n in there]
    if numbers is not None and not paged_files:
        raise UsageError(
            f"pages are named and none of {counted(len(files), 'file')} is a PDF or has pages; leave --pages out"
        )
    if not found:
        raise UsageError(
            f"none of the pages named is in the {counted(len(files), 'file')}; the first one is page {numbers}"
        )
    return found


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
    with _OpenDocument(rendering or Rendering()) as source:
        yield from _read(engine, pages, questions, source, state, options)


def _read(
    engine: Engine | LazyEngine,
    pages: Sequence[DocumentPage],
    questions: Sequence[str],
    source: _OpenDocument,
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
            shown = source.page(page)
            answers = tuple(engine.ask([shown.image], question, **options) for question in questions)
        except IxcError as error:
            yield PageAnswer(page=page, error=" ".join(str(error).split()), seconds=perf_counter() - start)
            continue
        if state is not None:
            state.add(page, answers)
        yield PageAnswer(page=page, answers=answers, seconds=perf_counter() - start, warnings=shown.warnings)


class _OpenDocument:
    """Renders pages; the last document stays open for its next page."""

    def __init__(self, rendering: Rendering) -> None:
        self.rendering = rendering
        self._open: tuple[Path, Document] | None = None

    def page(self, page: DocumentPage) -> PageImage:
        """Render a page. Raises: ImageError: it cannot be opened."""
        if page.error is not None:
            raise ImageError(page.error)
        if self._open is None or self._open[0] != page.file:
            self.close()
            self._open = page.file, open_document(page.file)
        return self._open[1].page(page.number, self.rendering)

    def close(self) -> None:
        """Close the document."""
        if self._open is not None:
            self._open[1].close()
            self._open = None

    def __enter__(self) -> _OpenDocument:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _bytes(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise ImageError(f"{file} cannot be read ({error.strerror}); check the path") from error


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
        {"file": str(each.page.file), "page": each.page.number}
        | ({"answers": _answers(each, questions)} if each.error is None else {"error": each.error})
        | ({"warnings": list(each.warnings)} if each.warnings else {})
        for each in found
    ]
    return json.dumps({"questions": list(questions), "pages": pages}, ensure_ascii=False, indent=1) + "\n"


def _answers(found: PageAnswer, questions: Sequence[str]) -> list[dict[str, Any]]:
    """Return the answers about one page for JSON."""
    page = found.page
    name = f"{page.file}#{page.number}" if page.paged else str(page.file)
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
