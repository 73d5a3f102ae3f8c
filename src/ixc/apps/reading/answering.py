"""Opened pages to rows, through an engine: what a worker that holds a model does.

OpenedPage, ... --EngineAnswerer.rows--> one Row a question, page by page
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from time import perf_counter
from typing import TYPE_CHECKING, Any, Protocol

from ixc.apps.reading.opening import OpenedPage
from ixc.apps.reading.records import Page, Question, ReadSettings, Row, failed_row, failed_rows
from ixc.errors import IxcError, UsageError
from ixc.inference.query import Query

if TYPE_CHECKING:
    from ixc.inference.engine import Engine
    from ixc.inference.request import Answer
    from ixc.inference.schema_answers import JsonModel


@dataclass(frozen=True, kw_only=True)
class EngineSpec:
    """How a worker loads its model; it pickles."""

    folder: str | None = None
    """Folder of the model, absolute where workers have another working folder; None = the embedded model."""
    device: str = "auto"
    """As of `inference.engine.load`."""
    dtype: str = "auto"
    """As of `inference.engine.load`."""

    def load(self) -> Engine:
        """Load the model. Errors as `inference.engine.load`."""
        from ixc.inference.engine import load

        return load(self.folder, device=self.device, dtype=self.dtype)


class Answerer(Protocol):
    """Answers all questions about pages."""

    def rows(self, opened: Sequence[OpenedPage], only: Sequence[frozenset[int]] | None = None) -> list[list[Row]]:
        """Return the rows of every page, a row a question in their order.

        Args:
            opened: pages, those without a picture included.
            only: for every page the indices of the questions to ask; None = all.
        """
        ...


class EngineAnswerer:
    """Answers through an engine, several pages and all their questions together.

    Args:
        engine: a model with its processor.
        settings: of the run.
    """

    def __init__(self, engine: Engine, settings: ReadSettings) -> None:
        self.engine, self.settings = engine, settings

    def rows(self, opened: Sequence[OpenedPage], only: Sequence[frozenset[int]] | None = None) -> list[list[Row]]:
        """Return the rows of every page; arguments as of `Answerer.rows`."""
        start = perf_counter()
        asked = [
            [] if each.image is None else questions_of(self.settings, None if only is None else only[at])
            for at, each in enumerate(opened)
        ]
        answers = self._answers(opened, asked)
        share = (perf_counter() - start) / max(1, sum(map(len, asked)))
        found: list[list[Row]] = []
        for at, each in enumerate(opened):
            if each.image is None:
                every = failed_rows(each.page, self.settings, each.error or "no picture", seconds=each.seconds)
                found.append([row for index, row in enumerate(every) if only is None or index in only[at]])
                continue
            seconds = share + each.seconds / len(asked[at])
            pairs = zip(asked[at], answers[at], strict=True)
            found.append([row_of(each.page, q, self.settings, answer, seconds=seconds) for q, answer in pairs])
        return found

    def _answers(
        self, opened: Sequence[OpenedPage], asked: Sequence[Sequence[Question]]
    ) -> list[list[Answer | IxcError]]:
        """Return the answers of every page; those in JSON are written one by one, the others together."""
        from ixc.inference.shared_prefix import answer_pages

        pairs = list(zip(opened, asked, strict=True))
        texts = answer_pages(self.engine, [[self._query(p, q) for q in qs if q.schema is None] for p, qs in pairs])
        found: list[list[Answer | IxcError]] = []
        for (page, questions), of_page in zip(pairs, map(iter, texts), strict=True):
            found.append([next(of_page) if q.schema is None else self._json(page, q, q.schema) for q in questions])
        return found

    def _json(self, opened: OpenedPage, question: Question, schema: Mapping[str, Any]) -> Answer | IxcError:
        try:
            return self._json_model.answer(self._query(opened, question), schema)
        except IxcError as error:
            return error

    @cached_property
    def _json_model(self) -> JsonModel:
        from ixc.inference.schema_answers import JsonModel

        return JsonModel(self.engine)

    def _query(self, opened: OpenedPage, question: Question) -> Query:
        options: dict[str, Any] = dict(self.settings.options)
        if question.max_new_tokens is not None:
            options["max_new_tokens"] = question.max_new_tokens
        assert opened.image is not None
        return Query([opened.image], question.text, **options)


def check_schemas(settings: ReadSettings) -> None:
    """Refuse schemas of which no answer can be made.

    Raises:
        UsageError: a schema that cannot be expressed, or beams beside one. MissingPackageError: no llguidance.
    """
    named = [(each, each.schema) for each in settings.questions if each.schema is not None]
    if not named:
        return
    from ixc.inference.grammar import SchemaError, check_schema
    from ixc.inference.schema_answers import check_decoding

    for question, schema in named:
        check_decoding(Query((), question.text, **settings.options))
        try:
            check_schema(schema)
        except SchemaError as error:
            raise UsageError(f"the schema of {question.column!r}: {error}; use a schema without it") from error


def questions_of(settings: ReadSettings, only: frozenset[int] | None) -> list[Question]:
    """Return the questions to ask; only: their indices, None = all."""
    return [each for index, each in enumerate(settings.questions) if only is None or index in only]


def row_of(page: Page, question: Question, settings: ReadSettings, answer: Answer | IxcError, *, seconds: float) -> Row:
    """Return the row of an answer, or of its error.

    Args:
        page, question, settings: what was asked.
        answer: of the engine.
        seconds: wall time of the row.
    """
    if isinstance(answer, IxcError):
        return failed_row(page, question, settings, answer, seconds=seconds)
    return Row(
        file=page.file.name,
        page=page.number,
        question=question.text,
        column=question.column,
        answer=answer.text,
        confidence=answer.confidence,
        boxes=None if answer.evidence is None else [[*each.box] for each in answer.evidence],
        tokens=answer.prompt_tokens + answer.new_tokens,
        seconds=seconds,
        model=settings.model,
        hd=answer.hd,
    )
