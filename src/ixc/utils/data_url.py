"""Decode `data:` URLs (RFC 2397) and base64 as clients really write them; the only decoder of the package.

    data:[MIME][;name=value]*;base64,PAYLOAD --decode_data_url--> bytes

Line breaks and blanks, missing padding, URL-safe letters (`-` and `_`) and percent-encoding are accepted. The MIME type
and the parameters are not judged here: the bytes say what a file is.
"""

from __future__ import annotations

import base64
import binascii
import re
from urllib.parse import unquote_to_bytes

from ixc.errors import IxcError

_HEAD = re.compile(
    r"data:[^,;\s]{0,100}(?:\s*;\s*[^,;=\s]{1,60}=(?:\"[^\"]{0,200}\"|[^,;]{0,200}))*\s*;\s*base64\s*,", re.I
)
"""MIME type, parameters such as `;name=page.png`, and the word base64. Bounded, because strangers send it."""

HEAD_LENGTH = 1000
"""Characters in which the comma of a data URL must come."""

_BLANKS = b" \t\r\n\f\v"
_INVALID = re.compile(rb"[^A-Za-z0-9+/]")
_URL_SAFE = bytes.maketrans(b"-_", b"+/")


class DataUrlError(IxcError):
    """A data URL or a base64 text that cannot be decoded; the message says where."""


def payload_start(url: str) -> int:
    """Return the index at which the base64 text of a data URL begins.

    Raises:
        DataUrlError: the URL does not begin with `data:`, or its head does not end in `;base64,`.
    """
    head = _HEAD.match(url[:HEAD_LENGTH])
    if head is None:
        raise DataUrlError("a data URL begins with data:MIME;base64, and this one does not")
    return head.end()


def decode_data_url(url: str) -> bytes:
    """Decode the bytes of a data URL.

    Raises:
        DataUrlError: no `;base64,` in its head, or a payload that is no base64.
    """
    return decode_base64(url[payload_start(url) :])


def decode_base64(text: str) -> bytes:
    """Decode base64, standard or URL-safe, with or without padding and line breaks.

    Raises:
        DataUrlError: a character outside the alphabet (the message gives its place), or a length that no bytes have.
    """
    try:
        # Nearly all payloads are clean, and this path copies 64 MB once and not three times.
        return base64.b64decode(text.encode("ascii"), validate=True)
    except ValueError:  # UnicodeEncodeError and binascii.Error are both
        return _decode_leniently(text)


def _decode_leniently(text: str) -> bytes:
    raw = text.encode("utf-8", "surrogatepass")
    if b"%" in raw:
        raw = unquote_to_bytes(raw)
    letters = raw.translate(_URL_SAFE, _BLANKS).rstrip(b"=")
    wrong = _INVALID.search(letters)
    if wrong is not None:
        raise DataUrlError(_describe(text, letters[wrong.start() : wrong.start() + 1]))
    if len(letters) % 4 == 1:  # 6 bits are less than a byte
        raise DataUrlError(f"base64 of {len(letters):,} characters is cut short: 4 characters make 3 bytes")
    try:
        return binascii.a2b_base64(letters + b"=" * (-len(letters) % 4))
    except binascii.Error as error:
        raise DataUrlError(f"base64 of {len(letters):,} characters cannot be decoded ({error})") from error


def _describe(text: str, wrong: bytes) -> str:
    """Name the first character of the text as it was sent that is no base64."""
    allowed = r"[^A-Za-z0-9+/\-_%\s]" if wrong != b"%" else r"[^A-Za-z0-9+/\-_\s]"
    for found in re.finditer(allowed, text, re.ASCII):
        # `=` is padding where nothing but padding and blanks follows it.
        if found[0] != "=" or text[found.start() :].strip("= \t\r\n\f\v"):
            return f"base64 has {found[0]!a} at character {found.start() + 1:,} of {len(text):,}"
    return f"base64 of {len(text):,} characters holds percent-encoded bytes that are no base64"
