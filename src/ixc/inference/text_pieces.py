"""Text of an answer while its tokens arrive: whole characters as soon as they are complete."""

from __future__ import annotations

from collections.abc import Callable, Iterator

REPLACEMENT_CHARACTER = "\ufffd"
"""What a character of several tokens (a byte sequence) decodes to until it is complete."""


class TextDecoder:
    """Turns tokens into text one by one, in time linear in their number.

    Only the tokens of the previous piece and the new ones are decoded, not the whole answer. The previous piece is
    needed as context: a SentencePiece decoder drops the space before the first word of what it decodes.

    Args:
        decode: token ids -> text.
    """

    def __init__(self, decode: Callable[[list[int]], str]) -> None:
        self._decode = decode
        self._tokens: list[int] = []
        self._context = 0
        self._context_text = ""

    def add(self, token: int) -> str:
        """Return the text that a further token completes; "" while a character is incomplete."""
        self._tokens.append(token)
        piece = self._new_text()
        if not piece or piece.endswith(REPLACEMENT_CHARACTER):
            return ""
        self._tokens = self._tokens[self._context :]
        self._context = len(self._tokens)
        self._context_text = self._decode(self._tokens)
        return piece

    def finish(self) -> str:
        """Return the text of the tokens left at the end, an incomplete character as U+FFFD."""
        return self._new_text() if self._tokens else ""

    def _new_text(self) -> str:
        """Return the text behind the previous piece."""
        text = self._decode(self._tokens)
        if text.startswith(self._context_text):
            return text[len(self._context_text) :]
        # `tokenizers` decodes bytes that are no UTF-8 together with the whole bytes before them: "é" and a byte behind
        # it are three U+FFFD.
        return self._decode(self._tokens[self._context :])


def text_pieces(tokens: Iterator[int], *, decode: Callable[[list[int]], str]) -> Iterator[str]:
    """Yield the text as it grows; joined, the pieces are `decode(all tokens)`."""
    decoder = TextDecoder(decode)
    for token in tokens:
        if piece := decoder.add(token):
            yield piece
    if rest := decoder.finish():
        yield rest
