"""Turn rules: where a turn's images stand and which system texts reach the model, however a client writes them.

    messages --arrange--> messages --chat_format.render--> segments

The rules, in this order; the command line, Python, the light server and vLLM all apply them through `arrange`:

1. System turns are left out for a model that was never taught any (`system_turns=False`): a text there would only push
   its answers out of the distribution that it knows. A system turn with an image stays.
2. User turns that follow each other become one turn.
3. The images of a user turn stand before its text, in their order, as in the published prompt (spec i). They stay where
   they are if the text tells them apart by their place: text between two images, or words such as "the image above"
   beside several images; and if the caller has fixed their place (`<ImageHere>` in a query). With one image no text
   can mean another one, so one image always comes first.

Turns that already have this form are returned as they are, to the letter.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Any

from ixc.core.chat_format import Image, Message, parse_messages

_PLACE = re.compile(
    r"\b(?:(?:image|picture|photo|screenshot)s?\s+(?:above|below)"
    r"|(?:above|below|preceding|following)\s+(?:\w+\s+)?(?:image|picture|photo|screenshot)s?)\b",
    re.IGNORECASE,
)
"""Words that tell images apart by where they stand in the message."""


@dataclass(frozen=True, kw_only=True)
class TurnRules:
    """What a model was taught about its turns."""

    system_turns: bool = True
    """It knows system turns; otherwise they are left out."""
    images_first: bool = True
    """Images stood before the text of their turn in its training; otherwise they stay where they are."""


TAUGHT = TurnRules()
"""Rules of a model whose folder says nothing else."""

AS_GIVEN = TurnRules(images_first=False)
"""Rules that move no image and leave no turn out."""


def arrange(messages: Iterable[Message | Mapping[str, Any]], rules: TurnRules) -> list[Message]:
    """Return the messages in the form that the model was trained on; see the rules above.

    Args:
        messages: see `chat_format.parse_messages`.
        rules: of the model.

    Raises:
        UsageError: as `parse_messages`.
    """
    turns = parse_messages(messages)
    if not rules.system_turns:
        turns = [turn for turn in turns if turn.role != "system" or _images(turn.content)] or turns
    if not rules.images_first:
        return turns
    merged: list[Message] = []
    for role, group in groupby(turns, lambda turn: turn.role):
        run = list(group)
        merged += [_images_first(_merged(run))] if role == "user" else run
    return merged


def _merged(turns: Sequence[Message]) -> Message:
    """Return user turns as one, with a line break between two texts that meet."""
    content = list(turns[0].content)
    for turn in turns[1:]:
        if content and turn.content and isinstance(content[-1], str) and isinstance(turn.content[0], str):
            content.append(_separator(content[-1], turn.content[0], "\n"))
        content += turn.content
    return replace(turns[0], content=tuple(content)) if len(turns) > 1 else turns[0]


def _images_first(turn: Message) -> Message:
    runs = [(kind, list(run)) for kind, run in groupby(turn.content, lambda part: isinstance(part, Image))]
    images = _images(turn.content)
    if not images or (runs[0][0] and len(runs) <= 2) or _fixed(runs, images):
        return turn
    text = ""
    for piece in (_text(run) for is_image, run in runs if not is_image):
        text += _separator(text, piece, " ") + piece
    return replace(turn, content=(*images, text))


def _fixed(runs: Sequence[tuple[bool, list[Any]]], images: Sequence[Image]) -> bool:
    """Whether the images must stay where they are."""
    if any(image.fixed for image in images):
        return True
    if len(images) < 2:
        return False
    pictures = [place for place, (is_image, _) in enumerate(runs) if is_image]
    between = runs[pictures[0] : pictures[-1]]
    texts = [_text(run) for is_image, run in runs if not is_image]
    return any(not is_image and _text(run).strip() for is_image, run in between) or any(map(_PLACE.search, texts))


def _separator(before: str, after: str, wanted: str) -> str:
    """Return what goes between two texts so that their words stay apart."""
    return wanted if before and after and not before[-1].isspace() and not after[0].isspace() else ""


def _text(content: Iterable[str | Image]) -> str:
    return "".join(part for part in content if isinstance(part, str))


def _images(content: Iterable[str | Image]) -> list[Image]:
    return [part for part in content if isinstance(part, Image)]
