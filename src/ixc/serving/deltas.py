"""Pieces of an answer as the model generates it: what the worker hands to the event loop."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class TokenLogprob:
    """A token of the answer with its log probability before temperature and top_p."""

    token: str
    """Its text; bytes that are not a whole character are U+FFFD."""
    bytes: bytes
    """What it adds to the answer: of all tokens of an answer, joined, the UTF-8 of its text."""
    logprob: float
    """Natural logarithm of its probability, at least -9999."""
    top: tuple[TokenLogprob, ...] = ()
    """The most probable tokens at this place."""


@dataclass(frozen=True, kw_only=True)
class TextDelta:
    """The text since the delta before."""

    text: str
    """New text; may be empty in the last delta."""
    new_tokens: int
    """Tokens generated so far, the stop token not counted."""
    logprobs: tuple[TokenLogprob, ...] = ()
    """Log probabilities of the tokens since the delta before; empty where none are asked for."""
    finish: str | None = None
    """Set in the last delta of a choice only: "stop" or "length"."""
    is_open: bool = False
    """In the last delta: a limit or the request has ended the text before its end, so that JSON in it is not closed."""
    confidence: float | None = None
    """In the last delta of a choice: confidence in its answer, 0 to 1 (`inference/confidence.py`)."""
    choice: int = 0
    """Index of the answer, where several are asked for."""
    more: bool = False
    """Another choice follows."""
    cached_tokens: int = 0
    """Tokens of the prompt whose keys and values came from the prefix cache."""
    others: tuple[TextDelta, ...] = ()
    """With beam search, in the last delta: the whole answers of the other beams, the most probable first."""

    @property
    def is_last(self) -> bool:
        """Whether nothing follows."""
        return self.finish is not None and not self.more
