"""Read conversations, one JSON object per line, in the original's form or that of chat APIs. Spec (j).

    {"image": ["a.png"], "conversations": [{"from": "user", "value": "<ImageHere>What is the total?"},
                                           {"from": "assistant", "value": "12.50"}]}
    {"images": ["a.png"], "messages": [{"role": "user", "content": [{"type": "image"}, "What is the total?"]},
                                       {"role": "assistant", "content": "12.50"}]}

A file may also be one JSON list of such objects, as the original's were. A record that violates a rule raises a
`RecordError` of one line with file, line and remedy; the rules about images, tokens and context are in `encoding.py`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from ixc.core.chat_format import IMAGE_PLACEHOLDER, Image, Message, Role, parse_messages
from ixc.errors import DataError, MissingFileError, UsageError

FROM: dict[str, Role] = {
    **dict.fromkeys(("human", "user"), "user"),
    **dict.fromkeys(("assistant", "gpt", "bot"), "assistant"),
    "system": "system",
}
"""Speaker in the original's form -> role. The original treats every name but human and user as the assistant; here a
name outside this table is refused, because it is more likely a mistake."""

IMAGE_KEYS = ("image", "images")
"""Keys of a record's images, in both forms."""

OTHER_PLACEHOLDERS = ("<image>", "<img>", "<|image|>")
"""How other projects write `<ImageHere>`; the error message names one that is found instead."""


_GAP = re.compile(r"[\s,]*")
"""Between two items of a JSON list."""


class RecordError(DataError):
    """A record that cannot be used for training.

    Args:
        kind: short name of the violated rule, for counting.
        where: file and line.
        message: both numbers and the remedy.
    """

    def __init__(self, kind: str, where: str, message: str) -> None:
        super().__init__(f"{where}: {message}")
        self.kind, self.where, self.message = kind, where, message

    def __reduce__(self) -> Any:
        return type(self), (self.kind, self.where, self.message)


@dataclass(frozen=True, kw_only=True)
class Record:
    """One conversation that ends with an answer."""

    where: str
    """File and line, for messages: `pages.jsonl line 12`."""
    messages: tuple[Message, ...]
    """Turns; every `Image` has a source: a path, bytes or a PIL image."""

    @property
    def images(self) -> list[Any]:
        """Sources of the images, in order."""
        return [part.source for turn in self.messages for part in turn.content if isinstance(part, Image)]


def parse_record(value: Any, *, where: str, images: Path) -> Record:
    """Parse an object of either form into a record.

    Args:
        value: the parsed JSON of the line.
        where: file and line.
        images: folder that relative image paths start from.

    Raises:
        RecordError: a rule is violated.
    """
    if not isinstance(value, Mapping):
        raise RecordError("not an object", where, f"holds a {_kind(value)}, a JSON object needed; write {{...}}")
    forms = [key for key in ("conversations", "messages") if key in value]
    if len(forms) != 1:
        raise RecordError(
            "no conversation" if not forms else "two conversations",
            where,
            f"has {len(forms)} of the keys conversations and messages, 1 needed; "
            f"the keys are {', '.join(map(str, value)) or 'none'}; {'keep' if forms else 'add'} one of them",
        )
    turns = value[forms[0]]
    if not isinstance(turns, list | tuple) or not turns:
        raise RecordError("no turns", where, f"{forms[0]} is {_short(turns)}; write a list of at least 2 turns")
    sources = _sources(value, where, images)
    read = _original if forms[0] == "conversations" else _messages
    messages = _filled(read(turns, where), sources, where, images, original=read is _original)
    _check_turns(messages, where)
    return Record(where=where, messages=tuple(messages))


# -- pictures ---------------------------------------------------------------------------------------------------------


def _sources(value: Mapping[str, Any], where: str, images: Path) -> list[Any]:
    """Return the images given beside the turns."""
    keys = [key for key in IMAGE_KEYS if value.get(key) is not None]
    if len(keys) > 1:
        raise RecordError("image and images", where, "has both image and images, 1 of them needed; delete one")
    given = value[keys[0]] if keys else []
    if not isinstance(given, list | tuple):
        given = [given] if given != "" else []  # text-only records of the original's tools carry ""
    return [_source(source, where, images) for source in given]


def _source(source: Any, where: str, images: Path) -> Any:
    """Return a full path, the bytes of a data set's row, or a PIL image. Nothing is opened."""
    if isinstance(source, Mapping):  # a row of Hugging Face datasets with pictures left undecoded
        source = source.get("bytes") or source.get("path")
    if isinstance(source, str) and source.startswith(("http://", "https://")):
        raise RecordError(
            "address", where, f"image {_short(source)} is an address; download it and write the file's path"
        )
    if isinstance(source, str) and source.startswith("data:"):
        return source
    if isinstance(source, str | Path) and str(source).strip():
        if "\0" in str(source):
            raise RecordError("image path", where, f"image {source!r} holds a NUL character; write a file's path")
        return str(images / source)
    if isinstance(source, bytes) or hasattr(source, "size"):
        return source
    raise RecordError("image path", where, f"image is {_short(source)}; write the path of a file")


def _filled(messages: list[Message], sources: list[Any], where: str, images: Path, *, original: bool) -> list[Message]:
    """Give placeholders without an image the images given beside the turns, in order."""
    parts = [part for turn in messages for part in turn.content if isinstance(part, Image)]
    places = sum(part.source is None for part in parts)
    if places != len(sources):
        raise RecordError("placeholders", where, _placeholders(messages, places, len(sources), original))
    rest = iter(sources)

    def fill(part: str | Image) -> str | Image:
        if isinstance(part, str):
            return part
        return Image(next(rest) if part.source is None else _source(part.source, where, images))

    return [Message(turn.role, tuple(map(fill, turn.content))) for turn in messages]


AS_PARTS = 'write the content as parts: "content": [{"type": "image"}, "the text"]'
"""How a turn with `role` and `content` holds an image."""


def _placeholders(messages: list[Message], places: int, images: int, original: bool) -> str:
    texts = "".join(part for turn in messages for part in turn.content if isinstance(part, str))
    other = next((mark for mark in OTHER_PLACEHOLDERS if mark in texts), None)
    if original:
        remedy = f"replace {other} by {IMAGE_PLACEHOLDER}" if other else "write one place for each image"
    else:
        remedy = f"{AS_PARTS}, without {other} in the text" if other else f"{AS_PARTS}, once for each image"
    return f"{places} places for images ({IMAGE_PLACEHOLDER}, or a part of type image) and {images} images; {remedy}"


# -- turns ------------------------------------------------------------------------------------------------------------


def _original(turns: Any, where: str) -> list[Message]:
    """Parse turns with `from` and `value`; `<ImageHere>` in a value is an image."""
    return [_original_turn(turn, number, where) for number, turn in enumerate(turns, 1)]


def _original_turn(turn: Any, number: int, where: str) -> Message:
    if not isinstance(turn, Mapping):
        raise RecordError("turn", where, f"turn {number} is a {_kind(turn)}, not an object; write from and value")
    missing = [key for key in ("from", "value") if key not in turn]
    if missing:
        keys = ", ".join(map(str, turn)) or "none"
        raise RecordError(
            "turn", where, f"turn {number} has no {' and no '.join(missing)}; its keys are {keys}; add what is missing"
        )
    role, value = turn["from"], turn["value"]
    if not isinstance(role, str) or role not in FROM:
        raise RecordError("role", where, f"turn {number} is from {_short(role)}; write one of {', '.join(FROM)}")
    if not isinstance(value, str):
        raise RecordError("text", where, f"the value of turn {number} is a {_kind(value)}; write a string")
    first, *rest = value.split(IMAGE_PLACEHOLDER)
    content: list[str | Image] = [first]
    for text in rest:
        content += [Image(), text]
    return Message(FROM[role], tuple(part for part in content if part != ""))


def _messages(turns: Any, where: str) -> list[Message]:
    """Parse turns with `role` and `content`, where texts hold no placeholders."""
    try:
        messages = parse_messages(turns)
    except UsageError as error:
        raise RecordError("role" if "role" in str(error) else "turn", where, str(error)) from error
    for number, turn in enumerate(messages, 1):
        if any(isinstance(part, str) and IMAGE_PLACEHOLDER in part for part in turn.content):
            raise RecordError(
                "placeholder as text",
                where,
                f"turn {number} writes {IMAGE_PLACEHOLDER} inside a text, which would be learned as letters; "
                f"{AS_PARTS}, without it in the text",
            )
    return messages


def _check_turns(messages: list[Message], where: str) -> None:
    """Check that user and assistant alternate, after an optional system turn."""
    for number, turn in enumerate(messages, 1):
        _check_content(turn, number, where)
    talk = messages[1:] if messages[0].role == "system" else messages
    offset = len(messages) - len(talk)
    for number, turn in enumerate(talk):
        wanted = ("user", "assistant")[number % 2]
        if turn.role != wanted:
            raise RecordError(
                "order",
                where,
                f"turn {number + offset + 1} of {len(messages)} is the {turn.role}'s where the {wanted}'s is due; "
                "let user and assistant take turns, the user first, a system turn at most once, before them",
            )
    if len(talk) < 2 or len(talk) % 2:
        raise RecordError(
            "no answer", where, f"the last of {len(messages)} turns is the {messages[-1].role}'s; end with an answer"
        )


def _check_content(turn: Message, number: int, where: str) -> None:
    texts = [part for part in turn.content if isinstance(part, str)]
    for text in texts:
        _check_text(text, number, where)
    pictures = len(turn.content) - len(texts)
    if turn.role != "user" and pictures:
        raise RecordError(
            "image in an answer",
            where,
            f"turn {number}, the {turn.role}'s, holds {pictures} images; put them into the user's turns",
        )
    if not pictures and not "".join(texts).strip():
        name = {"assistant": "answer", "user": "question", "system": "system text"}[turn.role]
        raise RecordError(f"empty {name}", where, f"the {name} of turn {number} is empty; write it or delete the turn")


def _check_text(text: str, number: int, where: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise RecordError(
            "no text", where, f"character {error.start + 1} of turn {number} is half a character (a lone surrogate); "
            "write the text in UTF-8"
        ) from None  # fmt: skip


def _kind(value: Any) -> str:
    return "null" if value is None else type(value).__name__


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


# -- files ------------------------------------------------------------------------------------------------------------


class JsonLines:
    """A file of records with random access: opening it indexes the lines, `self[i]` reads record i.

    Args:
        path: JSON Lines, or one JSON list.
        images: folder that relative image paths start from; None: the file's own.

    Raises:
        DataError: no such file, or no record in it.
    """

    def __init__(self, path: Path, *, images: Path | None = None) -> None:
        if not path.is_file():
            raise MissingFileError(f"no file {path}; check the path")
        self.path, self.images = path, path.parent if images is None else images
        if not self.images.is_dir():
            raise MissingFileError(f"no folder {self.images} of images; check the path")
        self._spans = list(self._find())
        if not self._spans:
            raise DataError(f"{path} has 0 records, at least 1 needed; is the file whole?")

    def __len__(self) -> int:
        return len(self._spans)

    def where(self, index: int) -> str:
        """Return file and line of a record."""
        return f"{self.path} line {self._spans[index][0]}"

    def __getitem__(self, index: int) -> Record:
        """Return record `index`, 0 .. len - 1.

        Raises:
            RecordError: it violates a rule.
        """
        _, start, end = self._spans[index]
        with self.path.open("rb") as file:
            file.seek(start)
            line = file.read(end - start)
        where = self.where(index)
        return parse_record(_decoded(line, where), where=where, images=self.images)

    @cached_property
    def _is_list(self) -> bool:
        with self.path.open("rb") as file:
            return file.read(64).lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"[")

    def _find(self) -> Iterator[tuple[int, int, int]]:
        """Yield (line from 1, first byte, end byte) of every record."""
        if self._is_list:
            yield from _list_spans(self.path)
            return
        start = 0
        with self.path.open("rb") as file:
            for number, line in enumerate(file, 1):
                if line.strip():
                    yield number, start, start + len(line)
                start += len(line)


def _list_spans(path: Path) -> Iterator[tuple[int, int, int]]:
    """Yield the items of a JSON list, each of which may span many lines; as `JsonLines._find`."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise RecordError(
            "not UTF-8", str(path), f"byte {error.start + 1} is no UTF-8; save the file as UTF-8"
        ) from None
    decoder, at, line = json.JSONDecoder(), text.index("[") + 1, 1
    byte = path.stat().st_size - len(text.encode())  # 3 where the file begins with a byte order mark
    last = 0
    while True:
        gap = _GAP.match(text, at)
        at = gap.end() if gap else at
        if text[at : at + 1] == "]":
            return
        line, byte = line + text.count("\n", last, at), byte + len(text[last:at].encode())
        try:
            last = decoder.raw_decode(text, at)[1]
        except json.JSONDecodeError as error:
            raise RecordError("JSON", f"{path} line {error.lineno}", _json_message(error)) from None
        size = len(text[at:last].encode())
        yield line, byte, byte + size
        line, byte, at = line + text.count("\n", at, last), byte + size, last


def _decoded(line: bytes, where: str) -> Any:
    try:
        return json.loads(line.decode("utf-8-sig"), object_pairs_hook=lambda pairs: _unique(pairs, where))
    except UnicodeDecodeError as error:
        raise RecordError(
            "not UTF-8", where, f"byte {error.start + 1} of {len(line)} is no UTF-8; save the file as UTF-8"
        ) from None
    except json.JSONDecodeError as error:
        raise RecordError("JSON", where, _json_message(error)) from None
    except RecursionError:
        raise RecordError("JSON", where, "brackets are nested too deep; write one flat object a line") from None


def _json_message(error: json.JSONDecodeError) -> str:
    return f"broken JSON at column {error.colno} ({error.msg}); write one whole object on one line"


def _unique(pairs: list[tuple[str, Any]], where: str) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise RecordError("key twice", where, f"the key {twice!r} is written twice in one object; keep one of them")
    return value
