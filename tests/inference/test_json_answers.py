"""JSON whose structure the grammar writes and whose values come from a model. Oracle: jsonschema, over 200 schemas."""

from __future__ import annotations

import json
from collections.abc import Sequence
from random import Random
from typing import Any

import numpy as np
import pytest
import torch

from ixc.inference.grammar import new_matcher, token_bytes
from ixc.inference.json_answers import (
    JsonWriter,
    Limits,
    ValueMask,
    ValueVocabulary,
    compile_for_values,
    field_titles,
)
from ixc.inference.json_position import JsonPosition
from ixc.processing.tokenization import character_tokenizer

pytest.importorskip("llguidance", reason="the extra serve is not installed")
pytest.importorskip("jsonschema", reason="the oracle comes with the extra dev")

from random_schemas import random_schema, validate

TOKENIZER = character_tokenizer()
STOPS = (2, 104)


@pytest.fixture(scope="module")
def vocabulary() -> ValueVocabulary:
    return ValueVocabulary(token_bytes(TOKENIZER, 128), STOPS)


class Model:
    """Wants to answer a text, as far as the mask lets it; then anything that is allowed."""

    def __init__(self, answer: str, random: Random | None = None) -> None:
        self.ids = [*TOKENIZER(answer, add_special_tokens=False).input_ids, STOPS[0]]
        self.random = random
        self.asked: list[tuple[str, ...]] = []

    def __call__(self, keys: tuple[str, ...], value: ValueMask, *, max_new_tokens: int) -> None:
        self.asked.append(keys)
        for place in range(max_new_tokens):
            scores = torch.zeros(1, 128)
            wanted = self.ids[min(place, len(self.ids) - 1)]
            scores[0, wanted] = 1.0
            masked = value(torch.zeros(1, 1, dtype=torch.long), scores)[0]
            allowed = torch.isfinite(masked).nonzero().flatten().tolist()
            best = int(masked.argmax())
            value.add(self.random.choice(allowed) if self.random and best != wanted else best)
            if value.ended:
                return


def written(
    vocabulary: ValueVocabulary, schema: Any, model: Model, *, total: int | None = None, value: int = 40
) -> tuple[str, JsonWriter]:
    pieces: list[str] = []
    writer = JsonWriter(
        new_matcher(compile_for_values(schema), vocabulary),
        vocabulary,
        ask=model,
        emit=lambda text, data, token: pieces.append(text),
        limits=Limits(total=total, value=value),
    )
    writer.write(lambda: False)
    return "".join(pieces), writer


def fields(**properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(properties), "additionalProperties": False}


def test_json_writer_200_random_schemas_are_met(vocabulary: ValueVocabulary) -> None:
    for seed in range(200):
        schema = random_schema(Random(seed))
        text, _ = written(vocabulary, schema, Model("641.57", Random(seed)))
        validate(json.loads(text), schema)


@pytest.mark.parametrize("answer", ["641.57", 'He said "no" \\ yes', "", "What is the total?", "a\nb"])
def test_json_writer_a_text_field_is_the_answer(vocabulary: ValueVocabulary, answer: str) -> None:
    text, writer = written(vocabulary, fields(total={"type": "string"}), Model(answer))
    assert json.loads(text) == {"total": answer}
    assert text == json.dumps({"total": answer})
    assert writer.new_tokens == len(TOKENIZER(answer, add_special_tokens=False).input_ids)
    assert not writer.cut


@pytest.mark.parametrize(
    ("schema", "answer", "value"),
    [
        ({"type": "number"}, "641.57", 641.57),
        ({"type": "number"}, "$1,234.50", 1234.5),
        ({"type": "number"}, "-3 degrees", -3),
        ({"type": "integer"}, "641.57", 641),
        ({"type": "integer"}, "12, 13", 12),
        ({"type": "boolean"}, "yes", True),
        ({"type": "boolean"}, "No", False),
        ({"enum": ["red", "green"]}, "green", "green"),
        ({"enum": ["red", "redder"]}, "redder", "redder"),
        ({"type": ["string", "null"]}, "x", "x"),
        ({"anyOf": [{"type": "null"}, {"type": "number"}]}, "7", 7),
        ({"type": "array", "items": {"type": "string"}}, "x", ["x"]),
        ({"type": "array", "items": {"type": "string"}, "minItems": 2}, "x", ["x", "x"]),
        ({"type": "array", "items": {"type": "string"}, "maxItems": 0}, "x", []),
        ({"type": "string", "maxLength": 3}, "641.57", "641"),
        ({"const": 'a "b"'}, "x", 'a "b"'),
        ({"type": "null"}, "x", None),
    ],
)
def test_json_writer_values(vocabulary: ValueVocabulary, schema: Any, answer: str, value: Any) -> None:
    assert json.loads(written(vocabulary, fields(a=schema), Model(answer))[0]) == {"a": value}


def test_json_writer_fields_that_may_be_left_out_are_written(vocabulary: ValueVocabulary) -> None:
    schema = {"type": "object", "properties": {"a": {"type": "string"}, "b": {"type": "number"}}}
    model = Model("7")
    assert json.loads(written(vocabulary, schema, model)[0]) == {"a": "7", "b": 7}
    assert model.asked == [("a",), ("b",)]


def test_json_writer_a_schema_of_itself_has_an_end(vocabulary: ValueVocabulary) -> None:
    node = {"type": "object", "properties": {"v": {"type": "string"}, "c": {"type": "array", "items": {"$ref": "#"}}}}
    found = json.loads(written(vocabulary, {**node, "required": ["v", "c"]}, Model("x"))[0])
    assert found["c"][0]["v"] == "x"


def test_json_writer_limits_end_values_and_still_close(vocabulary: ValueVocabulary) -> None:
    schema = fields(a={"type": "string"}, b={"type": "string", "minLength": 2}, c={"type": "integer", "minimum": 100})
    text, writer = written(vocabulary, schema, Model("x" * 50), total=5)
    found = json.loads(text)
    assert found["a"] == "xxxxx"
    validate(found, schema)
    assert writer.cut
    assert writer.new_tokens == 5


def test_json_writer_stops_when_told(vocabulary: ValueVocabulary) -> None:
    schema = fields(a={"type": "string"}, b={"type": "string"})
    model = Model("x")
    writer = JsonWriter(
        new_matcher(compile_for_values(schema), vocabulary),
        vocabulary,
        ask=model,
        emit=lambda text, data, token: None,
        limits=Limits(total=None, value=4),
    )
    writer.write(lambda: bool(model.asked))
    assert model.asked == [("a",)]


def test_field_titles_title_else_name_in_words() -> None:
    schema = {
        "$defs": {"p": {"type": "object", "properties": {"unit_price": {"title": "Price"}}}},
        "properties": {"due_date": {"type": "string"}, "item": {"$ref": "#/$defs/p"}, "tags": {"type": "array"}},
    }
    assert field_titles(schema) == {"due_date": "due date", "item": "item", "tags": "tags", "unit_price": "Price"}
    assert list(field_titles(schema, leaves_only=True)) == ["due_date", "tags", "unit_price"]


def test_json_position_follows_nested_text() -> None:
    text = '{"a": [1, {"b\\"": "x\\\\"}], "c": tru'
    position = JsonPosition()
    seen: list[tuple[str, Sequence[str]]] = []
    for byte in text.encode():
        position.feed(bytes([byte]))
        seen.append((position.place, tuple(position.keys)))
    assert seen[0] == ("name", ("",))
    assert ("text", ("a", 'b"')) in seen
    assert seen[-1] == ("scalar", ("c",))
    assert position.open == ["{"]
    assert position.key == "c"


def test_value_vocabulary_escapes_as_json(vocabulary: ValueVocabulary) -> None:
    assert vocabulary.bytes[3] == b"\\n"
    assert vocabulary.bytes[TOKENIZER.convert_tokens_to_ids('"')] == b'\\"'
    assert np.flatnonzero(vocabulary.yes).tolist() == sorted(TOKENIZER.convert_tokens_to_ids(list("yYtT")))
