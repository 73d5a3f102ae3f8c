"""Texts that end an answer and are no part of it.

token --StopWatcher.add--> found?          while the model generates
pieces --before_stop_text--> pieces        while an answer is streamed; text that may begin a stop text waits
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from ixc.inference.text_pieces import TextDecoder


def first_stop(text: str, stops: Sequence[str]) -> int | None:
    """Return the index at which the first stop text begins, None if there is none."""
    return min((place for stop in stops if (place := text.find(stop)) >= 0), default=None)


def possible_stop(text: str, stops: Sequence[str]) -> int:
    """Return how many characters at the end could be the beginning of a stop text."""
    longest = max(map(len, stops), default=1) - 1
    lengths = range(min(longest, len(text)), 0, -1)
    return next((n for n in lengths if any(stop.startswith(text[-n:]) for stop in stops)), 0)


def before_stop_text(pieces: Iterator[str], stops: Sequence[str]) -> Iterator[str]:
    """Yield an answer's pieces up to the first stop text; joined, they are the text before it.

    Args:
        pieces: of one answer; no further one is taken after a stop text.
        stops: texts that end it.
    """
    waiting = ""
    for piece in pieces:
        waiting += piece
        if (end := first_stop(waiting, stops)) is not None:
            waiting = waiting[:end]
            break
        if ready := len(waiting) - possible_stop(waiting, stops):
            yield waiting[:ready]
            waiting = waiting[ready:]
    if waiting:
        yield waiting


class StopWatcher:
    """Finds a stop text in an answer while its tokens arrive.

    Args:
        decode: token ids -> text.
        stops: texts that end the answer.
    """

    def __init__(self, decode: Callable[[list[int]], str], stops: Sequence[str]) -> None:
        self.found = False
        """Whether a stop text has come."""
        self._stops, self._decoder, self._end = stops, TextDecoder(decode), ""
        self._longest = max(map(len, stops), default=0)

    def add(self, token: int) -> None:
        """Take the next token."""
        if not self._stops:
            return
        text = self._end + self._decoder.add(token)
        self.found = self.found or first_stop(text, self._stops) is not None
        self._end = text[-self._longest :]
