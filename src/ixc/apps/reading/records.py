"""What a run over many pages is made of: files, pages, blocks, questions, rows, and the protocol of a runner.

    sources --> FileRef --> Page --blocks--> Block --Runner.run--> BlockResult --> one result file a block

Everything here is plain data that pickles, so that a runner may send it to other processes. Imports no torch.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Protocol

from ixc.processing.pages import Rendering


@dataclass(frozen=True, kw_only=True)
class FileRef:
    """Where a document's bytes are: a file, an address, or a member of an archive."""

    name: str
    """Name in the results: the path as given, the address, or ARCHIVE/MEMBER."""
    container: str
    """Path or fsspec address of the file, or of the archive that holds it."""
    kind: str = "file"
    """"file", "zip" or "tar"."""
    member: str = ""
    """Name within a zip archive."""
    offset: int = -1
    """First byte of a tar's member, counted in the uncompressed archive."""
    size: int = -1
    """Bytes of an archive's member."""


@dataclass(frozen=True, kw_only=True)
class Page:
    """One page to be read."""

    file: FileRef
    """The document."""
    number: int
    """1 .. pages of a PDF or a TIFF; 1 for another image."""
    paged: bool = False
    """Whether the file is a PDF or a TIFF of several pages."""
    error: str | None = None
    """Why the file cannot be opened at all; then it is one page."""

    @property
    def name(self) -> str:
        """Name of the page for a reader."""
        return f"{self.file.name}, page {self.number}" if self.paged else self.file.name


@dataclass(frozen=True, kw_only=True)
class Block:
    """A fixed run of pages in the order of the listing: what a runner answers, and a result file holds."""

    number: int
    """From 0."""
    pages: tuple[Page, ...]
    """At least one; (file name, page number) is unique in a run."""
    only: frozenset[tuple[int, int]] | None = None
    """(index of the page, index of the question) to ask, for another try of failed rows; None = all."""


@dataclass(frozen=True, kw_only=True)
class Question:
    """One question asked about every page."""

    text: str
    """What is asked."""
    name: str = ""
    """Name of its column of answers; empty = the text."""
    schema: Mapping[str, Any] | None = None
    """JSON schema of the answer; None = text."""
    max_new_tokens: int | None = None
    """Longest answer, >= 1; None = that of the run."""

    @property
    def column(self) -> str:
        """Name of the column of answers."""
        return self.name or self.text


@dataclass(frozen=True, kw_only=True)
class ReadSettings:
    """What the answers depend on, besides pages and model."""

    questions: tuple[Question, ...]
    """Asked about every page, each by itself."""
    rendering: Rendering = field(default_factory=Rendering)
    """How pages become pixels."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """Fields of `inference.query.Query`: hd, partition, max_new_tokens, sampling, system, stop."""
    model: str = ""
    """Fingerprint of the model, or the served name; a column of the results."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """One row of the results: the answer to one question about one page, or why there is none."""

    file: str
    """Name of the file."""
    page: int
    """Page from 1."""
    question: str
    """The question."""
    column: str
    """Name of its column of answers."""
    answer: str | None = None
    """The answer; null where it failed."""
    confidence: float | None = None
    """0 .. 1; null where the model tells none."""
    boxes: list[list[float]] | None = None
    """Places on the page, [x0, y0, x1, y1] in 0 .. 1 from the top left; null where the model tells none."""
    error: str | None = None
    """One line; null where there is an answer."""
    tokens: int | None = None
    """Tokens of prompt and answer together."""
    seconds: float | None = None
    """Wall time spent on the row: its share of what was computed together."""
    model: str = ""
    """Fingerprint of the model, or its served name."""
    hd: int | None = None
    """HD-n: most tiles the page was allowed."""

    @property
    def key(self) -> tuple[str, int, str]:
        """(file, page, question): unique in a run."""
        return self.file, self.page, self.question

    def as_dict(self) -> dict[str, Any]:
        """Return the fields as a JSON-ready mapping, in the order of the schema."""
        return asdict(self)


@dataclass(frozen=True, kw_only=True)
class BlockResult:
    """The rows of a block."""

    number: int
    """Of the block."""
    rows: list[Row]
    """Page by page, question by question; where the block names `only` some, those alone."""
    warnings: tuple[str, ...] = ()
    """Contents of pages that a viewer may show and that the model did not receive."""


class Runner(Protocol):
    """A way to answer blocks: in this process, against servers, on Ray.

    A runner pulls few blocks ahead of its answers (the iterator lists files while it is pulled), returns the blocks in
    any order and each exactly once, and turns what fails on a page into rows with an error. It raises an `IxcError`
    only where no further page can be read: no server answers any more, the model cannot be loaded.
    """

    def run(self, blocks: Iterable[Block]) -> Iterator[BlockResult]:
        """Answer the blocks; closing the iterator ends the work."""
        ...


def failed_rows(page: Page, settings: ReadSettings, error: object, *, seconds: float | None = None) -> list[Row]:
    """Return a row with the error for every question about a page.

    Args:
        page: the page.
        settings: of the run.
        error: becomes one line.
        seconds: spent on the page, shared by its rows.
    """
    line = " ".join(str(error).split()) or type(error).__name__
    share = None if seconds is None else seconds / len(settings.questions)
    return [failed_row(page, question, settings, line, seconds=share) for question in settings.questions]


def failed_row(
    page: Page, question: Question, settings: ReadSettings, error: object, *, seconds: float | None = None
) -> Row:
    """Return the row of a question without an answer."""
    return Row(
        file=page.file.name,
        page=page.number,
        question=question.text,
        column=question.column,
        error=" ".join(str(error).split()) or type(error).__name__,
        seconds=seconds,
        model=settings.model,
        hd=settings.options.get("hd"),
    )
