"""Tools: what a request offers and forces, calls in the history, and calls in the answer.

    tools, tool_choice --read_tools--> OutputSchema of a call {"name": ..., "arguments": {...}}, or None for text
    text of the answer --CallReader--> name and pieces of the arguments --> OpenAI's `tool_calls`

The model is not trained to call tools. A call that the request forces ("required", or a named tool) is written under
its grammar; with "auto" the model answers in text.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

from ixc.serving.errors import ApiError
from ixc.serving.structured import OutputSchema, as_json, enumerated

MAX_TOOLS = 128
"""Most tools of a request, as OpenAI has it."""

CHOICES = ("none", "auto", "required")
"""Values of `tool_choice`, besides a named tool."""

_NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}")
CALL_HEAD = re.compile(r'\{"name": "([A-Za-z0-9_.-]*)", "arguments": ')
"""What a call begins with, as the grammar writes it."""


@dataclass(frozen=True, kw_only=True)
class Tool:
    """A function that the request offers."""

    name: str
    """Its name."""
    parameters: Mapping[str, Any]
    """JSON schema of its arguments."""
    where: str
    """Path of that schema in the request."""


def read_tools(tools: Any, choice: Any, *, flat: bool = False) -> OutputSchema | None:
    """Read `tools` and `tool_choice`; None where the answer is text.

    Args:
        tools: in the shape of chat completions, or in the flat one of the Responses API; None = none.
        choice: "none", "auto", "required", a named tool, or `allowed_tools`; None = "auto".
        flat: whether the request is of the Responses API, where a tool's fields stand beside its type; for errors.

    Raises:
        ApiError: naming the part that is wrong.
    """
    offered = _offered(tools)
    if choice is None or (isinstance(choice, str) and choice in ("none", "auto")):
        return None
    if choice == "required":
        return _call_of(offered, "required")
    if isinstance(choice, Mapping) and choice.get("type") == "function":
        name = _named(choice, "tool_choice" if flat and "function" not in choice else "tool_choice.function")
        return _call_of([tool for tool in offered if tool.name == name], name)
    if isinstance(choice, Mapping) and choice.get("type") == "allowed_tools":
        allowed = choice.get("allowed_tools", choice)
        if isinstance(allowed, Mapping) and isinstance(allowed.get("tools"), list):
            if allowed.get("mode", "auto") == "auto":
                return None
            path = "tool_choice.tools" if allowed is choice else "tool_choice.allowed_tools.tools"
            names = {_named(tool, f"{path}.{place}") for place, tool in enumerate(allowed["tools"])}
            return _call_of([tool for tool in offered if tool.name in names], ", ".join(sorted(names)))
    named = '"name": NAME' if flat else '"function": {"name": NAME}'
    raise ApiError(
        f'tool_choice is {as_json(choice)}; {enumerated(CHOICES)} and {{"type": "function", {named}}} are supported',
        param="tool_choice",
    )


def _offered(tools: Any) -> list[Tool]:
    if tools is None:
        return []
    if not isinstance(tools, list) or len(tools) > MAX_TOOLS:
        found = f"{len(tools)} tools" if isinstance(tools, list) else f"a {type(tools).__name__}"
        raise ApiError(f"tools is {found}; a list of at most {MAX_TOOLS} is read", param="tools")
    found = [_tool(tool, f"tools.{place}") for place, tool in enumerate(tools)]
    names = [tool.name for tool in found]
    for place, name in enumerate(names):
        if name in names[:place]:
            raise ApiError(f"tools.{place}: a second tool {name}; give each its own name", param=f"tools.{place}")
    return found


def _tool(tool: Any, where: str) -> Tool:
    kind = tool.get("type") if isinstance(tool, Mapping) else None
    if kind != "function":
        raise ApiError(f'{where}.type is {as_json(kind)}; "function" is supported', param=f"{where}.type")
    nested = isinstance(tool.get("function"), Mapping)
    holder, inner = (tool["function"], f"{where}.function") if nested else (tool, where)
    name = holder.get("name")
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise ApiError(
            f"{inner}.name is {as_json(name)}; 1 to 64 letters, digits, _ and - are needed", param=f"{inner}.name"
        )
    parameters = holder.get("parameters")
    if parameters is None:
        parameters = {"type": "object", "properties": {}, "additionalProperties": False}
    if not isinstance(parameters, Mapping):
        raise ApiError(
            f"{inner}.parameters is {as_json(parameters)}; a JSON schema is needed, an object",
            param=f"{inner}.parameters",
        )
    return Tool(name=name, parameters=parameters or {"type": "object"}, where=f"{inner}.parameters")


def _named(choice: Any, where: str) -> str:
    holder = choice.get("function", choice) if isinstance(choice, Mapping) else None
    name = holder.get("name") if isinstance(holder, Mapping) else None
    if not isinstance(name, str):
        raise ApiError(f"{where}.name is {as_json(name)}; the name of a tool is needed", param=f"{where}.name")
    return name


def _call_of(tools: Sequence[Tool], wanted: str) -> OutputSchema:
    """Return the schema of a call of one of these tools."""
    if not tools:
        raise ApiError(f'tool_choice is "{wanted}", and tools has no such tool; offer it', param="tool_choice")
    calls = [
        {
            "type": "object",
            "properties": {"name": {"const": tool.name}, "arguments": {"$ref": f"#/$defs/{place}"}},
            "required": ["name", "arguments"],
            "additionalProperties": False,
        }
        for place, tool in enumerate(tools)
    ]
    schema = calls[0] if len(calls) == 1 else {"anyOf": calls}
    parts = {str(place): _moved(tool.parameters, f"#/$defs/{place}") for place, tool in enumerate(tools)}
    checked = {tool.where: tool.parameters for tool in tools}
    return OutputSchema(schema={**schema, "$defs": parts}, checked=checked, is_call=True)


def _moved(schema: Any, home: str) -> Any:
    """Return a schema whose references from its root lead to `home`, where it will stand."""
    if isinstance(schema, list):
        return [_moved(part, home) for part in schema]
    if not isinstance(schema, Mapping):
        return schema
    return {
        key: home + part[1:] if key == "$ref" and isinstance(part, str) and part.startswith("#") else _moved(part, home)
        for key, part in schema.items()
        if key != "$schema"
    }


# -- calls in the history ---------------------------------------------------------------------------------------------


def calls_text(calls: Any, where: str) -> str:
    """Return the `tool_calls` of an assistant's message as text, each as the grammar writes it.

    Raises:
        ApiError: a call without a name or arguments.
    """
    if not isinstance(calls, list):
        raise ApiError(f"{where} is {as_json(calls)}; a list of calls is needed", param=where)
    return "\n".join(_call_text(call, f"{where}.{place}") for place, call in enumerate(calls))


def _call_text(call: Any, where: str) -> str:
    function = call.get("function") if isinstance(call, Mapping) else None
    name = function.get("name") if isinstance(function, Mapping) else None
    if not isinstance(function, Mapping) or not isinstance(name, str):
        raise ApiError(f"{where}.function is {as_json(function)}; name and arguments are needed", param=where)
    arguments = function.get("arguments", "{}")
    if not isinstance(arguments, str):
        raise ApiError(
            f"{where}.function.arguments is {as_json(arguments)}; JSON as a text is needed",
            param=f"{where}.function.arguments",
        )
    return f'{{"name": {json.dumps(name)}, "arguments": {arguments or "{}"}}}'


def result_text(content: str, name: str | None) -> str:
    """Return the text of a tool's result, for a model that knows no such turn."""
    return f"Result of {name or 'the tool'}: {content}"


def call_names(messages: Sequence[Any]) -> dict[str, str]:
    """Return the tool's name for each id of a call in a history; what is wrong there is left to the reader."""
    calls = [call for turn in messages for call in (turn or ()) if isinstance(call, Mapping)]
    return {
        call["id"]: call["function"]["name"]
        for call in calls
        if isinstance(call.get("id"), str) and isinstance(call.get("function"), Mapping) and "name" in call["function"]
    }


# -- calls in the answer ----------------------------------------------------------------------------------------------


class CallReader:
    """Takes the text of a call apart while it arrives."""

    def __init__(self) -> None:
        self.id = f"call_{uuid4().hex[:24]}"
        self.name: str | None = None
        """The tool's name, once it is known."""
        self._held = ""

    def read(self, text: str, *, last: bool, complete: bool) -> str:
        """Return the further piece of the arguments.

        Args:
            text: the further piece of the call.
            last: whether it is the last one.
            complete: whether the whole call has been written, so that its closing bracket ends it.
        """
        self._held += text
        if self.name is None:
            head = CALL_HEAD.match(self._held)
            if head is None:
                return ""
            self.name, self._held = head[1], self._held[head.end() :]
        ready = len(self._held) - (0 if last and not complete else 1)  # the last character may be the call's bracket
        found, self._held = self._held[: max(ready, 0)], self._held[max(ready, 0) :]
        return found


def call_message(text: str, *, complete: bool) -> dict[str, Any]:
    """Return the assistant's message with the call that a text is."""
    reader = CallReader()
    arguments = reader.read(text, last=True, complete=complete)
    call = {"id": reader.id, "type": "function", "function": {"name": reader.name or "", "arguments": arguments}}
    return {"role": "assistant", "content": None, "refusal": None, "tool_calls": [call]}


def call_deltas(reader: CallReader, text: str, *, last: bool, complete: bool) -> list[dict[str, Any]]:
    """Return the deltas of a further piece of a call: at its name one with the id, then pieces of the arguments."""
    known = reader.name is not None
    piece = reader.read(text, last=last, complete=complete)
    found: list[dict[str, Any]] = []
    if reader.name is not None and not known:
        function = {"name": reader.name, "arguments": ""}
        found.append({"tool_calls": [{"index": 0, "id": reader.id, "type": "function", "function": function}]})
    if piece:
        found.append({"tool_calls": [{"index": 0, "function": {"arguments": piece}}]})
    return found
