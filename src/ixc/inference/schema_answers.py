"""Answers that are JSON of a given schema: what the light server and `ixc read` share.

    schema --published prompt--> a mask over the model's tokens, which writes all of the JSON itself
           --another model-----> `json_answers`: the grammar writes the structure, the model the values

A model with the published prompt has read JSON in its training. Any other was taught short answers: with one field to
fill, it is asked the question itself; with several, "What is the FIELD?" for each of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import cached_property, partial
from time import perf_counter
from typing import Any

import torch

from ixc.errors import UsageError
from ixc.inference.engine import Engine
from ixc.inference.grammar import GrammarMask, Schema, TokenVocabulary, check_schema, new_matcher, token_bytes
from ixc.inference.json_answers import JsonWriter, Limits, ValueMask, ValueVocabulary, compile_for_values, field_titles
from ixc.inference.query import Query
from ixc.inference.request import Answer, Request
from ixc.inference.stop_texts import first_stop
from ixc.inference.streaming import TokenWatcher
from ixc.processing.plain_text import plain_ids

QUESTION = "What is the {}?"
"""The question for one of several fields; most questions of the embedded model's training begin so."""

LONGEST_FIELD = 100
"""Most characters of a field's name in its question."""


class JsonModel:
    """How a model writes JSON; its vocabulary is read at the first text.

    Args:
        engine: the loaded model.
    """

    def __init__(self, engine: Engine) -> None:
        self.engine = engine

    @property
    def by_values(self) -> bool:
        """Whether the model was taught short answers and no JSON."""
        return not self.engine.processor.published_quirks

    @cached_property
    def vocabulary(self) -> TokenVocabulary:
        """The bytes of the model's tokens."""
        tokens = token_bytes(self.engine.processor.tokenizer, self.engine.model.config.text_config.vocab_size)
        stops = sorted(self.engine.preparer.stop_ids)
        if self.by_values:
            return ValueVocabulary(tokens, stops)
        return TokenVocabulary(tokens, stops, partial(plain_ids, self.engine.processor.tokenizer))

    def answer(self, query: Query, schema: Schema) -> Answer:
        """Answer a question in JSON.

        Args:
            query: the question; without evidence and history.
            schema: of the answer.

        Raises:
            SchemaError: a schema that cannot be expressed. UsageError: more than one beam. Others as `Engine.ask`.
        """
        check_decoding(query)
        if not self.by_values:
            mask = GrammarMask(new_matcher(check_schema(schema), self.vocabulary))
            return self.engine.answer(query, logits_processor=[mask])
        return _ValueAnswer(self, query, schema).written()


def check_decoding(query: Query) -> None:
    """Refuse beams. Raises: UsageError."""
    if query.decoding.num_beams > 1:
        raise UsageError(f"{query.decoding.num_beams} beams and a JSON schema do not go together; leave one out")


def titles_of(schema: Schema) -> dict[str, str]:
    """Return each field's name in words where the fields are asked one by one; {} where there is one at most."""
    return field_titles(schema) if len(field_titles(schema, leaves_only=True)) > 1 else {}


def field_question(keys: tuple[str, ...], titles: Mapping[str, str]) -> str | None:
    """Return the question for a field; None: the caller's own.

    Args:
        keys: names of the objects around it, "" for lists.
        titles: names of fields in words; {} where the fields are not asked one by one.
    """
    name = next((key for key in reversed(keys) if key), "")
    title = titles.get(name, name)
    return QUESTION.format(title[:LONGEST_FIELD]) if titles and title else None


class _ValueAnswer:
    """One JSON text whose values alone come from the model."""

    def __init__(self, model: JsonModel, query: Query, schema: Schema) -> None:
        vocabulary = model.vocabulary
        assert isinstance(vocabulary, ValueVocabulary)
        self.engine, self.query, self.titles = model.engine, query, titles_of(schema)
        self.request = self.engine.preparer.prepare_query(query)
        self._requests: dict[str, Request] = {}
        self._text = ""
        self._writer = JsonWriter(
            new_matcher(compile_for_values(schema), vocabulary),
            vocabulary,
            ask=self._ask,
            emit=self._add,
            limits=Limits(total=query.max_new_tokens, value=self.request.max_new_tokens),
        )

    def written(self) -> Answer:
        """Write the text, and return it as an answer; the confidence of several values together is not known."""
        start = perf_counter()
        self._writer.write(self._ended)
        answer = self.engine.preparer.answer(self.request, [], seconds=perf_counter() - start)
        text = self._text[: first_stop(self._text, self.query.stop)]
        return replace(answer, text=text, new_tokens=self._writer.new_tokens, confidence=None)

    def _ended(self) -> bool:
        return first_stop(self._text, self.query.stop) is not None

    def _add(self, text: str, data: bytes, token: int | None) -> None:
        del data, token
        self._text += text

    def _ask(self, keys: tuple[str, ...], value: ValueMask, *, max_new_tokens: int) -> None:
        inputs = self._inputs(field_question(keys, self.titles))

        def take(token: int) -> bool:
            value.add(token)
            return value.ended or self._ended()

        room = self.engine.context - inputs["input_ids"].shape[1]
        self.engine.generate(
            inputs,
            max_new_tokens=max(1, min(max_new_tokens, room)),
            sampling=self.query.decoding,
            hd=self.request.hd,
            logits_processor=[value],
            stopping_criteria=[TokenWatcher(take)],
        )

    def _inputs(self, question: str | None) -> Mapping[str, torch.Tensor]:
        if question is None:
            return self.request.inputs
        if question not in self._requests:
            asked: Any = replace(self.query, question=question, max_new_tokens=None)
            self._requests[question] = self.engine.preparer.prepare_query(asked)
        return self._requests[question].inputs
