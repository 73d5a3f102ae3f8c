"""Text and bytes of single tokens of an answer, as log probabilities name them.

    <0xHH>   the byte of a sentencepiece model's byte token
    others   decode([anchor, token]) without decode([anchor]): what the token adds behind a letter. A sentencepiece
             decoder may drop the space at the beginning of a text, and does not drop it behind the anchor.

Joined, the bytes of an answer's tokens are the UTF-8 of its text.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from ixc.processing.plain_text import plain_ids

ANCHOR = "a"
"""A letter that both tokenizers write as one token."""

_BYTE = re.compile(r"<0x([0-9A-F]{2})>")


class TokenText:
    """Text and bytes of tokens; each is worked out once.

    Args:
        tokenizer: the published one or the embedded model's.
        decode: ids of an answer -> its text; ids that it drops have no bytes.
    """

    def __init__(self, tokenizer: Any, decode: Callable[[list[int]], str]) -> None:
        self._tokenizer, self._decode = tokenizer, decode
        self._anchor = plain_ids(tokenizer, ANCHOR)
        self._before = decode(self._anchor)
        self._found: dict[int, tuple[str, bytes]] = {}

    def __call__(self, token: int) -> tuple[str, bytes]:
        """Return a token's text and its bytes.

        The text of a part of a character is U+FFFD. A token that is no text, such as the end of a turn, has its name
        and no bytes.
        """
        if token not in self._found:
            self._found[token] = self._read(token)
        return self._found[token]

    def _read(self, token: int) -> tuple[str, bytes]:
        piece = self._tokenizer.convert_ids_to_tokens(token)
        byte = _BYTE.fullmatch(piece or "")
        if byte is not None:
            data = bytes.fromhex(byte[1])
            return data.decode("utf-8", "replace"), data
        text = self._decode([*self._anchor, token]).removeprefix(self._before)
        return text or self._tokenizer.decode([token]), text.encode()
