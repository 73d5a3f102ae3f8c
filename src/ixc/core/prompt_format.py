"""How a conversation becomes a prompt: as a chat, or as the published benchmark runs write it (spec i)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from ixc.core import chat_format
from ixc.core.turn_rules import TurnRules, arrange

ASSISTANT_HEADER = f"{chat_format.TURN_START}assistant\n"
"""Markup before an answer in the chat format."""


@dataclass(frozen=True, kw_only=True)
class PromptFormat:
    """Options of a prompt; a request sets them by vLLM's names, see `serving.openai.read_prompt_format`."""

    continue_final_message: bool = False
    """The last message is the beginning of an answer: its turn stays open and the model goes on with it."""
    published: bool = False
    """As the published benchmark runs: images before the first turn, no system text but the conversation's own, `<s>`
    once, and pictures decoded by the original's `convert("RGB")`."""
    assistant: str = "assistant"
    """Role name in the header before the answer; one published prompt has blanks before it."""
    images_in_place: bool = False
    """Every image stays where it is in its message, whatever the turn rules of the model."""


CHAT_FORMAT = PromptFormat()
"""The chat format, for every request that asks for nothing else."""


def prompt_segments(
    messages: Sequence[chat_format.Message], prompt_format: PromptFormat, *, system: str, rules: TurnRules
) -> list[chat_format.Segment]:
    """Return the segments of a conversation's prompt.

    Args:
        messages: turns, oldest first.
        prompt_format: the format asked for.
        system: system text where the conversation brings none; the published format has none.
        rules: what the model was taught about its turns; the published format is written as it is given.
    """
    if prompt_format.images_in_place:
        messages = [replace(turn, content=tuple(map(_fixed, turn.content))) for turn in messages]
    segments = chat_format.render(
        messages if prompt_format.published else arrange(messages, rules),
        system="" if prompt_format.published else system,
        continue_final_message=prompt_format.continue_final_message,
    )
    if not prompt_format.published:
        return segments
    if not prompt_format.continue_final_message:
        before = segments[-1].text.removesuffix(ASSISTANT_HEADER)
        segments[-1] = chat_format.Segment("markup", f"{before}{chat_format.TURN_START}{prompt_format.assistant}\n")
    images = [segment for segment in segments if segment.kind == "image"]
    return [*images, *(segment for segment in segments if segment.kind != "image")]


def _fixed(part: str | chat_format.Image) -> str | chat_format.Image:
    return replace(part, fixed=True) if isinstance(part, chat_format.Image) else part
