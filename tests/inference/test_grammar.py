"""Grammars of schemas: what is refused and where, and masks over the tokens of both tokenizers. Oracle: jsonschema."""

from __future__ import annotations

import json
from functools import partial
from random import Random
from typing import Any

import numpy as np
import pytest
import torch

from ixc.errors import UsageError
from ixc.inference.grammar import (
    GrammarMask,
    SchemaError,
    TokenVocabulary,
    allowed_tokens,
    check_schema,
    masked,
    new_matcher,
    token_bytes,
)
from ixc.processing.plain_text import plain_ids
from ixc.processing.tokenization import IxcTokenizer, character_tokenizer

pytest.importorskip("llguidance", reason="the extra serve is not installed")
pytest.importorskip("jsonschema", reason="the oracle comes with the extra dev")

from random_schemas import random_schema, validate

STOP = 2


@pytest.fixture(scope="module")
def published(published_tokenizer: IxcTokenizer) -> TokenVocabulary:
    return TokenVocabulary(
        token_bytes(published_tokenizer, 92_544), [STOP, 92_542], partial(plain_ids, published_tokenizer)
    )


@pytest.fixture(scope="module")
def characters() -> TokenVocabulary:
    return TokenVocabulary(
        token_bytes(character_tokenizer(), 128), [STOP, 104], partial(plain_ids, character_tokenizer())
    )


def of(name: str, schema: Any) -> dict[str, Any]:
    return {"type": "object", "properties": {name: schema}}


@pytest.mark.parametrize(
    ("schema", "path", "reason"),
    [
        (of("a", {"type": "array", "items": {"type": "string"}, "uniqueItems": True}), "properties.a", "uniqueItems"),
        (of("a", of("b", {"not": {"type": "string"}})), "properties.a.properties.b", "not"),
        (of("a", {"type": "string", "pattern": "(?=x)y"}), "properties.a", "look-around"),
        (of("a", {"anyOf": [{"type": "string"}, {"type": "zebra"}]}), "properties.a.anyOf.1", "zebra"),
        (of("a", {"$ref": "https://example.com/schema"}), "properties.a", "example.com"),
        (of("a", {"$ref": "#/$defs/none"}), "properties.a", "none"),
        (
            {"$defs": {"d": {"type": "string", "format": "zebra"}}, **of("a", {"$ref": "#/$defs/d"})},
            "properties.a",
            "zebra",
        ),
        ({"type": "object", "dependentRequired": {"a": ["b"]}}, "", "dependentRequired"),
        ({"type": "object", "properties": 5}, "", "properties"),
        ({**of("a", False), "required": ["a"]}, "", "unsatisfiable"),
        (of("a", {"const": "x" * 100_000}), "properties.a", "100,0"),
    ],
)
def test_check_schema_names_the_part_that_cannot_be_expressed(schema: Any, path: str, reason: str) -> None:
    with pytest.raises(SchemaError) as caught:
        check_schema(schema)
    assert caught.value.path == path
    assert reason in caught.value.reason
    assert "\n" not in str(caught.value)


def test_check_schema_finds_definitions_from_inside() -> None:
    check_schema({"$defs": {"d": {"type": "string"}}, **of("a", of("b", {"$ref": "#/$defs/d"}))})


def test_token_bytes_of_the_published_tokenizer(published_tokenizer: IxcTokenizer) -> None:
    found = token_bytes(published_tokenizer, 92_600)
    text = 'größe "a\\b" 文字 🙂\n1,234.50'
    ids = published_tokenizer(text, add_special_tokens=False).input_ids
    assert b"".join(found[i] or b"?" for i in ids) == text.encode()
    assert [found[i] for i in (0, 1, 2, 92_542, 92_543, 92_599)] == [None] * 6


def test_token_bytes_of_the_embedded_tokenizer() -> None:
    found = token_bytes(character_tokenizer(), 128)
    assert found[100:105] == [None] * 5  # role words, image, tags
    assert found[3:5] == [b"\n", b" "]
    assert found[106] == b"What is the "


def walk(vocabulary: TokenVocabulary, schema: Any, random: Random) -> bytes | None:
    """Return what a model writes that knows nothing and ends where it may; None after 150 tokens without an end."""
    mask = GrammarMask(new_matcher(check_schema(schema), vocabulary))
    closing = np.array([token in (b'"', b"}", b"]") for token in vocabulary.tokens])
    ids: list[int] = [1]
    for step in range(150):
        allowed = torch.isfinite(mask(torch.tensor([ids]), torch.zeros(1, vocabulary.size))[0]).numpy()
        if allowed[list(vocabulary.stop_ids)].any():
            return b"".join(vocabulary.tokens[i] or b"?" for i in ids[1:])
        ends = np.flatnonzero(allowed & closing)
        choices = ends if len(ends) and (step > 30 or random.random() < 0.5) else np.flatnonzero(allowed)
        ids.append(int(choices[random.randrange(len(choices))]))
    return None


@pytest.mark.parametrize(("kind", "schemas"), [("published", 4), ("characters", 40)])
def test_grammar_mask_every_text_meets_its_schema(kind: str, schemas: int, request: pytest.FixtureRequest) -> None:
    vocabulary: TokenVocabulary = request.getfixturevalue(kind)
    checked = 0
    for seed in range(schemas):
        schema = random_schema(Random(seed))
        if kind == "characters" and "größe" in str(schema):
            continue  # no token of this tokenizer writes it; its model never writes names, see json_answers
        text = walk(vocabulary, schema, Random(seed))
        if text is not None:
            validate(json.loads(text.decode()), schema)
            checked += 1
    assert checked >= schemas / 4


def test_grammar_mask_allows_both_stop_tokens_at_the_end_only(characters: TokenVocabulary) -> None:
    matcher = new_matcher(check_schema({"const": 7}), characters)
    assert not allowed_tokens(matcher, 128)[[2, 104]].any()
    matcher.consume_token(27)  # 7
    assert np.flatnonzero(allowed_tokens(matcher, 128)).tolist() == [2, 104]


def test_masked_says_so_where_nothing_is_allowed() -> None:
    with pytest.raises(UsageError, match="too complex"):
        masked(torch.zeros(1, 4), np.zeros(4, dtype=bool))


@pytest.mark.parametrize(
    ("kind", "text", "good"),
    [
        ("date", "2024-02-29", True), ("date", "2023-02-29", False), ("date", "2024-04-31", False),
        ("time", "16:56:59Z", True), ("time", "16:56:60Z", False), ("time", "24:00:00Z", False),
        ("date-time", "2024-12-31T23:59:59.5+01:00", True), ("date-time", "2024-02-30T00:00:00Z", False),
    ],
)  # fmt: skip
def test_check_schema_formats_are_those_that_python_reads(
    characters: TokenVocabulary, kind: str, text: str, good: bool
) -> None:
    matcher = new_matcher(check_schema({"type": "string", "format": kind}), characters)
    ids = character_tokenizer()(json.dumps(text), add_special_tokens=False).input_ids
    assert (matcher.try_consume_tokens(ids) == len(ids)) == good
