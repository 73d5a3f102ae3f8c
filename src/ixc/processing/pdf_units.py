"""The size of a PDF's unit, page by page: /UserUnit (PDF 1.6, 14.11.1), which PDFium does not read.

Only as much of the file is understood as that needs: objects, their dictionaries, object streams, the tree of pages.
Where something is not found, the unit is 1/72 inch as everywhere. Encrypted object streams are not read.
"""

from __future__ import annotations

import re
import zlib

MAX_STREAMS_BYTES = 64 << 20
"""Most bytes of object streams that are decompressed."""

MAX_UNIT = 75_000.0
"""Largest unit in use: Acrobat's limit of 15,000,000 inches at 14,400 units."""

MAX_DEPTH = 64
"""Deepest tree of pages that is followed."""

_OBJECT = re.compile(rb"(?<!\d)(\d{1,10})\s+\d{1,5}\s+obj\b")
_REFERENCE = re.compile(rb"(\d{1,10})\s+\d{1,5}\s+R\b")
_UNIT = re.compile(rb"/UserUnit\s+(\d{1,8}(?:\.\d{0,8})?)")
_ROOT = re.compile(rb"/Root\s+(\d{1,10})\s+\d{1,5}\s+R\b")
_PAGES = re.compile(rb"/Pages\s+(\d{1,10})\s+\d{1,5}\s+R\b")
_STREAM = re.compile(rb"stream\r?\n")
_FIRST = re.compile(rb"/First\s+(\d{1,9})")
_KIDS = re.compile(rb"/Kids\s*\[([^\]]*)\]")


def user_units(data: bytes) -> dict[int, float]:
    """Number of the page, from 0 -> its unit in 1/72 inch, where it is not 1."""
    streams = _object_streams(data)
    if b"/UserUnit" not in data and not any(b"/UserUnit" in body for body in streams.values()):
        return {}
    objects = _objects(data) | streams
    roots = _ROOT.findall(data)
    catalog = objects.get(int(roots[-1]), b"") if roots else b""
    found = _PAGES.search(catalog)
    pages = _leaves(objects, int(found[1])) if found else []
    units = {place: _UNIT.search(objects[number]) for place, number in enumerate(pages)}
    values = {place: float(unit[1]) for place, unit in units.items() if unit}
    return {place: value for place, value in values.items() if 0 < value <= MAX_UNIT and value != 1}


def _objects(data: bytes) -> dict[int, bytes]:
    """Number -> what stands in the object before its stream; the last one of a number counts (updates are appended)."""
    found: dict[int, bytes] = {}
    starts = list(_OBJECT.finditer(data))
    for here, following in zip(starts, [*starts[1:], None], strict=True):
        end = following.start() if following else len(data)
        found[int(here[1])] = data[here.end() : end].partition(b"stream")[0]
    return found


def _object_streams(data: bytes) -> dict[int, bytes]:
    """Objects that stand compressed inside others (7.5.7)."""
    found: dict[int, bytes] = {}
    left = MAX_STREAMS_BYTES
    for here in re.finditer(rb"/ObjStm\b", data):
        start = _STREAM.search(data, here.end())
        first = _FIRST.search(data, max(data.rfind(b"obj", 0, here.start()), 0), start.start()) if start else None
        if start is None or first is None or left <= 0:
            continue
        body, at = _inflated(memoryview(data)[start.end() :], left), int(first[1])
        left -= len(body)
        places = [int(word) for word in body[:at].split() if word.isdigit()]
        ends = [*places[3::2], len(body) - at]
        for number, begin, end in zip(places[::2], places[1::2], ends, strict=False):
            found[number] = body[at + begin : at + end]
    return found


def _inflated(data: memoryview, most: int) -> bytes:
    try:
        return zlib.decompressobj().decompress(data, most)
    except zlib.error:
        return b""


def _leaves(objects: dict[int, bytes], root: int) -> list[int]:
    """Numbers of the pages' objects, in order."""
    found: list[int] = []
    seen: set[int] = set()

    def walk(number: int, depth: int) -> None:
        if number in seen or number not in objects or depth > MAX_DEPTH:
            return
        seen.add(number)
        kids = _KIDS.search(objects[number])
        if kids is None:
            found.append(number)
            return
        for kid in _REFERENCE.findall(kids[1]):
            walk(int(kid), depth + 1)

    walk(root, 0)
    return found
