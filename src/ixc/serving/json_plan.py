"""From the JSON that a request asks for to the grammar of its answer, and the answer under it.

    OutputSchema --StructuredOutput.plan--> JsonPlan, in GenerationJob
    JsonPlan --published prompt--> a mask over the model's tokens, which writes all of the JSON itself
             --another model-----> `inference.json_answers`: the grammar writes the structure, the model the values

Which of the two a model takes, and what it is asked: `inference.schema_answers`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from threading import Event
from typing import Any

import torch

from ixc.inference.engine import Engine
from ixc.inference.grammar import GrammarMask, SchemaError, TokenVocabulary, check_schema, new_matcher
from ixc.inference.json_answers import JsonWriter, Limits, ValueMask, ValueVocabulary, compile_for_values, field_titles
from ixc.inference.schema_answers import JsonModel, field_question
from ixc.inference.streaming import TokenWatcher
from ixc.serving.answer_text import AnswerText
from ixc.serving.deltas import TextDelta, TokenLogprob
from ixc.serving.errors import ApiError
from ixc.serving.logprobs import LogprobReader, written_as
from ixc.serving.structured import OutputSchema

ANSWER = "answer"
"""The field of a JSON object for which the request names no schema, from a model that was taught short answers."""

FieldInputs = Callable[[str], Mapping[str, torch.Tensor]]
"""Question -> what `generate` takes, with the images of the request."""


@dataclass(frozen=True, kw_only=True)
class JsonPlan:
    """How the JSON of one answer is made."""

    grammar: str
    """llguidance's grammar."""
    vocabulary: TokenVocabulary
    """Of the model; a `ValueVocabulary` where the grammar writes the structure."""
    is_call: bool
    """Whether the JSON is a tool call."""
    titles: Mapping[str, str] = field(default_factory=dict)
    """Name of a field -> its name in a question; empty where the request's own question is asked."""
    total: int | None = None
    """Most tokens of all values together, as the request sets it."""
    field_inputs: FieldInputs | None = None
    """Encodes the question for a field."""

    @property
    def by_values(self) -> bool:
        """Whether the grammar writes the structure and the model the values only."""
        return isinstance(self.vocabulary, ValueVocabulary)


class StructuredOutput(JsonModel):
    """Plans of one model; its vocabulary is read at the first one."""

    def plan(self, output: OutputSchema, *, total: int | None, field_inputs: FieldInputs) -> JsonPlan:
        """Return the plan of an answer.

        Args:
            output: the JSON asked for.
            total: most tokens that the request allows; None = it sets none.
            field_inputs: encodes the question for a field.

        Raises:
            ApiError: a schema that cannot be expressed, with the path of the part at fault.
        """
        schema = output.schema
        if output.any_object and self.by_values:
            schema = {"type": "object", "properties": {ANSWER: {"type": "string"}}, "required": [ANSWER]}
        try:
            for part in output.checked.values():
                check_schema(part)
            grammar = (compile_for_values if self.by_values else check_schema)(schema)
            new_matcher(grammar, self.vocabulary)
        except SchemaError as error:
            where = ".".join(filter(None, (_home(output), error.path)))
            raise ApiError(f"{where}: {error.reason}; use a schema without it", param=where) from None
        titles = _asked_by_name(output) if self.by_values else {}
        return JsonPlan(
            grammar=grammar, vocabulary=self.vocabulary, is_call=output.is_call, titles=titles, total=total,
            field_inputs=field_inputs,
        )  # fmt: skip


def grammar_mask(plan: JsonPlan) -> GrammarMask:
    """Return the mask over the tokens of a model that writes all of the JSON itself."""
    return GrammarMask(new_matcher(plan.grammar, plan.vocabulary))


def generate_json(engine: Engine, job: Any, *, cancelled: Event, emit: Callable[[TextDelta], None]) -> None:
    """Generate the answer of a job whose values alone come from the model, and emit its deltas.

    Args:
        job: a `GenerationJob` with a plan.

    Raises:
        CapacityError: too little memory. SchemaError: the grammar has become too complex.
    """
    JsonStreamer(engine, job, cancelled, emit).run()


class JsonStreamer:
    """Generates one JSON text value by value and emits its deltas.

    Stop texts end the JSON where it stands, as in other servers; an id of `stop_token_ids` ends a value, for it ends
    the model's answer.

    Args:
        engine: the engine that generates.
        job: a `GenerationJob` with a plan.
        cancelled: once set, generation ends after the token under way.
        emit: takes the deltas.
    """

    def __init__(self, engine: Engine, job: Any, cancelled: Event, emit: Callable[[TextDelta], None]) -> None:
        self.engine, self.job, self._cancelled, self._emit = engine, job, cancelled, emit
        self.plan: JsonPlan = job.json
        vocabulary = self.plan.vocabulary
        assert isinstance(vocabulary, ValueVocabulary)
        self._text = AnswerText(job.stop, is_call=self.plan.is_call)
        self._logprobs = None if job.top_logprobs is None else LogprobReader(engine, top=job.top_logprobs)
        self._entry: TokenLogprob | None = None  # of the last token of the model
        self._cached = 0
        self._writer = JsonWriter(
            new_matcher(self.plan.grammar, vocabulary),
            vocabulary,
            ask=self._ask,
            emit=self._add,
            limits=Limits(total=self.plan.total, value=job.max_new_tokens),
        )

    def run(self) -> None:
        """Write the text."""
        self._writer.write(self._ended)
        finish = "length" if self._writer.cut and not self._text.stopped else "stop"
        last = self._delta(*self._text.take(last=True))
        is_open = self._text.stopped or not self._writer.matcher.is_stopped()
        self._emit(replace(last, finish=finish, is_open=is_open))

    def _ended(self) -> bool:
        return self._text.stopped or self._cancelled.is_set()

    def _ask(self, keys: tuple[str, ...], value: ValueMask, *, max_new_tokens: int) -> None:
        prefixes, inputs = self.engine.generator.prefixes, _inputs(self.plan, keys, self.job.inputs)
        reused_before = prefixes.tokens_reused
        room = self.engine.context - inputs["input_ids"].shape[1]

        def take(token: int) -> bool:
            self._entry = None if self._logprobs is None else self._logprobs.read(token)
            if token in self.job.stop_token_ids:
                value.ended = True
            else:
                value.add(token)
            return value.ended or self._ended()

        self.engine.generate(
            inputs,
            max_new_tokens=max(1, min(max_new_tokens, room)),
            sampling=self.job.sampling,
            hd=self.job.hd,
            logits_processor=[value] if self._logprobs is None else [self._logprobs.recorder, value],
            stopping_criteria=[TokenWatcher(take)],
        )
        self._cached = self._cached or prefixes.tokens_reused - reused_before  # of the first value's prompt

    def _add(self, text: str, data: bytes, token: int | None) -> None:
        """Take a piece of the text."""
        entry = None if self._logprobs is None else written_as(data, None if token is None else self._entry)
        self._text.add(text, entry)
        ready, entries = self._text.take()
        if ready:
            self._emit(self._delta(ready, entries))

    def _delta(self, text: str, entries: tuple[TokenLogprob, ...]) -> TextDelta:
        return TextDelta(text=text, new_tokens=self._writer.new_tokens, logprobs=entries, cached_tokens=self._cached)


def _inputs(plan: JsonPlan, keys: tuple[str, ...], own: Mapping[str, torch.Tensor]) -> Mapping[str, torch.Tensor]:
    """Return the prompt for a field: the request's own, or a question by the field's name."""
    inside = keys[1:] if plan.is_call else keys
    question = field_question(inside, plan.titles)
    return own if question is None or plan.field_inputs is None else plan.field_inputs(question)


def _asked_by_name(output: OutputSchema) -> dict[str, str]:
    """Return the titles of the fields where there are several; {} where one field takes the answer."""
    if output.any_object:
        return {}
    parts = output.checked.values()
    leaves = sum(len(field_titles(part, leaves_only=True)) for part in parts)
    found: dict[str, str] = {}
    for part in parts if leaves > 1 else ():
        found |= field_titles(part)
    return found


def _home(output: OutputSchema) -> str:
    """Return the path of the first schema of a request that cannot be expressed."""
    for where, part in output.checked.items():
        try:
            check_schema(part)
        except SchemaError:
            return where
    return next(iter(output.checked), "response_format")
