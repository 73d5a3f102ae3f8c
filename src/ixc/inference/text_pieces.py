"""Text while its tokens are made: whole characters as soon as they are complete."""

from __future__ import annotations

from collections.abc import Callable, Iterator


def text_pieces(tokens: Iterator[int], *, decode: Callable[[list[int]], str]) -> Iterator[str]:
    """Text as it grows; joined, the pieces are `decode(all tokens)`.

    A character of several tokens (a byte sequence) decodes to U+FFFD until it is complete, and waits for it.
    """
    seen: list[int] = []
    shown = ""
    for token in tokens:
        seen.append(token)
        text = decode(seen)
        if text.startswith(shown) and len(text) > len(shown) and not text.endswith("�"):
            yield text[len(shown) :]
            shown = text
    rest = decode(seen)
    if len(rest) > len(shown):
        yield rest[len(shown) :]
