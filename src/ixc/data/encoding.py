"""A record -> ids, labels and tiles, and their numbers before a single pixel is decoded. Spec (i), (j).

    record --chat.render_training--> segments --PromptEncoder--> ids, types --chat.labels--> labels
    headers of its pictures --geometry, layout--> tokens of each          (measuring ends here)
    pictures --image processor--> pixel_values, image_grids

Equal to `IxcProcessor.encode_training` (tested); taken apart so that a batch can be planned from headers.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ixc.core import chat_format
from ixc.core.chat_format import IGNORED
from ixc.core.tiling import Partition, partition
from ixc.data.records import Record, RecordError
from ixc.errors import DataError, GeometryError, ImageError, IxcError
from ixc.processing.image_io import open_image, read_size, to_rgb
from ixc.processing.processing import IxcProcessor
from ixc.processing.prompt_encoding import PromptEncoder
from ixc.utils.data_url import DataUrlError, decode_data_url


@dataclass(frozen=True, kw_only=True)
class EncodedText:
    """One conversation in ids."""

    ids: list[int]
    """Ids, the image token at every image token."""
    types: list[int]
    """1 at image tokens, else 0."""
    labels: list[int]
    """Not shifted; -100 where nothing is learned, and at the first position, which nothing stands before."""
    parts: tuple[Partition, ...]
    """Where the tiles of each picture go."""

    @property
    def tokens(self) -> int:
        """All of them, image tokens included."""
        return len(self.ids)

    @property
    def learned(self) -> int:
        """Labels that are learned from."""
        return sum(label != IGNORED for label in self.labels)

    @property
    def tiles(self) -> int:
        """Tiles of all pictures, overviews not counted."""
        return sum(part.tiles for part in self.parts)


@dataclass(frozen=True, kw_only=True)
class Encoded:
    """One conversation, ready for a batch."""

    text: EncodedText
    """Its ids and labels."""
    pixel_values: np.ndarray | None
    """(tiles, 3, 336, 336) uint8; None without pictures."""
    image_grids: np.ndarray | None
    """(images, 2) int64, rows and columns of tiles; None without pictures."""


class Encoder:
    """A processor's rules for training texts.

    Args:
        processor: tokenizer, image settings and layout.
        context: most tokens of one conversation.
    """

    def __init__(self, processor: IxcProcessor, *, context: int) -> None:
        self.processor, self.context = processor, context
        self.quirks = processor.published_quirks
        self._prompts = PromptEncoder(processor.tokenizer, published_quirks=self.quirks)
        self._turn_ids = self._prompts.turn_ids

    def sizes(self, record: Record) -> list[tuple[int, int]]:
        """(width, height) in pixels of its pictures, from their headers.

        Raises:
            RecordError: a picture is missing, broken or far too large.
        """
        return [self._size(source, record, number) for number, source in enumerate(record.images, 1)]

    def _size(self, source: Any, record: Record, number: int) -> tuple[int, int]:
        try:
            if isinstance(source, str) and source.startswith("data:"):
                source = _from_data_url(source)
            return read_size(source) if isinstance(source, str | bytes) else to_rgb(source).size
        except IxcError as error:
            raise RecordError("image", record.where, f"image {number}: {error}") from error

    def partitions(self, record: Record, *, hd: int, rule: str | None = None) -> list[Partition]:
        """Where the tiles of its pictures go.

        Raises:
            RecordError: as `sizes`, or an aspect ratio that has no partition under this hd.
        """
        rule = rule or self.processor.image_processor.partition
        found = []
        for number, size in enumerate(self.sizes(record), 1):
            try:
                found.append(partition(*size, hd=hd, rule=rule))
            except IxcError as error:
                raise RecordError("partition", record.where, f"image {number}: {error}") from error
        return found

    def image_tokens(self, part: Partition) -> int:
        """Tokens of a picture, newlines, overview and separator included."""
        return self.processor.num_image_tokens(part.grid_h, part.grid_w)

    def text(self, record: Record, *, hd: int, rule: str | None = None) -> EncodedText:
        """Ids and labels under a setting; pictures are looked at by header only.

        Args:
            hd: most tiles a picture.
            rule: partition rule; None: the processor's.

        Raises:
            RecordError: as `partitions`; more tokens than `context`; a text the tokenizer cannot take; no label.
        """
        parts = self.partitions(record, hd=hd, rule=rule)
        if self.quirks and record.messages[0].role == "system":
            raise RecordError(
                "system turn",
                record.where,
                "a system turn shifts the labels of the published prompt format (the question would be learned, the "
                "answer not); put its text into the first question, or take a processor without published_quirks",
            )
        ids, types = self._ids(record, parts)
        bare = [IGNORED if kind else token for token, kind in zip(ids, types, strict=True)]
        labels = chat_format.labels(bare, turn=self._turn_ids, published_quirks=self.quirks)
        labels[0] = IGNORED
        found = EncodedText(ids=ids, types=types, labels=labels, parts=tuple(parts))
        self._check(record, found, hd)
        return found

    def _ids(self, record: Record, parts: list[Partition]) -> tuple[list[int], list[int]]:
        try:
            prompt = chat_format.render_training(record.messages, published_quirks=self.quirks)
            row = self._prompts.row(prompt, counts=iter(map(self.image_tokens, parts)), bos=True, bos_once=True)
        except DataError as error:
            raise RecordError("tag in a text", record.where, str(error)) from error
        if self.quirks:
            row.add([self._prompts.eos_id])
        return row.ids, row.types

    def _check(self, record: Record, text: EncodedText, hd: int) -> None:
        """No answer may lie beyond the context: cut texts give silent losses of 0 (spec (j))."""
        images = sum(text.types)
        if text.tokens > self.context:
            first = next(i for i, label in enumerate(text.labels) if label != IGNORED)
            lost = f"the first answer begins at {first + 1:,}" if first >= self.context else "its end would be cut off"
            kind = "answer beyond the context" if first >= self.context else "beyond the context"
            raise RecordError(
                kind,
                record.where,
                f"{text.tokens:,} tokens at HD-{hd} ({images:,} of images), the context holds {self.context:,}, and "
                f"{lost}; {self._remedy(text, hd)}",
            )
        if not text.learned:
            raise RecordError(
                "no label", record.where, f"0 of {text.tokens:,} labels are learned from; write an answer"
            )

    def _remedy(self, text: EncodedText, hd: int) -> str:
        """The largest smaller HD that fits, if there is one."""
        words = text.tokens - sum(text.types)
        for smaller in range(hd - 1, 0, -1) if text.parts else ():
            try:
                parts = [partition(part.width, part.height, hd=smaller, rule=part.rule) for part in text.parts]
            except GeometryError:
                break
            if words + sum(map(self.image_tokens, parts)) <= self.context:
                return f"use HD-{smaller} or a longer context"
        return "shorten the text, take fewer images or a longer context"

    def encode(self, record: Record, *, hd: int, rule: str | None = None) -> Encoded:
        """The record with its pictures decoded. Arguments and errors as `text`.

        Raises:
            RecordError: also a picture whose pixels are broken behind a whole header.
        """
        text = self.text(record, hd=hd, rule=rule)
        if not text.parts:
            return Encoded(text=text, pixel_values=None, image_grids=None)
        rule = rule or self.processor.image_processor.partition
        try:
            pictures = [_opened(source) for source in record.images]
            seen = self.processor.image_processor(pictures, hd=hd, partition=rule, return_tensors="np")
        except IxcError as error:
            raise RecordError("image", record.where, str(error)) from error
        grids = np.asarray(seen["image_grids"])
        if [tuple(grid) for grid in grids.tolist()] != [(part.grid_h, part.grid_w) for part in text.parts]:
            raise RecordError(
                "image", record.where, "a picture has another size in its pixels than in its header; save it again"
            )
        return Encoded(text=text, pixel_values=np.asarray(seen["pixel_values"]), image_grids=grids)


def _opened(source: Any) -> Any:
    """Any source of a record -> an upright RGB picture."""
    if isinstance(source, str) and source.startswith("data:"):
        source = _from_data_url(source)
    return open_image(source) if isinstance(source, str | bytes) else to_rgb(source)


def _from_data_url(address: str) -> bytes:
    try:
        return decode_data_url(address)
    except DataUrlError as error:
        raise ImageError(f"a data URL of {len(address):,} characters: {error}; encode it again") from error
