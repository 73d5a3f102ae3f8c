"""Text of one answer on its way out: cut at the first stop text, with the log probabilities of what is left.

    add(text, entry) --> take() --> text that is certain, entries of its tokens

Text that may turn out to be the beginning of a stop text is held back, and so are the entries of its tokens. A stop
text ends the entries too: those behind it are left out, and a token across its beginning is cut there. So the joined
bytes of the entries are the UTF-8 of the text.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import replace

from ixc.inference.stop_texts import first_stop, possible_stop
from ixc.serving.deltas import TokenLogprob
from ixc.serving.tools import CALL_HEAD


class AnswerText:
    """Collects the text and the entries of one answer.

    Args:
        stops: texts that end the answer and are not part of it.
        is_call: whether the text is a tool call; there stop texts count within the arguments only.
    """

    def __init__(self, stops: Sequence[str], *, is_call: bool = False) -> None:
        self.stopped = False
        """Whether a stop text has come."""
        self._stops = stops
        self._head = CALL_HEAD if is_call and stops else None  # until it has been read, no stop text counts
        self._held = ""
        self._taken = 0  # characters that `take` has returned
        self._searched = 0  # characters of what is held in which no stop text counts
        self._entries: deque[tuple[int, int, TokenLogprob]] = deque()  # with the first character and the one behind

    def add(self, text: str, entry: TokenLogprob | None = None) -> None:
        """Take the text that a token adds, "" for a part of a character, and the token's entry."""
        start = self._taken + len(self._held)
        self._held += text
        if entry is not None:
            self._entries.append((start, start + len(text), entry))
        if self._head is not None:
            found = self._head.match(self._held)
            if found is None:
                return
            self._head, self._searched = None, found.end()
        self.stopped = self._stop_at() is not None

    def take(self, *, last: bool = False) -> tuple[str, tuple[TokenLogprob, ...]]:
        """Return the further text and the entries of its tokens.

        Args:
            last: whether nothing follows, so that nothing is held back.
        """
        stop = self._stop_at()
        if last:
            ready = len(self._held) if stop is None else stop
        elif stop is not None or self._head is not None:
            return "", ()
        else:
            ready = len(self._held) - possible_stop(self._held[self._searched :], self._stops)
        text, self._held = self._held[:ready], self._held[ready:]
        self._taken += ready
        self._searched = max(self._searched - ready, 0)
        return text, tuple(self._complete(everything=last) if stop is None else self._cut())

    def _stop_at(self) -> int | None:
        if self._head is not None:
            return None
        found = first_stop(self._held[self._searched :], self._stops)
        return None if found is None else found + self._searched

    def _complete(self, *, everything: bool) -> list[TokenLogprob]:
        """Return the entries whose text has been taken."""
        found = []
        while self._entries:
            start, end, entry = self._entries[0]
            if not everything and (end > self._taken or start >= self._taken):
                break
            found.append(entry)
            self._entries.popleft()
        return found

    def _cut(self) -> list[TokenLogprob]:
        """Return the entries up to the stop text."""
        found = []
        for start, end, entry in self._entries:
            if start < self._taken:
                found.append(entry if end <= self._taken else _shortened(entry, end - self._taken))
        return found


def _shortened(entry: TokenLogprob, characters: int) -> TokenLogprob:
    """Return an entry without the last characters of its token."""
    text = entry.token[:-characters]
    return replace(entry, token=text, bytes=entry.bytes[: len(entry.bytes) - len(entry.token[-characters:].encode())])
