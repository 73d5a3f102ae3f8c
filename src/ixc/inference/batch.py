"""Several questions, each with its own pictures and settings, answered together: for benchmarks.

    requests --open, count--> items --_groups--> one setting each, tokens bounded --generate--> answers in order

A request that fails costs only its own answer: a picture is opened and counted alone, and where a group fails its
requests are generated one by one.
Rows of a group are padded on the left and masked, so that an answer does not depend on the other rows. Spec (i).
Images are encoded through the engine's tile cache: several questions on one page encode it once.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from time import perf_counter
from typing import Any

import torch
from PIL import Image

from ixc.core import chat_format
from ixc.core.prompt_format import CHAT_FORMAT, PromptFormat, prompt_segments
from ixc.core.turn_rules import TAUGHT, TurnRules
from ixc.errors import ContextError, IxcError, UsageError
from ixc.inference.engine import Engine
from ixc.inference.query import Query
from ixc.inference.request import Answer, Request, conversation, lower_hd, open_picture
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


@dataclass(frozen=True, kw_only=True, order=True)
class BatchSetting:
    """What all rows of a group have in common."""

    hd: int
    num_beams: int
    max_new_tokens: int
    published: bool
    has_images: bool
    partition: str


@dataclass(frozen=True, kw_only=True)
class BatchItem:
    """A request with its pictures opened."""

    index: int
    """Position among the requests."""
    name: str
    """Names the request in errors."""
    setting: BatchSetting
    segments: list[chat_format.Segment]
    """The prompt."""
    image_tokens: tuple[int, ...]
    """Tokens of each image."""
    length: int
    """Tokens of the prompt; those of the text are estimated from above as one a letter."""
    stop: tuple[str, ...] = ()
    """Texts that end the answer."""


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
        answers = _answer_group(engine, group)
        found |= {index: each if isinstance(each, IxcError) else each.text for index, each in answers.items()}
    return [found[index] for index in range(len(requests))]


def answer_queries(
    engine: Engine, queries: Sequence[Query], *, positions: int = MAX_POSITIONS
) -> list[Answer | IxcError]:
    """Return for every query its answer, or the error that names it.

    Args:
        engine: model and processor.
        queries: of any settings; those that sample, or penalise tokens of their prompt, are generated alone.
        positions: most prompt positions computed together, beams counted.
    """
    found: dict[int, Answer | IxcError] = {}
    items = []
    for index, query in enumerate(queries):
        name = f"question {index + 1}"
        try:
            item = query_item(engine, index, name, query) if query.decoding.is_beam_search_only else None
            if item is None:
                found[index] = engine.answer(query)
            else:
                items.append(item)
        except IxcError as error:
            found[index] = error if name in str(error) else type(error)(f"{name}: {error}")
    for group in _groups(items, positions):
        found |= _answer_group(engine, group)
    return [found[index] for index in range(len(queries))]


def _answer_group(engine: Engine, group: Sequence[BatchItem]) -> dict[int, Answer | IxcError]:
    """Return answer or error by the request's index; a group that fails is split into single requests."""
    try:
        answers = _generate(engine, group)
    except Exception as error:  # of any library beneath: one question must not cost the others their answers
        if len(group) > 1:
            return {k: v for item in group for k, v in _answer_group(engine, [item]).items()}
        name = group[0].name
        if isinstance(error, IxcError):
            return {group[0].index: error if name in str(error) else type(error)(f"{name}: {error}")}
        return {group[0].index: IxcError(f"{name}: {type(error).__name__}: {' '.join(str(error).split())[:200]}")}
    return {item.index: answered for item, answered in zip(group, answers, strict=True)}


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


def _item(engine: Engine, index: int, request: BatchRequest, partition: str) -> BatchItem:
    """Open and check one request; an error names it."""
    preparer = engine.preparer
    try:
        images = [open_image(image, published=request.prompt_format.published) for image in request.images]
        processor = engine.processor
        prompt = segments(request, images, system=processor.system, rules=processor.rules)
        shown = [each.image.source for each in prompt if each.image is not None]
        image_tokens = preparer.count_image_tokens(shown, hd=request.hd, partition=partition)
        tokens = sum(image_tokens)
        preparer.answer_length(tokens, request.max_new_tokens, hd=request.hd)
    except IxcError as error:
        raise type(error)(f"{request.name}: {error}") from error
    setting = BatchSetting(
        hd=request.hd,
        num_beams=request.num_beams,
        max_new_tokens=request.max_new_tokens,
        published=request.prompt_format.published,
        has_images=bool(request.images),
        partition=partition,
    )
    return BatchItem(
        index=index,
        name=request.name,
        setting=setting,
        segments=prompt,
        image_tokens=image_tokens,
        length=tokens + sum(len(each.text) for each in prompt if each.kind == "content") + MARKUP_TOKENS,
    )


def query_item(engine: Engine, index: int, name: str, query: Query) -> BatchItem | None:
    """Open and check one query; None if its answer may be cut by the context, whose end differs between rows."""
    preparer, processor = engine.preparer, engine.processor
    preparer.check_system(query.system)
    images = [open_picture(image) for image in query.images]
    hd: int = processor.image_processor.hd if query.hd is None else query.hd
    rule: str = processor.image_processor.partition if query.partition is None else query.partition
    image_tokens = preparer.count_image_tokens(images, hd=hd, partition=rule)
    longest = preparer.answer_length(sum(image_tokens), query.max_new_tokens, hd=hd)
    turns = processor.arrange(conversation(images, query.question, query.history))
    prompt = chat_format.render(turns, system=processor.system if query.system is None else query.system)
    letters = sum(len(segment.text) for segment in prompt if segment.kind == "content")
    markup = MARKUP_TOKENS * (1 + len(query.history))
    length = sum(image_tokens) + letters + markup
    if length + longest > preparer.context_length:
        return None
    setting = BatchSetting(
        hd=hd,
        num_beams=query.decoding.num_beams,
        max_new_tokens=longest,
        published=False,
        has_images=bool(images),
        partition=rule,
    )
    return BatchItem(
        index=index,
        name=name,
        setting=setting,
        segments=prompt,
        image_tokens=image_tokens,
        length=length,
        stop=tuple(query.stop),
    )


def _groups(items: Sequence[BatchItem], positions: int) -> Iterator[list[BatchItem]]:
    """Group items of one setting and similar length, at most `positions` long together."""
    group: list[BatchItem] = []
    for item in sorted(items, key=lambda item: (item.setting, -item.length, item.index)):
        if group:
            longest, beams = group[0].length, item.setting.num_beams
            if item.setting != group[0].setting or (len(group) + 1) * beams * longest > positions:
                yield group
                group = []
        group.append(item)
    if group:
        yield group


@torch.inference_mode()
def _generate(engine: Engine, group: Sequence[BatchItem]) -> list[Answer]:
    """Answer the items of one group."""
    start, first = perf_counter(), group[0].setting
    inputs: dict[str, Any] = engine.processor.encode_segments(
        [item.segments for item in group],
        bos_once=first.published,
        hd=first.hd,
        partition=first.partition,
        padding_side="left",
        return_tensors="pt",
    )
    length = inputs["input_ids"].shape[1]
    preparer = engine.preparer
    try:
        preparer.answer_length(length, first.max_new_tokens, hd=first.hd)
    except ContextError as error:
        raise ContextError(f"{', '.join(item.name for item in group[:3])}: {error}") from error
    chosen = Sampling(num_beams=first.num_beams).arguments(
        prompt_tokens=length, has_images=first.has_images, start_id=engine.processor.tokenizer.bos_token_id
    )
    device, dtype = engine.model.device, engine.model.dtype
    what = f"{len(group)} x {length:,} tokens of prompt with {first.num_beams} beams"
    with explain_out_of_memory(what, device, dtype, lower_hd(first.hd)):
        if engine.compiled is not None:
            rows = len(group) * first.num_beams
            chosen |= engine.compiled.arguments(length + first.max_new_tokens, rows=rows)
        encoded = engine.generator.encode_images(inputs)
        output = engine.model.generate(**encoded, max_new_tokens=first.max_new_tokens, **chosen)
    rows = requests_of(group, inputs)
    seconds = perf_counter() - start
    tokens = output[:, length:].tolist()
    return [preparer.answer(row, new, seconds=seconds) for row, new in zip(rows, tokens, strict=True)]


def requests_of(group: Sequence[BatchItem], inputs: Mapping[str, Any]) -> list[Request]:
    """Return one request a row of a group's inputs, with the grids of its images."""
    lengths, first, found = inputs["attention_mask"].sum(1).tolist(), 0, []
    for item, prompt_tokens in zip(group, lengths, strict=True):
        last = first + len(item.image_tokens)
        grids = {"image_grids": inputs["image_grids"][first:last]} if item.image_tokens else {}
        found.append(
            Request(
                inputs=grids,
                hd=item.setting.hd,
                partition=item.setting.partition,
                image_tokens=item.image_tokens,
                prompt_tokens=prompt_tokens,
                max_new_tokens=item.setting.max_new_tokens,
                stop=item.stop,
            )
        )
        first = last
    return found
