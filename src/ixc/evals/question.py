"""One question as it is put to a model."""

from __future__ import annotations

from dataclasses import dataclass

Index = int | str
"""Index of a row, as the official reader of the data set gives it."""


@dataclass(frozen=True, kw_only=True)
class Question:
    """Pictures, text and how to answer."""

    index: Index
    images: tuple[bytes, ...]
    """Encoded image files, back-references resolved."""
    text: str
    """What the user says; with `raw` the whole prompt."""
    hd: int
    """Most tiles of 336 px an image may have."""
    num_beams: int
    """1 is greedy."""
    max_new_tokens: int
    """Longest answer in tokens."""
    raw: bool = False
    """True: `text` is a published prompt word for word, its tags are tags and `<ImageHere>` is an image."""
