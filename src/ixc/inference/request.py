"""One conversation before the model runs: opened, counted, encoded and checked against the context, in one place.

    images, question, history --prepare(rules)--> Request --generate, decode--> tokens --answer_of--> Answer

`Rules` says what of a model this needs; whatever encodes and generates may stand behind it: `engine.py` with
transformers, `standalone.py` without. Pictures belong to the first turn of a conversation, before its text.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from PIL import Image

from ixc.core import chat_format
from ixc.core.tiling import partition as partition_of
from ixc.errors import ContextError, UsageError
from ixc.processing.image_io import open_image, to_rgb

if TYPE_CHECKING:
    import torch

MAX_NEW_TOKENS = chat_format.CHAT_DEFAULTS.max_new_tokens
"""Longest answer where neither the caller nor the folder's generation config says: the original chat's (spec i)."""

Picture = str | os.PathLike[str] | bytes | Image.Image
"""What `ask` reads: a path, the bytes of a file, or a PIL image."""

History = Sequence[tuple[str, str]]
"""Earlier turns, oldest first: (question, answer)."""


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What `Engine.ask` found, and what it took."""

    text: str
    """The answer, without stop tokens."""
    hd: int
    """Most tiles an image was allowed."""
    partition: str
    """Partition rule."""
    grids: tuple[tuple[int, int], ...]
    """(grid_h, grid_w) of every image, in tiles."""
    image_tokens: tuple[int, ...]
    """Tokens of every image, overview, separator and newlines counted."""
    prompt_tokens: int
    """Tokens of the whole prompt, images included."""
    new_tokens: int
    """Tokens generated, the stop token not counted."""
    seconds: float
    """Wall time from pictures to text, loading not counted."""

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


@dataclass(frozen=True, kw_only=True)
class Rules:
    """What a model sets for its requests."""

    processor: Any
    """Encodes, counts image tokens and holds the usual tiling: an `IxcProcessor`, or a `StandaloneProcessor`."""
    context: int
    """Most positions of prompt and answer together."""
    max_new_tokens: int
    """Longest answer where the caller does not say."""


@dataclass(frozen=True, kw_only=True)
class Request:
    """A checked and encoded call."""

    inputs: dict[str, torch.Tensor]
    hd: int
    partition: str
    prompt_tokens: int
    max_new_tokens: int

    @property
    def has_images(self) -> bool:
        """Whether a picture is asked about."""
        return "image_grids" in self.inputs


def prepare(
    rules: Rules,
    images: Sequence[Picture],
    question: str,
    *,
    hd: int | None = None,
    partition: str | None = None,
    max_new_tokens: int | None = None,
    history: History = (),
    return_tensors: str = "pt",
) -> Request:
    """Everything that can be wrong with a call is found here, before the model runs.

    Args, Raises: as `Engine.ask`; return_tensors: "pt", or "np" where torch is not imported yet.
    """
    if isinstance(images, str | bytes | os.PathLike | Image.Image):
        raise UsageError(f"images is one {type(images).__name__}; give a list, even of one")
    for text in (question, *(part for turn in history for part in turn)):
        check_text(text)
    processor = rules.processor
    pictures = [_open(image) for image in images]
    most: int = processor.image_processor.hd if hd is None else hd
    rule: str = processor.image_processor.partition if partition is None else partition
    # Counted before a canvas is made: a huge hd would ask for a canvas of gigabytes.
    parts = [partition_of(picture.width, picture.height, hd=most, rule=rule) for picture in pictures]
    answer_length(rules, sum(processor.num_image_tokens(part.grid_h, part.grid_w) for part in parts), None)
    turns = conversation(pictures, question, history)
    inputs = dict(processor.encode(turns, hd=most, partition=rule, return_tensors=return_tensors))
    length = inputs["input_ids"].shape[1]
    return Request(
        inputs=inputs,
        hd=most,
        partition=rule,
        prompt_tokens=length,
        max_new_tokens=answer_length(rules, length, max_new_tokens),
    )


def answer_length(rules: Rules, prompt_tokens: int, wanted: int | None) -> int:
    """How many tokens may follow the prompt. Raises: ContextError, UsageError."""
    left = rules.context - prompt_tokens
    if left < 1:
        raise ContextError(
            f"the prompt has {prompt_tokens:,} tokens and the model {rules.context:,} positions; "
            "use a smaller hd, fewer images or a shorter text"
        )
    if wanted is None:
        return min(left, rules.max_new_tokens)
    if wanted < 1:
        raise UsageError(f"max_new_tokens is {wanted}, at least 1 needed")
    if wanted > left:
        raise ContextError(
            f"{prompt_tokens:,} tokens of prompt and {wanted:,} of answer, but the model has {rules.context:,} "
            f"positions; use max_new_tokens <= {left:,} or a smaller hd"
        )
    return wanted


def answer_of(rules: Rules, request: Request, tokens: list[int], *, seconds: float) -> Answer:
    """The answer of the new tokens, the stop token left out."""
    grids = tuple((int(h), int(w)) for h, w in request.inputs["image_grids"].tolist()) if request.has_images else ()
    return Answer(
        text=rules.processor.decode_answer(tokens),
        hd=request.hd,
        partition=request.partition,
        grids=grids,
        image_tokens=tuple(rules.processor.num_image_tokens(*grid) for grid in grids),
        prompt_tokens=request.prompt_tokens,
        new_tokens=len(tokens),
        seconds=round(seconds, 3),
    )


def _open(image: Picture) -> Image.Image:
    return to_rgb(image) if isinstance(image, Image.Image) else open_image(image)


def check_text(text: str) -> None:
    """A terminal hands on bytes that are no text as lone surrogates, which no tokenizer takes."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise UsageError(f"character {error.start + 1} of {len(text)} of the text is none; write it in UTF-8") from None


def conversation(pictures: list[Image.Image], question: str, history: History) -> list[chat_format.Message]:
    """Turns; the pictures stand before the text of the first one."""
    turns: list[chat_format.Message] = []
    for asked, answered in (*history, (question, None)):
        seen = () if turns else tuple(map(chat_format.Image, pictures))
        turns.append(chat_format.Message("user", (*seen, asked)))
        if answered is not None:
            turns.append(chat_format.Message("assistant", (answered,)))
    return turns
