"""One benchmark question, as it is passed to a model."""

from __future__ import annotations

from dataclasses import dataclass

from ixc.core.chat_format import Message, to_text
from ixc.core.prompt_format import CHAT_FORMAT, PromptFormat, prompt_segments
from ixc.core.turn_rules import AS_GIVEN

Index = int | str
"""Index of a row, with the type that the official reader of the data set gives it."""


@dataclass(frozen=True, kw_only=True)
class Question:
    """Images, messages and generation settings of one question."""

    index: Index
    """Row of the data set."""
    images: tuple[bytes, ...]
    """Encoded image files, back-references resolved."""
    messages: tuple[Message, ...]
    """Turns; the source of an `Image` among their parts is its place in `images`, from 0."""
    prompt_format: PromptFormat = CHAT_FORMAT
    """How the messages become a prompt; nothing writes them as one string before a model does."""
    hd: int
    """HD-n: largest number of 336 px tiles per image."""
    num_beams: int
    """Beam width; 1 is greedy decoding."""
    max_new_tokens: int
    """Longest answer, tokens."""
    broken: str | None = None
    """Why its images cannot be read; such a question is not asked. None: they can, as far as the data set's reader
    knows."""

    @property
    def text(self) -> str:
        """The question to read: the whole prompt with its tags if it is published, else the texts of its messages."""
        if not self.prompt_format.published:
            return "".join(part for turn in self.messages for part in turn.content if isinstance(part, str))
        return to_text(prompt_segments(self.messages, self.prompt_format, system="", rules=AS_GIVEN))
