"""One question with its pictures and settings, checked before a model is loaded: what `ask`, `stream` and `batch` take.

    ixc.Query(["a.png"], "What is the title?", hd=9)   --Engine.batch-->   Answer

Imports no torch and no transformers.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass
from typing import TypedDict

from PIL import Image

from ixc.core.tiling import RULES, Budget, check_budget
from ixc.errors import GeometryError, UsageError
from ixc.inference.sampling import GREEDY, Sampling

Picture = str | os.PathLike[str] | bytes | Image.Image
"""What `ask` reads: a path, the bytes of a file, or a PIL image."""

History = Sequence[tuple[str, str]]
"""Earlier turns, oldest first: (question, answer)."""


class QueryOptions(TypedDict, total=False):
    """Keyword arguments of `Engine.ask` and `Engine.stream`: the fields of `Query` besides pictures and question."""

    hd: Budget | None
    partition: str | None
    max_new_tokens: int | None
    sampling: Sampling | None
    system: str | None
    stop: Sequence[str]
    history: History
    evidence: bool


@dataclass(frozen=True)
class Query:
    """One question with its pictures and settings.

    Raises:
        UsageError: a value that no model takes; GeometryError: hd out of range, an unknown partition rule.
    """

    images: Sequence[Picture]
    """Pictures of the first turn: paths, bytes of files or PIL images; none for text alone."""
    question: str
    """What is asked; tags and `<ImageHere>` in it stay text."""
    _: KW_ONLY
    hd: Budget | None = None
    """Most tiles per image, 1 to `core.tiling.MAX_HD`, or "auto": the smallest number at which no picture is scaled
    down, at most `core.tiling.AUTO_MOST`. None = the folder's setting."""
    partition: str | None = None
    """Partition rule, a key of `core.tiling.RULES`. None = the folder's setting."""
    max_new_tokens: int | None = None
    """Longest answer, >= 1. None = the folder's setting, cut to what the context leaves."""
    sampling: Sampling | None = None
    """How tokens are chosen, e.g. `Sampling(do_sample=True, temperature=0.7)`. None = greedy."""
    system: str | None = None
    """System text. None = the folder's; "" = none. A model that was never taught system turns takes none."""
    stop: Sequence[str] = ()
    """Texts that end the answer and are no part of it."""
    history: History = ()
    """Earlier turns, oldest first: (question, answer)."""
    evidence: bool = False
    """Also find the boxes of the pictures that the answer was copied from (`Answer.evidence`); costs one step of the
    model over the answer, and the prefix cache must be on. Not for `stream`."""

    def __post_init__(self) -> None:
        if isinstance(self.images, str | bytes | os.PathLike | Image.Image):
            raise UsageError(f"images is one {type(self.images).__name__}; give a list, even of one")
        if isinstance(self.stop, str):
            raise UsageError(f"stop is the text {self.stop!r}; give a list, even of one")
        if not all(self.stop):
            raise UsageError("a stop text is empty and would end every answer; leave it out")
        earlier = [part for turn in self.history for part in turn]
        for text in (self.question, *earlier, self.system or "", *self.stop):
            check_text(text)
        if self.hd is not None:
            check_budget(self.hd)
        if self.partition is not None and self.partition not in RULES:
            raise GeometryError(f"no partition rule {self.partition!r}; use one of {', '.join(RULES)}")
        if self.max_new_tokens is not None and self.max_new_tokens < 1:
            raise UsageError(f"max_new_tokens is {self.max_new_tokens}, at least 1 needed")

    @property
    def decoding(self) -> Sampling:
        """How tokens are chosen."""
        return GREEDY if self.sampling is None else self.sampling


def check_text(text: str) -> None:
    """Refuse lone surrogates, which a terminal makes of bytes that are no UTF-8 and which no tokenizer takes.

    Raises:
        UsageError: naming the first such character.
    """
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise UsageError(f"character {error.start + 1} of {len(text)} of the text is none; write it in UTF-8") from None
