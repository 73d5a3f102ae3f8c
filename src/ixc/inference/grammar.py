"""Grammars of JSON schemas: which token may come next, by llguidance (extra `serve`).

    schema --check_schema--> grammar;  tokenizer --TokenVocabulary--> bytes of every token
    grammar, vocabulary --> matcher --GrammarMask--> scores of tokens that cannot go on become minus infinity

llguidance and not xgrammar, because it refuses what it cannot express: xgrammar 0.2.9 reads `not`, `if`, `uniqueItems`,
`multipleOf` and `dependentRequired` and ignores them. vLLM 0.32 has both.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib import import_module
from typing import Any

import numpy as np
import torch
from tokenizers import models
from transformers import LogitsProcessor

from ixc.errors import MissingPackageError, UsageError
from ixc.processing.plain_text import MARKER
from ixc.processing.tokenization import SPACE

Schema = Mapping[str, Any] | bool
"""A JSON schema, parsed."""

MAX_SCHEMA = 100_000
"""Most characters of a schema as JSON; OpenAI's names and values of a schema may have 120,000 together."""

WRITTEN = {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}
"""JSON as `json.dumps` writes it: a model that may write blanks between two values may also never stop to."""

_DAY = (
    r"([1-9][0-9]{3}-((0[1-9]|1[0-2])-(0[1-9]|1[0-9]|2[0-8])|(0[13-9]|1[0-2])-(29|30)|(0[13578]|1[02])-31)"
    r"|([1-9][0-9](0[48]|[2468][048]|[13579][26])|([2468][048]|[13579][26])00)-02-29)"
)
_TIME = r"([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](\.[0-9]{1,6})?(Z|[+-](0[0-9]|1[0-4]):[0-5][0-9])"
STRICT_FORMATS = {"date": f"^{_DAY}$", "time": f"^{_TIME}$", "date-time": f"^{_DAY}T{_TIME}$"}
"""Patterns for formats of which llguidance 1.9.1 also writes what Python reads as none: second 60, 29 February 2023."""

_NAMED = ("properties", "patternProperties", "$defs", "definitions")
_LISTED = ("anyOf", "oneOf", "allOf", "prefixItems")
_SINGLE = ("items", "additionalProperties", "not", "if", "then", "else", "contains", "propertyNames")


class SchemaError(UsageError):
    """A schema that cannot be made a grammar.

    Args:
        path: keys from the root to the part at fault, joined by dots; "" for the root.
        reason: what the engine says.
    """

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(f"{path or 'the schema'}: {reason}")
        self.path, self.reason = path, reason


def check_schema(schema: Schema) -> str:
    """Return the grammar of a schema.

    Raises:
        SchemaError: a part that llguidance cannot express, with its path. UsageError: no llguidance.
    """
    reason = _fault(schema)
    if reason:
        raise SchemaError(_deepest_fault(schema), reason)
    return _grammar(schema)


def new_matcher(grammar: str, vocabulary: TokenVocabulary) -> Any:
    """Return llguidance's matcher at the beginning of a text.

    Raises:
        SchemaError: the grammar is too large, or nothing meets it.
    """
    found = _engine().LLMatcher(vocabulary.engine, grammar, log_level=0)
    if found.is_error():
        raise SchemaError("", _line(found.get_error()))
    return found


def allowed_tokens(matcher: Any, size: int) -> np.ndarray:
    """Return which of the first `size` ids may come next, (size,) bool."""
    bits = np.frombuffer(matcher.compute_bitmask(), dtype=np.uint8)
    return np.unpackbits(bits, count=size, bitorder="little").astype(bool)


class TokenVocabulary:
    """The bytes of every token, as the engine's matchers need them.

    Args:
        tokens: bytes of each id; None = never part of a text (tags, control tokens).
        stop_ids: ids that end a text.
        encode: text -> ids. Where the next bytes are known, the engine allows the tokens of this encoding only.
    """

    def __init__(
        self, tokens: Sequence[bytes | None], stop_ids: Sequence[int], encode: Callable[[str], list[int]]
    ) -> None:
        # A byte 255, which no text has, marks a special token for llguidance.
        written = [b"\xff<%d>" % i if token is None else token for i, token in enumerate(tokens)]
        self.tokens, self.size, self.stop_ids = tuple(tokens), len(written), tuple(stop_ids)
        wrapper = _engine().TokenizerWrapper(_Tokens(written, self.stop_ids[0], encode))
        self.engine = _engine().LLTokenizer(wrapper, eos_token=list(self.stop_ids))


class GrammarMask(LogitsProcessor):
    """Sets the scores of all tokens that the grammar does not allow to minus infinity; one sequence only.

    Args:
        matcher: at the beginning of the text; it follows the tokens.
    """

    def __init__(self, matcher: Any) -> None:
        self.matcher = matcher
        self._length: int | None = None

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        length = input_ids.shape[1]
        if self._length is not None and length > self._length:
            self.matcher.consume_tokens(input_ids[0, self._length :].tolist())
        self._length = length
        return masked(scores, allowed_tokens(self.matcher, scores.shape[-1]))


def masked(scores: torch.Tensor, allowed: np.ndarray) -> torch.Tensor:
    """Return scores (1, V) with those that are not allowed (V,) at minus infinity.

    Raises:
        UsageError: none is allowed: the engine has given up on the grammar.
    """
    if not allowed.any():
        raise UsageError("the schema has become too complex for its grammar; use fewer patterns and choices")
    return scores.masked_fill(torch.from_numpy(~allowed).to(scores.device), -float("inf"))


def token_bytes(tokenizer: Any, size: int) -> list[bytes | None]:
    """Return the bytes of each id of one of this package's tokenizers; None for tags, control tokens and unused ids.

    Args:
        tokenizer: the published one or the embedded model's.
        size: ids of the model's output, at least those of the tokenizer.
    """
    pieces: list[str | None] = tokenizer.convert_ids_to_tokens(list(range(len(tokenizer))))
    special = {*tokenizer.all_special_ids, *tokenizer.convert_tokens_to_ids(["system", "user", "assistant"])}
    sentencepiece = isinstance(tokenizer.backend_tokenizer.model, models.BPE)
    if sentencepiece:
        special = set(tokenizer.all_special_ids)
    found = [None if i in special or piece is None else _bytes(piece, sentencepiece) for i, piece in enumerate(pieces)]
    return found + [None] * (size - len(found))


def _bytes(piece: str, sentencepiece: bool) -> bytes | None:
    if MARKER.fullmatch(piece) or "\0" in piece:
        return None
    if not sentencepiece:
        return piece.encode()
    if len(piece) == 6 and piece.startswith("<0x") and piece.endswith(">"):
        return bytes.fromhex(piece[3:5])
    return piece.replace(SPACE, " ").encode()


class _Tokens:
    """What `TokenizerWrapper` reads."""

    bos_token_id = None

    def __init__(self, tokens: list[bytes], eos: int, encode: Callable[[str], list[int]]) -> None:
        self.tokens, self.eos_token_id, self._encode = tokens, eos, encode

    def __call__(self, text: bytes) -> list[int]:
        return self._encode(text.decode("utf-8", "replace"))


def _engine() -> Any:
    try:
        return import_module("llguidance")
    except ImportError:
        raise MissingPackageError(
            "llguidance is missing, which JSON schemas need; pip install 'ixc-4khd[serve]'"
        ) from None


def _grammar(schema: Schema) -> str:
    return _engine().LLMatcher.grammar_from_json_schema(json.dumps(_with_strict_formats(schema)), overrides=WRITTEN)


def _fault(schema: Schema) -> str:
    """Return what the engine has against a schema, "" for nothing."""
    if len(json.dumps(schema)) > MAX_SCHEMA:
        return f"{len(json.dumps(schema)):,} characters, at most {MAX_SCHEMA:,} are read"
    return _line(_engine().LLMatcher.validate_grammar(_grammar(schema)))


def _line(text: str) -> str:
    """Return an error of the engine as one line: the last of a drawing of a regular expression."""
    lines = [line.strip() for line in text.strip().splitlines() if line.strip()]
    return lines[-1].removeprefix("error: ") if lines else ""


def _deepest_fault(schema: Schema) -> str:
    """Return the path of the innermost part that fails by itself; definitions stay within reach of each part."""
    shared = {key: schema[key] for key in ("$defs", "definitions") if isinstance(schema, Mapping) and key in schema}
    path: list[str] = []
    while True:
        inner = next(((p, s) for p, s in _parts(schema) if _fault(_with(shared, s))), None)
        if inner is None:
            return ".".join(path)
        path, schema = [*path, *inner[0]], inner[1]


def _with_strict_formats(schema: Any) -> Any:
    """Return a schema with patterns in place of the formats of `STRICT_FORMATS`."""
    if isinstance(schema, list):
        return [_with_strict_formats(part) for part in schema]
    if not isinstance(schema, Mapping):
        return schema
    found = {key: part if key in ("const", "enum") else _with_strict_formats(part) for key, part in schema.items()}
    pattern = STRICT_FORMATS.get(found["format"]) if isinstance(found.get("format"), str) else None
    if pattern is not None and "pattern" not in found:
        del found["format"]
        found["pattern"] = pattern
    return found


def _with(shared: Mapping[str, Any], part: Schema) -> Schema:
    return {**shared, **part} if isinstance(part, Mapping) else part


def _parts(schema: Schema) -> Iterator[tuple[tuple[str, ...], Schema]]:
    """Yield (path, schema) of the objects directly inside a schema; a plain `false` is no fault by itself."""
    if not isinstance(schema, Mapping):
        return
    for key in _NAMED:
        if isinstance(schema.get(key), Mapping):
            yield from (((key, str(name)), part) for name, part in schema[key].items() if _is_schema(part))
    for key in _LISTED:
        if isinstance(schema.get(key), list):
            yield from (((key, str(i)), part) for i, part in enumerate(schema[key]) if _is_schema(part))
    for key in _SINGLE:
        if _is_schema(schema.get(key)):
            yield (key,), schema[key]


def _is_schema(value: object) -> bool:
    return isinstance(value, Mapping)
