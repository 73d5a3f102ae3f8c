"""Requests about the pictures of the request before: their tiles are used again instead of being made again.

    Query, Query, ... --SamePictures.prepare--> Request, Request, ...      the same tensor of tiles while pictures last

Decoding, resizing and hashing a 4K page takes a quarter of a second, and `ixc read` asks several questions about each.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from ixc.core import chat_format
from ixc.inference.query import Picture, Query
from ixc.inference.request import Request, RequestPreparer, conversation


class SamePictures:
    """Prepares requests one after another.

    Args:
        preparer: of the model.
    """

    def __init__(self, preparer: RequestPreparer) -> None:
        self._preparer = preparer
        self._last: tuple[Query, Request] | None = None

    def prepare(self, query: Query) -> Request:
        """Return a query's request; errors as `RequestPreparer.prepare_query`."""
        if self._last is not None and query.images and _same_pictures(query, self._last[0]):
            return self._beside(query, self._last[1])
        self._last = None  # the tiles of the one before are let go before others are made
        request = self._preparer.prepare_query(query)
        self._last = query, request
        return request

    def _beside(self, query: Query, before: Request) -> Request:
        """Return the request of another question about the same pictures."""
        preparer, processor = self._preparer, self._preparer.processor
        preparer.check_system(query.system)
        turns = processor.arrange(conversation(query.images, query.question, query.history))  # type: ignore[arg-type]
        prompt = chat_format.render(turns, system=processor.system if query.system is None else query.system)
        inputs: dict[str, Any] = dict(processor.encode_beside(prompt, before.inputs))
        length = inputs["input_ids"].shape[1]
        return replace(
            before,
            inputs=inputs,
            prompt_tokens=length,
            max_new_tokens=preparer.answer_length(length, query.max_new_tokens, hd=before.hd),
            stop=tuple(query.stop),
        )


def _same_pictures(one: Query, other: Query) -> bool:
    """Return True if two queries show the same objects, or the same bytes, cut into tiles in the same way."""
    return (
        (one.hd, one.partition) == (other.hd, other.partition)
        and len(one.images) == len(other.images)
        and all(_same(a, b) for a, b in zip(one.images, other.images, strict=True))
    )


def _same(one: Picture, other: Picture) -> bool:
    return one is other or (isinstance(one, bytes) and isinstance(other, bytes) and one == other)
