"""JSON from a model that was taught short answers and no JSON: the grammar writes the structure, the model the values.

    {"total": "          written by the grammar, never shown to the model
              641.57     the model's answer to its prompt, under the grammar's mask
                    "}   written by the grammar, as soon as the model ends its answer

So a text field holds the answer that the model gives anyway: at every value it stands behind its own prompt and
nothing else. A model's token inside a string has the bytes that JSON writes for it (a quote is `\\"`); the commas of a
number and a currency sign are read and not written; `true` is what begins with y or t, `false` with n or f. What no
model decides is chosen by fixed rules: every declared field is written, a list has as few values as allowed but one at
least, a text is preferred to a number, a number to `true`, anything to `null`.
"""

from __future__ import annotations

import codecs
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from transformers import LogitsProcessor

from ixc.inference.grammar import Schema, SchemaError, TokenVocabulary, allowed_tokens, check_schema, masked
from ixc.inference.json_position import JsonPosition

MAX_NUMBER = 32
"""Most tokens of a number."""

MAX_VALUES = 256
"""Most values that the model is asked for in one text; the others are as short as the grammar allows."""

MAX_BYTES = 200_000
"""Longest text, in bytes."""

DEEPEST = 4
"""Brackets within which a list or an object is preferred to leaving it out."""

_NUMBER = frozenset(b"-+.0123456789eE")
_DIGITS = frozenset(b"-0123456789")
_QUOTE, _TRUE, _FALSE, _NULL = b'"tfn'
_ENDS = frozenset(b",}] ")
_BEFORE_NUMBER, _IN_NUMBER = b"$ ", b","

Kind = str
"""What the model is asked for: "text", "number" or "boolean"."""


class AskModel(Protocol):
    """Generates one value, whose place is the names of the objects around it, and puts every token into `value`."""

    def __call__(self, keys: tuple[str, ...], value: ValueMask, *, max_new_tokens: int) -> None: ...


class TakePiece(Protocol):
    """Takes each further piece of a text: what it adds to the text ("" for a part of a character), its bytes, and the
    model's token that they stand for; None = the grammar has written them."""

    def __call__(self, text: str, data: bytes, token: int | None) -> None: ...


class ValueVocabulary(TokenVocabulary):
    """The model's tokens with the bytes JSON writes for them inside a string, and behind them the 256 bytes.

    Args:
        tokens: bytes of each id, see `grammar.token_bytes`.
        stop_ids: ids that end an answer.
    """

    def __init__(self, tokens: list[bytes | None], stop_ids: Iterable[int]) -> None:
        self.stops = tuple(stop_ids)
        self.model_size = len(tokens)
        self.bytes = [None if token is None or i in self.stops else _escaped(token) for i, token in enumerate(tokens)]
        self.numeric = np.array([bool(token) and set(token) <= _NUMBER for token in tokens])
        self.before_number, self.in_number = _single(tokens, _BEFORE_NUMBER), _single(tokens, _IN_NUMBER)
        self.yes, self.no = _single(tokens, b"yYtT"), _single(tokens, b"nNfF")
        self._ids: dict[bytes, list[int]] = {}
        for i, token in enumerate([*self.bytes, *(bytes([byte]) for byte in range(256))]):
            if token:
                self._ids.setdefault(token, []).append(i)
        every = [*self.bytes, *(bytes([byte]) for byte in range(256))]
        super().__init__(every, self.stops, lambda text: [self.model_size + byte for byte in text.encode()])

    def beginnings(self, text: bytes) -> np.ndarray:
        """Return which ids, (size,) bool, are a beginning of these bytes."""
        found = np.zeros(self.size, dtype=bool)
        for length in range(1, len(text) + 1):
            found[self._ids.get(text[:length], [])] = True
        return found


@dataclass(frozen=True, kw_only=True)
class Limits:
    """How long a JSON text may become."""

    total: int | None
    """Most tokens of all values together; None = no limit."""
    value: int
    """Most tokens of one value."""


class JsonWriter:
    """Writes one JSON text.

    Args:
        matcher: llguidance's, of the grammar and a `ValueVocabulary`.
        vocabulary: that vocabulary.
        ask: asks the model for a value.
        emit: takes each further piece of the text.
        limits: in tokens.
    """

    def __init__(
        self, matcher: Any, vocabulary: ValueVocabulary, *, ask: AskModel, emit: TakePiece, limits: Limits
    ) -> None:
        self.matcher, self.vocabulary = matcher, vocabulary
        self.position = JsonPosition()
        self.new_tokens = 0
        """Tokens that the model has generated."""
        self.cut = False
        """Whether a limit has ended a value, or the text."""
        self._ask, self._emit, self._limits = ask, emit, limits
        self._values = self._bytes = 0
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def write(self, ended: Callable[[], bool]) -> None:
        """Write the text to its end, or until `ended` says so."""
        while not ended():
            self.force(_structure(self.matcher.compute_ff_bytes(), self.position))
            if self.matcher.is_stopped():
                return
            if self._bytes > MAX_BYTES:
                self.cut = True
                return
            self._go_on()

    def allowed(self) -> np.ndarray:
        """Return what may come next, (model's ids + 256 bytes,) bool."""
        forced = self.matcher.compute_ff_bytes()
        # llguidance 1.9.1 allows one token only where the next bytes are known, though others begin with them too.
        return self.vocabulary.beginnings(forced) if forced else allowed_tokens(self.matcher, self.vocabulary.size)

    def force(self, data: bytes, token: int | None = None) -> None:
        """Write bytes without the model, or for a token of it that stands for them."""
        if data:
            first = self.vocabulary.model_size
            self.matcher.consume_tokens([first + byte for byte in data])
            self._written(data, token)

    def add(self, token: int) -> None:
        """Write a token of the model."""
        self.matcher.consume_token(token)
        self._written(self.vocabulary.bytes[token] or b"", token)

    def _written(self, data: bytes, token: int | None) -> None:
        self._bytes += len(data)
        self.position.feed(data)
        self._emit(self._decoder.decode(data), data, token)

    def _go_on(self) -> None:
        """Write one more byte, or have the model write a value."""
        choices = set(np.flatnonzero(self.allowed()[self.vocabulary.model_size :]).tolist())
        if self.matcher.is_error() or not (choices or self.matcher.is_accepting()):
            raise SchemaError("", "it has become too complex for its grammar; use fewer patterns and choices")
        place = self.position.place
        if place == "value" and _QUOTE not in choices and choices & _DIGITS:
            self._value("number", choices)
        elif place == "value" and _QUOTE not in choices and {_TRUE, _FALSE} <= choices:
            self._value("boolean", choices)
        elif place == "text":
            self._value("text", choices)
        elif choices:
            self.force(bytes([_chosen(choices, self.position)]))
        else:
            self.matcher.consume_token(self.vocabulary.stops[0])

    def _value(self, kind: Kind, choices: set[int]) -> None:
        """Have the model write a value; then end it, whether or not the model has."""
        value = ValueMask(self, kind)
        left = self._left(kind)
        if left > 0:
            self._values += 1
            self._ask(tuple(self.position.keys), value, max_new_tokens=left)
        if kind == "boolean":
            self.force(b"true" if value.answer is not False else b"false", value.token)
            return
        if not value.ended:
            self.cut = self.cut or kind == "text"
        self._end_value(kind)

    def _left(self, kind: Kind) -> int:
        if self._values >= MAX_VALUES:
            self.cut = True
            return 0
        most = {"number": min(MAX_NUMBER, self._limits.value), "boolean": 1}.get(kind, self._limits.value)
        return most if self._limits.total is None else min(most, self._limits.total - self.new_tokens)

    def _end_value(self, kind: Kind) -> None:
        """Write the shortest end of a text or a number."""
        written = 0
        while self.position.place in ("text", "value", "scalar") and self._bytes <= MAX_BYTES:
            choices = set(np.flatnonzero(self.allowed()[self.vocabulary.model_size :]).tolist())
            if kind == "text" and _QUOTE in choices:
                self.force(b'"')
                return
            if kind == "number" and (choices & _ENDS or not choices) and self.position.place == "scalar":
                return
            if not choices:
                raise SchemaError("", "a value in it has no end")
            self.force(bytes([_spread(choices, written)]))
            written += 1


class ValueMask(LogitsProcessor):
    """Lets the model generate one value of a JSON text: masks its scores, and takes its tokens.

    Args:
        writer: of the text.
        kind: what is asked for.
    """

    def __init__(self, writer: JsonWriter, kind: Kind) -> None:
        self.writer, self.kind = writer, kind
        self.ended = False
        """Whether the model has ended its answer."""
        self.answer: bool | None = None
        """What it answers where "boolean" is asked for."""
        self.token: int | None = None
        """The token of that answer."""

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        size, vocabulary = scores.shape[-1], self.writer.vocabulary
        allowed = np.zeros(max(size, vocabulary.model_size), dtype=bool)
        allowed[: vocabulary.model_size] = self._allowed()
        stops = list(vocabulary.stops)
        if self.kind == "number" and allowed[stops].any() and not allowed[int(scores[0].argmax())]:
            allowed[:] = False  # the model goes on with a unit, or with decimals where a whole number is needed
            allowed[stops] = True
        return masked(scores, allowed[:size])

    def add(self, token: int) -> None:
        """Take a token that the model has generated."""
        vocabulary = self.writer.vocabulary
        if token in vocabulary.stops:
            self.ended = True
            return
        self.writer.new_tokens += 1
        if self.kind == "boolean":
            self.answer, self.token, self.ended = bool(vocabulary.yes[token]), token, True
        elif self.kind != "number" or vocabulary.numeric[token]:
            self.writer.add(token)

    def _allowed(self) -> np.ndarray:
        vocabulary = self.writer.vocabulary
        if self.kind == "boolean":
            return vocabulary.yes | vocabulary.no
        found = self.writer.allowed()
        tokens, following = found[: vocabulary.model_size].copy(), found[vocabulary.model_size :]
        if self.kind == "number":
            inside = self.writer.position.place == "scalar"
            tokens = tokens & vocabulary.numeric | (vocabulary.in_number if inside else vocabulary.before_number)
            ends = inside and bool(following[list(_ENDS)].any() or not following.any())
        else:
            ends = bool(following[_QUOTE])
        tokens[list(vocabulary.stops)] = ends
        return tokens


def compile_for_values(schema: Schema) -> str:
    """Return the grammar of a schema in which every declared field is written and no other, where that is possible.

    A text that meets it meets the schema. Schemas that refer to themselves stay as they are: such a text has no end.

    Raises:
        SchemaError: as `check_schema`.
    """
    plain = check_schema(schema)
    if _recursive(schema):
        return plain
    try:
        return check_schema(_declared_only(schema))
    except SchemaError:
        return plain


def field_titles(schema: Schema, *, leaves_only: bool = False) -> dict[str, str]:
    """Return each field's name in words, for a question about it: its title, or its name with spaces.

    Args:
        leaves_only: without fields that hold objects.
    """
    found: dict[str, str] = {}
    for name, part in _fields(schema):
        title = part.get("title") if isinstance(part, Mapping) else None
        in_words = title if isinstance(title, str) and title.strip() else name.replace("_", " ").strip()
        if not (leaves_only and any(_fields(_followed(part, schema)))):
            found.setdefault(name, in_words)
    return found


def _fields(schema: Any) -> Iterator[tuple[str, Any]]:
    """Yield (name, schema) of every field, at any depth."""
    if isinstance(schema, list):
        for part in schema:
            yield from _fields(part)
    if isinstance(schema, Mapping):
        fields = schema.get("properties")
        yield from fields.items() if isinstance(fields, Mapping) else ()
        for part in schema.values():
            yield from _fields(part)


def _followed(part: Any, root: Schema) -> list[Any]:
    """Return a schema, and those that it refers to directly."""
    return [part, *(_target(reference, root) for reference in _references(part))]


def _references(schema: Any) -> Iterator[str]:
    if isinstance(schema, list):
        for part in schema:
            yield from _references(part)
    if isinstance(schema, Mapping):
        if isinstance(schema.get("$ref"), str):
            yield schema["$ref"]
        for part in schema.values():
            yield from _references(part)


def _target(reference: str, root: Any) -> Any:
    """Return the schema that a reference from the root leads to; None where there is none."""
    found = root
    for key in reference.removeprefix("#").split("/")[1:]:
        key = key.replace("~1", "/").replace("~0", "~")
        if isinstance(found, list) and key.isdigit() and int(key) < len(found):
            found = found[int(key)]
        else:
            found = found.get(key) if isinstance(found, Mapping) else None
    return found


def _declared_only(schema: Any, *, closed: bool = True) -> Any:
    """Return a schema whose objects need all of their declared fields and, outside of `allOf`, have no others."""
    if isinstance(schema, list):
        return [_declared_only(part, closed=closed) for part in schema]
    if not isinstance(schema, Mapping):
        return schema
    found = {
        key: {name: _declared_only(part, closed=closed) for name, part in value.items()}
        if key in ("properties", "$defs", "definitions") and isinstance(value, Mapping)
        else _declared_only(value, closed=closed and key != "allOf")
        if key in ("anyOf", "oneOf", "allOf", "items", "prefixItems")
        else value
        for key, value in schema.items()
    }
    fields = found.get("properties")
    if isinstance(fields, Mapping) and fields:
        needed = [name for name, part in fields.items() if part is not False]
        found["required"] = list(dict.fromkeys([*needed, *found.get("required", ())]))
        if closed and "allOf" not in found and not found.keys() & {"patternProperties", "minProperties"}:
            found.setdefault("additionalProperties", False)
    return found


def _recursive(schema: Schema) -> bool:
    """Return whether a part refers, by way of others, to itself."""
    finished: set[str] = set()

    def visit(part: Any, trail: frozenset[str]) -> bool:
        for reference in set(_references(part)) - finished:
            if reference in trail or visit(_target(reference, schema), trail | {reference}):
                return True
            finished.add(reference)
        return False

    return visit(schema, frozenset())


def _escaped(token: bytes) -> bytes:
    """Return the bytes of a token inside a JSON string; bytes that are no whole character as they are."""
    try:
        return json.dumps(token.decode(), ensure_ascii=False)[1:-1].encode()
    except UnicodeDecodeError:
        return token


def _single(tokens: list[bytes | None], letters: bytes) -> np.ndarray:
    """Return which tokens, (V,) bool, are one of these letters."""
    return np.array([bool(token) and len(token) == 1 and token in letters for token in tokens])


def _structure(forced: bytes, position: JsonPosition) -> bytes:
    """Return bytes that are forced, without the beginning of a text whose end is not: the model writes that from its
    first letter on."""
    ahead, opened = deepcopy(position), None
    for place, byte in enumerate(forced):
        before = ahead.place
        ahead.feed(bytes([byte]))
        if ahead.place == "text" != before:
            opened = place + 1
    return forced[:opened] if ahead.place == "text" else forced


def _chosen(choices: set[int], position: JsonPosition) -> int:
    """Return the byte to write where the model has no say."""
    deep = len(position.open) > DEEPEST
    order = {
        "value": b'"]ntf{[' if deep else b'"{[tfn]',
        "name": b'}"' if deep else b'"}',
        "after": b"}],:",
        "scalar": b"}],",
        "key": b'"',
    }.get(position.place, b"")
    for byte in order:
        if byte in choices:
            return byte
    return _spread(choices, position.members[-1] if position.members else 0)


def _spread(choices: set[int], turn: int) -> int:
    """Return one of the printable bytes, another one each turn, so that no pattern is repeated for ever."""
    plain = sorted(byte for byte in choices if 32 < byte < 127 and byte not in b'"\\') or sorted(choices)
    return plain[turn % len(plain)]
