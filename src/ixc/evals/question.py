"""One benchmark question, as it is passed to a model."""

from __future__ import annotations

from dataclasses import dataclass

Index = int | str
"""Index of a row, with the type that the official reader of the data set gives it."""


@dataclass(frozen=True, kw_only=True)
class Question:
    """Images, text and generation settings of one question."""

    index: Index
    """Row of the data set."""
    images: tuple[bytes, ...]
    """Encoded image files, back-references resolved."""
    text: str
    """The user's message; with `raw` the whole prompt."""
    hd: int
    """HD-n: largest number of 336 px tiles per image."""
    num_beams: int
    """Beam width; 1 is greedy decoding."""
    max_new_tokens: int
    """Longest answer, tokens."""
    raw: bool = False
    """True: `text` is a published prompt, used verbatim: its tags are special tokens and `<ImageHere>` is an image."""
    broken: str | None = None
    """Why its images cannot be read; such a question is not asked. None: they can, as far as the data set's reader
    knows."""
