"""`response_format`: which JSON an answer must be, as the request says it.

response_format --read_response_format--> OutputSchema --json_plan.plan_json--> JsonPlan of the job
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ixc.serving.errors import ApiError, quote

FORMATS = ("text", "json_object", "json_schema")
"""Types of `response_format`."""


@dataclass(frozen=True, kw_only=True)
class OutputSchema:
    """The JSON that an answer must be."""

    schema: Mapping[str, Any]
    """Its JSON schema."""
    checked: Mapping[str, Any]
    """Path in the request -> schema that stands there: what is checked, and named where it cannot be expressed."""
    any_object: bool = False
    """Whether the request asks for JSON and names no schema."""
    is_call: bool = False
    """Whether it is a tool call: an object with `name` and `arguments`."""


def read_response_format(value: Any, where: str = "response_format") -> OutputSchema | None:
    """Read `response_format`; None where the answer is text.

    Args:
        value: the field; None = not given.
        where: its path, for errors. A path other than the default is of the Responses API, where `schema` stands
            directly in the format.

    Raises:
        ApiError: another type, or no schema.
    """
    if value is None:
        return None
    kind = value.get("type") if isinstance(value, Mapping) else None
    if kind not in FORMATS:
        raise ApiError(f"{where}.type is {as_json(kind)}; {enumerated(FORMATS)} are supported", param=f"{where}.type")
    if kind == "text":
        return None
    if kind == "json_object":
        return OutputSchema(schema={"type": "object"}, checked={}, any_object=True)
    inner = where if where != "response_format" else f"{where}.json_schema"
    holder = value if where != "response_format" else value.get("json_schema")
    schema = holder.get("schema") if isinstance(holder, Mapping) else None
    if not isinstance(schema, Mapping):
        found = "missing" if schema is None else f"a {type(schema).__name__}"
        raise ApiError(f"{inner}.schema is {found}; a JSON schema is needed, an object", param=f"{inner}.schema")
    return OutputSchema(schema=schema, checked={f"{inner}.schema": schema})


def check_options(output: OutputSchema, options: Mapping[str, Any]) -> None:
    """Refuse options that do not go together with JSON.

    Args:
        output: what is asked for.
        options: name -> value; those that are set are refused.

    Raises:
        ApiError: naming the first one.
    """
    what = "a forced tool call" if output.is_call else "JSON"
    for name, value in options.items():
        if value:
            raise ApiError(
                f"{name} is {as_json(value)}, which does not go together with {what}; leave {name} out", param=name
            )


def as_json(value: Any) -> str:
    """Return a client's value for an error, at most 60 characters."""
    return quote(json.dumps(value, default=str)).replace("\\\\", "\\")


def enumerated(names: tuple[str, ...]) -> str:
    """Return names in words: "a", "b" and "c"."""
    quoted = [f'"{name}"' for name in names]
    return f"{', '.join(quoted[:-1])} and {quoted[-1]}" if len(quoted) > 1 else quoted[0]
