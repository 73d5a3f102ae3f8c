"""Several questions, each with its own pictures and settings, answered together: for benchmarks.

    requests --open, count--> items --_groups--> one setting each, tokens bounded --generate--> answers in order

A request that fails costs only its own answer: a picture is opened and counted alone, and where a group fails its
requests are generated one by one.
Rows of a group are padded on the left and masked, so that an answer does not depend on the other rows. Spec (i).
Images are encoded through the engine's tile cache: several questions on one page encode it once.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from PIL import Image

from ixc.core import chat_format
from ixc.core.prompt_format import CHAT_FORMAT, PromptFormat, prompt_segments
from ixc.core.turn_rules import TAUGHT, TurnRules
from ixc.errors import ContextError, IxcError, UsageError
from ixc.inference.engine import Engine
from ixc.inference.request import lower_hd
from ixc.inference.sampling import Sampling
from ixc.processing.image_io import open_image
from ixc.utils.device import explain_out_of_memory, resolve_device, resolve_dtype

MAX_POSITIONS = 1 << 15
"""Most prompt positions computed together, beams counted, unless one question alone has more."""

MARKUP_TOKENS = 16
"""Tokens of a prompt's tags, estimated from above."""


@dataclass(frozen=True, kw_only=True)
class BatchRequest:
    """One question with its settings."""

    name: str
    """Names the question in errors: "docvqa_val 49153"."""
    images: tuple[bytes, ...]
    """Encoded image files."""
    messages: tuple[chat_format.Message, ...]
    """Turns; the source of an `Image` among their parts is its place in `images`, from 0."""
    prompt_format: PromptFormat = CHAT_FORMAT
    """How the messages become a prompt. The pictures of a published one are decoded as by the original."""
    hd: int
    """Most tiles of 336 px an image may have, >= 1."""
    num_beams: int = 1
    """1 is greedy."""
    max_new_tokens: int = 100
    """Longest answer in tokens, >= 1."""


@dataclass(frozen=True, kw_only=True)
class _Item:
    """A request with its pictures opened."""

    index: int
    """Position among the requests."""
    request: BatchRequest
    segments: list[chat_format.Segment]
    """The prompt."""
    length: int
    """Tokens of the prompt; those of the text are estimated from above as one a letter."""

    @property
    def setting(self) -> tuple[int, int, int, bool, bool]:
        """What all rows of a group must have in common."""
        request = self.request
        published = request.prompt_format.published
        return request.hd, request.num_beams, request.max_new_tokens, published, bool(request.images)


def answer(
    engine: Engine, requests: Sequence[BatchRequest], *, partition: str | None = None, positions: int = MAX_POSITIONS
) -> list[str]:
    """Return the answers in the order of the requests; each is the answer the request gets alone.

    Args:
        engine: model and processor.
        requests: of any settings.
        partition: rule, a key of `core.tiling.RULES`. None = the folder's setting.
        positions: most prompt positions computed together, beams counted.

    Raises:
        ImageError, GeometryError, UsageError, ContextError: in one request, which is named.
        CapacityError: too little memory.
    """
    found = answer_each(engine, requests, partition=partition, positions=positions)
    for text in found:
        if isinstance(text, IxcError):
            raise text
    return [text for text in found if isinstance(text, str)]


def answer_each(
    engine: Engine, requests: Sequence[BatchRequest], *, partition: str | None = None, positions: int = MAX_POSITIONS
) -> list[str | IxcError]:
    """Return for every request its answer, or the error that names it; arguments as of `answer`."""
    rule: str = engine.processor.image_processor.partition if partition is None else partition
    found: dict[int, str | IxcError] = {}
    items = []
    for index, request in enumerate(requests):
        try:
            items.append(_item(engine, index, request, rule))
        except IxcError as error:
            found[index] = error
    for group in _groups(items, positions):
        found |= _answer_group(engine, group, rule)
    return [found[index] for index in range(len(requests))]


def _answer_group(engine: Engine, group: Sequence[_Item], partition: str) -> dict[int, str | IxcError]:
    """Return answer or error by the request's index; a group that fails is split into single requests."""
    try:
        texts = _generate(engine, group, partition)
    except Exception as error:  # of any library beneath: one question must not cost the others their answers
        if len(group) > 1:
            return {k: v for item in group for k, v in _answer_group(engine, [item], partition).items()}
        name = group[0].request.name
        if isinstance(error, IxcError):
            return {group[0].index: error if name in str(error) else type(error)(f"{name}: {error}")}
        return {group[0].index: IxcError(f"{name}: {type(error).__name__}: {' '.join(str(error).split())[:200]}")}
    return {item.index: text for item, text in zip(group, texts, strict=True)}


def resolved_dtype(device: str, dtype: str) -> str:
    """Return the dtype `engine.load` chooses on this machine: "float32", "bfloat16" or "float16".

    Raises:
        UsageError: no such device or type.
    """
    return str(resolve_dtype(dtype, resolve_device(device))).removeprefix("torch.")


def segments(
    request: BatchRequest, images: Sequence[Image.Image], *, system: str = "", rules: TurnRules = TAUGHT
) -> list[chat_format.Segment]:
    """Return the prompt of a request, its opened images in place; a text never becomes a tag.

    Args:
        request: the question.
        images: one for each of `request.images`.
        system: system text of a chat that brings none.
        rules: what the model was taught about its turns.

    Raises:
        UsageError: a place for an image that is not there, or an image without a place.
    """
    parts = [part for turn in request.messages for part in turn.content if isinstance(part, chat_format.Image)]
    if {part.source for part in parts} != set(range(len(images))):
        raise UsageError(
            f"its messages show {len({part.source for part in parts})} images and {len(images)} images were given; "
            "number them from 0 and show each of them"
        )

    def opened(part: str | chat_format.Image) -> str | chat_format.Image:
        return replace(part, source=images[part.source]) if isinstance(part, chat_format.Image) else part

    messages = [replace(turn, content=tuple(map(opened, turn.content))) for turn in request.messages]
    return prompt_segments(messages, request.prompt_format, system=system, rules=rules)


def _item(engine: Engine, index: int, request: BatchRequest, partition: str) -> _Item:
    """Open and check one request; an error names it."""
    preparer = engine.preparer
    try:
        images = [open_image(image, published=request.prompt_format.published) for image in request.images]
        processor = engine.processor
        prompt = segments(request, images, system=processor.system, rules=processor.rules)
        shown = [each.image.source for each in prompt if each.image is not None]
        tokens = sum(preparer.count_image_tokens(shown, hd=request.hd, partition=partition))
        preparer.answer_length(tokens, request.max_new_tokens, hd=request.hd)
    except IxcError as error:
        raise type(error)(f"{request.name}: {error}") from error
    length = tokens + sum(len(each.text) for each in prompt if each.kind == "content") + MARKUP_TOKENS
    return _Item(index=index, request=request, segments=prompt, length=length)


def _groups(items: Sequence[_Item], positions: int) -> Iterator[list[_Item]]:
    """Group items of one setting and similar length, at most `positions` long together."""
    group: list[_Item] = []
    for item in sorted(items, key=lambda item: (item.setting, -item.length, item.index)):
        if group:
            longest, beams = group[0].length, item.request.num_beams
            if item.setting != group[0].setting or (len(group) + 1) * beams * longest > positions:
                yield group
                group = []
        group.append(item)
    if group:
        yield group


@torch.inference_mode()
def _generate(engine: Engine, group: Sequence[_Item], partition: str) -> list[str]:
    """Answer the items of one group."""
    first = group[0].request
    inputs: dict[str, Any] = engine.processor.encode_segments(
        [item.segments for item in group],
        bos_once=first.prompt_format.published,
        hd=first.hd,
        partition=partition,
        padding_side="left",
        return_tensors="pt",
    )
    length = inputs["input_ids"].shape[1]
    preparer = engine.preparer
    try:
        preparer.answer_length(length, first.max_new_tokens, hd=first.hd)
    except ContextError as error:
        raise ContextError(f"{', '.join(item.request.name for item in group[:3])}: {error}") from error
    chosen = Sampling(num_beams=first.num_beams).arguments(
        prompt_tokens=length, has_images=bool(first.images), start_id=engine.processor.tokenizer.bos_token_id
    )
    device, dtype = engine.model.device, engine.model.dtype
    what = f"{len(group)} x {length:,} tokens of prompt with {first.num_beams} beams"
    with explain_out_of_memory(what, device, dtype, lower_hd(first.hd)):
        if engine.compiled is not None:
            rows = len(group) * first.num_beams
            chosen |= engine.compiled.arguments(length + first.max_new_tokens, rows=rows)
        encoded = engine.generator.encode_images(inputs)
        output = engine.model.generate(**encoded, max_new_tokens=first.max_new_tokens, **chosen)
    return [engine.processor.decode_answer(preparer.before_stop(row)) for row in output[:, length:].tolist()]
