"""The body of a request, bounded in bytes and in time, alone and together with the others being read."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from starlette.requests import ClientDisconnect, Request

from ixc.serving.errors import ApiError
from ixc.serving.image_input import Limits


class BodyReader:
    """Reads bodies and counts the bytes of all that are being read.

    Args:
        limits: of a body, and of all of them together.
    """

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.bytes_in_flight = 0

    @asynccontextmanager
    async def read(self, request: Request) -> AsyncIterator[bytes]:
        """Read a body; its bytes count as in flight until the block is left.

        Raises:
            ApiError: no JSON by its header (415), too large (413), too slow (408), too many bytes in flight (429).
        """
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind != "application/json":  # a form on another site can send the other types without asking
            raise ApiError("send the request as Content-Type: application/json", status=415)
        counted = 0
        try:
            found = bytearray()
            async for chunk in self._chunks(request):
                self._check(len(found) + len(chunk), more=len(chunk))
                found += chunk
                counted += len(chunk)
                self.bytes_in_flight += len(chunk)
            yield bytes(found)
        finally:
            self.bytes_in_flight -= counted

    async def _chunks(self, request: Request) -> AsyncIterator[bytes]:
        length = request.headers.get("content-length", "")
        self._check(int(length) if length.isdecimal() and len(length) < 20 else 0)
        try:
            async with asyncio.timeout(self.limits.body_seconds):
                async for chunk in request.stream():
                    yield chunk
        except TimeoutError:
            raise ApiError(
                f"the request took longer than {self.limits.body_seconds:g} s to arrive; send it again", status=408
            ) from None
        except ClientDisconnect:
            raise ApiError("the client has left", status=499) from None

    def _check(self, size: int, *, more: int | None = None) -> None:
        if size > self.limits.max_body_bytes:
            raise ApiError(
                f"the request has more than {self.limits.max_body_bytes:,} bytes; send fewer or smaller images",
                status=413,
                code="request_too_large",
            )
        if self.bytes_in_flight + (size if more is None else more) > self.limits.max_bodies_bytes:
            raise ApiError("too many large requests are arriving; try again later", status=429, retry_after=2)
