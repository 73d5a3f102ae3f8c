"""Where in a JSON text its end stands: in a key, a text, a number, or where a value or a bracket may come."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Literal

Place = Literal["value", "text", "key", "scalar", "name", "after"]
"""value: a value begins; text: in a string that is a value; key: in a name; scalar: in a number or a literal;
name: a name may begin; after: behind a name or a value."""


@dataclass
class JsonPosition:
    """Follows JSON byte by byte; what it is given is JSON, or the beginning of it."""

    place: Place = "value"
    """Where the text ends."""
    keys: list[str] = field(default_factory=list)
    """Names on the way to here, one for each open object, "" before its first."""
    open: list[str] = field(default_factory=list)
    """Open brackets."""
    members: list[int] = field(default_factory=list)
    """Commas in each open bracket."""
    _string: bytearray = field(default_factory=bytearray)
    _escaped: bool = False

    @property
    def key(self) -> str:
        """Name of the innermost member; "" outside of objects."""
        return next((key for key in reversed(self.keys) if key), "")

    def feed(self, data: bytes) -> None:
        """Go on behind further bytes."""
        for byte in data:
            self._feed(byte)

    def _feed(self, byte: int) -> None:
        letter = chr(byte)
        if self.place in ("text", "key"):
            self._in_string(byte, letter)
        elif letter == '"':
            self.place = "key" if self.place == "name" else "text"
            self._string.clear()
        elif letter in "{[":
            self._enter(letter)
        elif letter in "}]":
            self._leave()
        elif letter == ":":
            self.place = "value"
        elif letter == ",":
            self.members[-1] += 1
            self.place = "name" if self.open[-1] == "{" else "value"
        elif letter not in " \t\r\n":
            self.place = "scalar"

    def _in_string(self, byte: int, letter: str) -> None:
        if letter == '"' and not self._escaped:
            if self.place == "key":
                self.keys[-1] = json.loads(b'"' + bytes(self._string) + b'"')
            self.place = "after"
            return
        self._escaped = letter == "\\" and not self._escaped
        self._string.append(byte)

    def _enter(self, bracket: str) -> None:
        self.open.append(bracket)
        self.members.append(0)
        if bracket == "{":
            self.keys.append("")
        self.place = "name" if bracket == "{" else "value"

    def _leave(self) -> None:
        self.members.pop()
        if self.open.pop() == "{":
            self.keys.pop()
        self.place = "after"
