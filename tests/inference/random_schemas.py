"""Random JSON schemas of everything that structured output meets: bounds, patterns, choices, references, nesting."""

from __future__ import annotations

from datetime import date, datetime, time
from random import Random
from typing import Any

from jsonschema import Draft202012Validator, FormatChecker

WORDS = ("total", "Date", "unit_price", "line items", "größe", 'the "name"', "a\\b", "x", "id", "City")
PATTERNS = (
    *("^[A-Z]{2}[0-9]{3}$", "^(red|green)$", "^[a-z]+$", "^[0-9]{4}-[0-9]{2}$", "^(a|b)*c$", "^\\S+@\\S+$", "[0-9]"),
)
FORMATS = ("date", "time", "date-time", "email", "uuid", "ipv4", "hostname")


def validate(value: Any, schema: dict[str, Any]) -> None:
    """Raise where a value does not meet its schema, formats included."""
    checker = FormatChecker(("email", "uuid", "ipv4"))
    for name, kind in (("date", date), ("time", time), ("date-time", datetime)):
        checker.checks(name, raises=ValueError)(lambda text, kind=kind: bool(kind.fromisoformat(text)) or True)
    Draft202012Validator(schema, format_checker=checker).validate(value)


def random_schema(random: Random) -> dict[str, Any]:
    """Return a schema with an object at its root, which some text meets."""
    found = _object(random, depth=0)
    if random.random() < 0.3:
        found["$defs"] = {"part": _object(random, depth=2), "word": _text(random)}
        found["properties"]["of a part"] = {"$ref": "#/$defs/part"}
        found["properties"]["words"] = {"type": "array", "items": {"$ref": "#/$defs/word"}, "maxItems": 3}
        found["required"] = [*found.get("required", ()), "of a part"]
    return found


def _any(random: Random, depth: int) -> dict[str, Any]:
    simple = [_text, _text, _integer, _number, _constant]
    nested = [] if depth >= 3 else [_object, _array, _choice]
    make = random.choice([*simple, *nested])
    return make(random, depth) if make in nested else make(random)


def _object(random: Random, depth: int) -> dict[str, Any]:
    names = random.sample(WORDS, random.randint(1, 4))
    found: dict[str, Any] = {"type": "object", "properties": {name: _any(random, depth + 1) for name in names}}
    found["required"] = [name for name in names if random.random() < 0.7]
    if random.random() < 0.6:
        found["additionalProperties"] = False
    if random.random() < 0.1:
        found["additionalProperties"] = {"type": "integer"}
    return found


def _array(random: Random, depth: int) -> dict[str, Any]:
    if random.random() < 0.2:
        return {"type": "array", "prefixItems": [_any(random, depth + 1), _any(random, depth + 1)], "items": False,
                "minItems": 2}  # fmt: skip
    found: dict[str, Any] = {"type": "array", "items": _any(random, depth + 1)}
    least = random.choice((None, 0, 1, 2))
    if least is not None:
        found["minItems"] = least
    if random.random() < 0.5:
        found["maxItems"] = (least or 0) + random.randint(1, 2)
    return found


def _choice(random: Random, depth: int) -> dict[str, Any]:
    others = [{"type": "null"}] if random.random() < 0.6 else [_integer(random)]
    return {"anyOf": [_any(random, depth + 1), *others]}


def _text(random: Random) -> dict[str, Any]:
    found: dict[str, Any] = {"type": "string"}
    kind = random.randrange(5)
    if kind == 0:
        found["pattern"] = random.choice(PATTERNS)
    elif kind == 1:
        found["format"] = random.choice(FORMATS)
    elif kind == 2:
        found["minLength"] = random.randint(0, 5)
        found["maxLength"] = found["minLength"] + random.randint(0, 9)
    return found


def _integer(random: Random) -> dict[str, Any]:
    found: dict[str, Any] = {"type": "integer"}
    least = random.randint(-50, 2000)
    if random.random() < 0.5:
        found["minimum"] = least
    if random.random() < 0.5:
        found["maximum"] = least + random.randint(0, 900)
    if not found.keys() & {"minimum", "maximum"} and random.random() < 0.3:
        found["multipleOf"] = random.choice((2, 5, 10))
    return found


def _number(random: Random) -> dict[str, Any]:
    found: dict[str, Any] = {"type": "number"}
    if random.random() < 0.4:
        found["exclusiveMinimum"] = random.choice((0, 0.5, -3))
    if random.random() < 0.4:
        found["maximum"] = random.choice((1, 2.5, 1000))
    return found


def _constant(random: Random) -> dict[str, Any]:
    return random.choice(
        (
            {"enum": ["red", "green", 'a "b"', None]},
            {"enum": [1, 2, 30]},
            {"const": "641.57"},
            {"type": "boolean"},
            {"type": "null"},
            {"type": ["string", "null"]},
        )
    )
