"""Parts of a message in the shapes that clients write them; an error names the path of the part that is wrong.

    "text"                                                            text
    {"type": "text" | "input_text" | "output_text", "text": ...}      text
    {"type": "image_url", "image_url": URL | {"url": URL}}            an image, or a PDF's pages
    {"type": "input_image", "image_url": URL}                         the same
    {"type": "file", "file": {"file_data": data URL or base64}}       an image, or a PDF's pages
    {"type": "input_file", "file_data": ... | "file_url": URL}        the same

`detail` is accepted and changes nothing: hd says how many tiles an image gets. Fields of a part without a meaning here,
such as `id` and `cache_control`, are accepted too.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from ixc.core.chat_format import Image
from ixc.serving.errors import LONGEST_QUOTE, ApiError, quote

TEXT_TYPES = ("text", "input_text", "output_text")
TYPES = ("text", "image_url", "file", "input_text", "input_image", "input_file")
"""Types of parts that an error names."""

DETAILS = ("auto", "low", "high", "original")
"""Values of `detail`."""

FEW = 6
"""Most values of a list or an object that an error shows."""

HARMLESS = {
    *("type", "id", "cache_control", "prompt_cache_breakpoint", "annotations", "logprobs", "index", "filename", "name"),
    *("status", "title", "format", "mime_type", "media_type", "extras", "metadata", "phase"),
}
"""Fields of a part that change nothing."""


@dataclass(frozen=True, kw_only=True)
class FileSource:
    """Where an image or a document of a request comes from; not opened yet."""

    url: str
    """data: or http(s)."""
    where: str
    """Path of its part, for errors: messages.0.content.1."""


def read_content(content: Any, where: str) -> tuple[str | Image, ...]:
    """Read the content of a message.

    Args:
        content: a string, a list of parts or None.
        where: path of the content, for errors.

    Returns:
        Texts, and images whose source is a `FileSource`.

    Raises:
        ApiError: naming the path of the part that is wrong.
    """
    if content is None:
        return ()
    if not isinstance(content, str | list):
        raise wrong(where, content, "a string or a list of parts is needed")
    parts = [content] if isinstance(content, str) else content
    return tuple(_part(part, f"{where}.{place}") for place, part in enumerate(parts))


def check_text(text: str, where: str) -> None:
    """Refuse half of a surrogate pair, which no tokenizer takes. Raises: ApiError."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ApiError(
            f"{where}: character {error.start + 1} is half of a surrogate pair, no text", param=where
        ) from None


def wrong(where: str, value: Any, supported: str, *, code: str | None = None) -> ApiError:
    """Return the error of a value: path, value and what is supported."""
    return ApiError(f"{where} is {shown(value)}; {supported}", code=code, param=where)


def shown(value: Any) -> str:
    """Return a client's value for an error: as JSON, a text cut, and a large list or object by its kind."""
    if isinstance(value, str):
        return f'"{quote(value)}"'
    if isinstance(value, bool | int | float | None):
        return quote(json.dumps(value))
    inside = value.values() if isinstance(value, Mapping) else value
    if len(value) <= FEW and all(isinstance(each, bool | int | float | str | None) for each in inside):
        text = json.dumps(value)
        if len(text) <= LONGEST_QUOTE:
            return text
    return "an object" if isinstance(value, Mapping) else f"a list of {len(value)}"


def _part(part: Any, where: str) -> str | Image:
    if isinstance(part, str):
        check_text(part, where)
        return part
    if not isinstance(part, Mapping):
        raise wrong(where, part, "a part is a string or an object with a type")
    kind = part.get("type")
    if kind in TEXT_TYPES:
        return _text(part, where, "text")
    if kind == "refusal":  # a model's own words in a history
        return _text(part, where, "refusal")
    read = _READERS.get(kind) if isinstance(kind, str) else None
    if read is None:
        supported = ", ".join(f'"{name}"' for name in TYPES)
        raise wrong(f"{where}.type", kind, f"{supported} are supported")
    return Image(FileSource(url=read(part, where), where=where))


def _text(part: Mapping[str, Any], where: str, name: str) -> str:
    text = part.get(name)
    if not isinstance(text, str):
        raise wrong(f"{where}.{name}", text, "a string is needed")
    _check_fields(part, where, {name})
    check_text(text, f"{where}.{name}")
    return text


def _image_url(part: Mapping[str, Any], where: str) -> str:
    """Return the URL of a part of type image_url or input_image."""
    given = part.get("image_url")
    _no_file_id(part, where)
    _check_fields(part, where, {"image_url", "detail", "file_id"})
    _check_detail(part.get("detail"), f"{where}.detail")
    if isinstance(given, Mapping):
        _check_fields(given, f"{where}.image_url", {"url", "detail"})
        _check_detail(given.get("detail"), f"{where}.image_url.detail")
        return _url(given.get("url"), f"{where}.image_url.url")
    return _url(given, f"{where}.image_url")


def _file(part: Mapping[str, Any], where: str) -> str:
    inner = part.get("file")
    if not isinstance(inner, Mapping):
        raise wrong(f"{where}.file", inner, "an object with file_data is needed")
    _check_fields(part, where, {"file"})
    return _file_data(inner, f"{where}.file")


def _file_data(given: Mapping[str, Any], where: str) -> str:
    """Return the URL of a document: its data, or its address."""
    _no_file_id(given, where)
    _check_fields(given, where, {"file_data", "file_url", "file_id", "detail"})
    if given.get("file_data") is None and given.get("file_url") is not None:
        return _url(given["file_url"], f"{where}.file_url")
    data = _url(given.get("file_data"), f"{where}.file_data")
    return data if data[:5].lower() == "data:" else f"data:application/octet-stream;base64,{data}"


def _no_file_id(given: Mapping[str, Any], where: str) -> None:
    if given.get("file_id") is not None:
        raise wrong(f"{where}.file_id", given["file_id"], "no files are stored here; send the file itself as data")


def _url(given: Any, where: str) -> str:
    if not isinstance(given, str) or not given:
        raise wrong(where, given, "a data: URL with base64 is needed")
    return given


def _check_detail(detail: Any, where: str) -> None:
    if detail is not None and detail not in DETAILS:
        raise wrong(where, detail, f"{', '.join(DETAILS)} are accepted, and hd sets the number of tiles")


def _check_fields(given: Mapping[str, Any], where: str, known: set[str]) -> None:
    unknown = next((name for name in given if name not in known | HARMLESS and given[name] is not None), None)
    if unknown is not None:
        path = f"{where}.{quote(unknown)}"
        raise ApiError(f"{path} is no field of this part; leave it out", code="unknown_parameter", param=path)


_READERS: dict[str, Callable[[Mapping[str, Any], str], str]] = {
    "image_url": _image_url, "input_image": _image_url, "file": _file, "input_file": _file_data,
}  # fmt: skip
"""Type of a part -> returns the URL of its file."""
