"""Several questions, each with its own pictures and settings, answered side by side: for benchmarks.

    requests --open, count--> items --_groups--> one setting each, tokens bounded --generate--> answers in order

Rows of a group are padded on the left and masked, so that an answer does not depend on its neighbours. Spec (i).
Pictures are looked at through the engine's store: several questions on one page see it once.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from PIL import Image

from ixc.core import chat_format
from ixc.core.tiling import partition as partition_of
from ixc.errors import ContextError, ImageError, UsageError
from ixc.inference.engine import Engine
from ixc.inference.sampling import Sampling
from ixc.processing.image_io import open_image
from ixc.utils.device import explain_out_of_memory, resolve_device, resolve_dtype

POSITIONS = 1 << 15
"""Most positions of prompts computed at once, beams counted, unless one question alone has more."""


MARKERS = 16
"""Tokens of a prompt's tags, estimated from above."""


@dataclass(frozen=True, kw_only=True)
class BatchRequest:
    """One question with its settings."""

    name: str
    """For the line of an error: "docvqa_val 49153"."""
    images: tuple[bytes, ...]
    """Encoded image files."""
    text: str
    """What the user says; with `raw` the whole prompt."""
    hd: int
    """Most tiles of 336 px an image may have, >= 1."""
    num_beams: int = 1
    """1 is greedy."""
    max_new_tokens: int = 100
    """Longest answer in tokens, >= 1."""
    raw: bool = False
    """True: `text` is a prompt with its tags, trusted word for word; images without an `<ImageHere>` stand first."""


@dataclass(frozen=True, kw_only=True)
class _Item:
    """A request with its pictures opened."""

    place: int
    request: BatchRequest
    segments: list[chat_format.Segment]
    length: int
    """Tokens of the prompt, those of the text estimated from above: one a letter."""

    @property
    def setting(self) -> tuple[int, int, int, bool, bool]:
        """What the rows of a group have in common."""
        asked = self.request
        return asked.hd, asked.num_beams, asked.max_new_tokens, asked.raw, bool(asked.images)


def answer(
    engine: Engine, requests: Sequence[BatchRequest], *, partition: str | None = None, positions: int = POSITIONS
) -> list[str]:
    """The answers, in the order of the requests, each the same as alone.

    Args:
        engine: model and processor.
        requests: of any settings.
        partition: rule, a key of `geometry.RULES`. None = the folder's setting.
        positions: most positions computed at once, beams counted.

    Raises:
        ImageError, GeometryError, UsageError, ContextError: of one request, which is named. CapacityError.
    """
    rule = engine.processor.image_processor.partition if partition is None else partition
    items = [_item(engine, place, request, rule) for place, request in enumerate(requests)]
    found: dict[int, str] = {}
    for group in _groups(items, positions):
        texts = _generate(engine, group, rule)
        found |= {item.place: text for item, text in zip(group, texts, strict=True)}
    return [found[place] for place in range(len(requests))]


def number_type(device: str, dtype: str) -> str:
    """What `engine.load` makes of these words on this machine: "float32", "bfloat16" or "float16".

    Raises:
        UsageError: no such device or type.
    """
    return str(resolve_dtype(dtype, resolve_device(device))).removeprefix("torch.")


def segments(request: BatchRequest, images: Sequence[Image.Image], *, system: str = "") -> list[chat_format.Segment]:
    """The prompt of a request. A published prompt keeps its tags; any other text is a user's turn and stays text.

    Raises:
        UsageError: a published prompt with another number of places than of images.
    """
    if not request.raw:
        turn = chat_format.Message("user", (*map(chat_format.Image, images), request.text))
        return chat_format.render([turn], system=system)
    found = chat_format.from_text(request.text)
    places = sum(segment.kind == "image" for segment in found)
    if places == 0:
        return [*(chat_format.Segment("image", image=chat_format.Image(image)) for image in images), *found]
    chat_format.check_images(placeholders=places, images=len(images))
    rest = iter(images)
    return [
        chat_format.Segment("image", image=chat_format.Image(next(rest))) if s.kind == "image" else s for s in found
    ]


def _item(engine: Engine, place: int, request: BatchRequest, rule: str) -> _Item:
    """Everything that can be wrong with a request is found here, and told with its name."""
    try:
        images = [open_image(image) for image in request.images]
        grids = [partition_of(image.width, image.height, hd=request.hd, rule=rule) for image in images]
        length = sum(engine.processor.num_image_tokens(grid.grid_h, grid.grid_w) for grid in grids)
        if length + request.max_new_tokens > engine.context:
            raise ContextError(
                f"{length:,} tokens of images and {request.max_new_tokens:,} of answer, but the model has "
                f"{engine.context:,} positions; use a lower --hd ({request.hd} now)"
            )
        prompt = segments(request, images, system=engine.processor.system)
    except (ImageError, ContextError, UsageError) as error:
        raise type(error)(f"{request.name}: {error}") from error
    return _Item(place=place, request=request, segments=prompt, length=length + len(request.text) + MARKERS)


def _groups(items: Sequence[_Item], positions: int) -> Iterator[list[_Item]]:
    """Items of one setting, of like length, together at most `positions` long."""
    group: list[_Item] = []
    for item in sorted(items, key=lambda item: (item.setting, -item.length, item.place)):
        if group:
            longest, beams = group[0].length, item.request.num_beams
            if item.setting != group[0].setting or (len(group) + 1) * beams * longest > positions:
                yield group
                group = []
        group.append(item)
    if group:
        yield group


@torch.inference_mode()
def _generate(engine: Engine, group: Sequence[_Item], rule: str) -> list[str]:
    first = group[0].request
    inputs: dict[str, Any] = engine.processor.encode_segments(
        [item.segments for item in group],
        bos_once=first.raw,
        hd=first.hd,
        partition=rule,
        padding_side="left",
        return_tensors="pt",
    )
    length = inputs["input_ids"].shape[1]
    _check_room(engine, group, length)
    chosen = Sampling(num_beams=first.num_beams).arguments(
        prompt_tokens=length, has_images=bool(first.images), start_id=engine.processor.tokenizer.bos_token_id
    )
    device, dtype = engine.model.device, engine.model.dtype
    what = f"{len(group)} x {length:,} tokens of prompt with {first.num_beams} beams"
    with explain_out_of_memory(what, device, dtype, f"lower --hd ({first.hd} now)"):
        if engine.compiled is not None:
            rows = len(group) * first.num_beams
            chosen |= engine.compiled.arguments(length + first.max_new_tokens, rows=rows)
        output = engine.model.generate(
            **engine.generator.encode_images(inputs), max_new_tokens=first.max_new_tokens, **chosen
        )
    return [engine.processor.decode_answer(row) for row in output[:, length:]]


def _check_room(engine: Engine, group: Sequence[_Item], length: int) -> None:
    wanted = group[0].request.max_new_tokens
    if length + wanted > engine.context:
        names = ", ".join(item.request.name for item in group[:3])
        raise ContextError(
            f"{names}: {length:,} tokens of prompt and {wanted:,} of answer, but the model has {engine.context:,} "
            "positions; use a lower --hd"
        )
