"""Encode a record into ids, labels and tiles; everything but the tiles without decoding a pixel. Spec (i), (j).

    record --chat_format.render_training--> segments --PromptEncoder--> TokenizedRecord    (once per record)
    TokenizedRecord + image sizes --tiling.partition, HD--> image tokens --> EncodedText   (measured from headers)
    images --image processor--> pixel_values, image_grids

The result equals that of `IxcProcessor.encode_training` (tested). The steps are separate so that a batch can be planned
from image headers, and so that a record is tokenised once: validation, planning and encoding share a `TokenCache`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import repeat
from typing import Any

import numpy as np

from ixc.core import chat_format, tiling
from ixc.core.chat_format import IGNORED
from ixc.core.tiling import Partition
from ixc.data.image_sources import open_images, read_sizes
from ixc.data.records import Record, RecordError
from ixc.errors import DataError, GeometryError, IxcError
from ixc.processing.processing import IxcProcessor
from ixc.processing.prompt_encoding import PromptEncoder

CACHE_TOKENS = 32_000_000
"""Text tokens a `TokenCache` keeps: 8 bytes each, 256 MB."""


@dataclass(frozen=True, kw_only=True)
class TokenizedRecord:
    """A conversation in ids with one placeholder per image: all that does not depend on the HD setting."""

    ids: np.ndarray
    """(P,) int32, one image token per image."""
    labels: np.ndarray
    """(P,) int32, not shifted; -100 where there is no label."""
    image_positions: tuple[int, ...]
    """Index of every image in `ids`."""
    image_sizes: tuple[tuple[int, int], ...]
    """(width, height) of every image in px, from its header."""


@dataclass(frozen=True, kw_only=True)
class EncodedText:
    """A conversation in ids under one HD setting, S tokens."""

    ids: list[int]
    """Token ids, S of them; the image token at every image position."""
    types: list[int]
    """1 at image tokens, else 0."""
    labels: list[int]
    """Not shifted; -100 where there is no label, and at the first position, which no position predicts."""
    partitions: tuple[Partition, ...]
    """Tile grid of every image."""

    @property
    def tokens(self) -> int:
        """Number of tokens, image tokens included."""
        return len(self.ids)

    @property
    def num_labels(self) -> int:
        """Number of labels other than -100."""
        return sum(label != IGNORED for label in self.labels)

    @property
    def tiles(self) -> int:
        """Tiles of all images, without the overviews."""
        return sum(part.tiles for part in self.partitions)


@dataclass(frozen=True, kw_only=True)
class Encoded:
    """A conversation with its images, ready for a batch."""

    text: EncodedText
    """Ids and labels."""
    pixel_values: np.ndarray | None
    """(tiles, 3, 336, 336) uint8; None without images."""
    image_grids: np.ndarray | None
    """(images, 2) int64, rows and columns of tiles; None without images."""


class Encoder:
    """Encode training conversations by the rules of a processor.

    Args:
        processor: tokenizer, image settings and prompt format.
        max_seq_length: most tokens of one conversation.
    """

    def __init__(self, processor: IxcProcessor, *, max_seq_length: int) -> None:
        self.processor, self.max_seq_length = processor, max_seq_length
        self.quirks = processor.published_quirks
        self._prompts = PromptEncoder(processor.tokenizer, published_quirks=self.quirks)
        self._turn_ids = self._prompts.turn_ids

    def sizes(self, record: Record) -> list[tuple[int, int]]:
        """Return (width, height) of its images in px, from their headers; errors as `image_sources.read_sizes`."""
        return read_sizes(record)

    def tokenize(self, record: Record) -> TokenizedRecord:
        """Tokenise a record and read the headers of its images.

        Raises:
            RecordError: as `sizes`; a text the tokenizer cannot take; a system turn under published quirks.
        """
        sizes = self.sizes(record)
        if self.quirks and record.messages[0].role == "system":
            raise RecordError(
                "system turn",
                record.where,
                "a system turn shifts the labels of the published prompt format (the question would be learned, the "
                "answer not); put its text into the first question, or take a processor without published_quirks",
            )
        ids, types = self._ids(record)
        without_images = [IGNORED if kind else token for token, kind in zip(ids, types, strict=True)]
        labels = chat_format.labels(without_images, turn=self._turn_ids, published_quirks=self.quirks)
        labels[0] = IGNORED
        return TokenizedRecord(
            ids=np.asarray(ids, np.int32),
            labels=np.asarray(labels, np.int32),
            image_positions=tuple(i for i, kind in enumerate(types) if kind),
            image_sizes=tuple(sizes),
        )

    def _ids(self, record: Record) -> tuple[list[int], list[int]]:
        """Return ids and types with one image token per image."""
        try:
            prompt = chat_format.render_training(record.messages, published_quirks=self.quirks)
            row = self._prompts.row(prompt, counts=repeat(1), bos=True, bos_once=True)
        except DataError as error:
            raise RecordError("tag in a text", record.where, str(error)) from error
        if self.quirks:
            row.add([self._prompts.eos_id])
        return row.ids, row.types

    def partitions(
        self, sizes: Sequence[tuple[int, int]], *, where: str, hd: int, partition: str | None = None
    ) -> tuple[Partition, ...]:
        """Return the tile grids of images.

        Args:
            sizes: (width, height) of every image, px.
            where: file and line of the record.
            hd: most tiles per image.
            partition: partition rule; None: the processor's.

        Raises:
            RecordError: an aspect ratio that has no partition under this hd.
        """
        rule = partition or self.processor.image_processor.partition
        grids = []
        for number, size in enumerate(sizes, 1):
            try:
                grids.append(tiling.partition(*size, hd=hd, rule=rule))
            except IxcError as error:
                raise RecordError("partition", where, f"image {number}: {error}") from error
        return tuple(grids)

    def image_tokens(self, grid: Partition) -> int:
        """Return the tokens of an image, newlines, overview and separator included."""
        return self.processor.num_image_tokens(grid.grid_h, grid.grid_w)

    def text(
        self, record: Record, *, hd: int, partition: str | None = None, tokenized: TokenizedRecord | None = None
    ) -> EncodedText:
        """Encode a record under an HD setting, without its pixels.

        Args:
            record: the conversation.
            hd: most tiles per image.
            partition: partition rule; None: the processor's.
            tokenized: what `tokenize` returned for the record; None: tokenise it now.

        Raises:
            RecordError: as `tokenize` and `partitions`; more tokens than `max_seq_length`; no label.
        """
        tokenized = self.tokenize(record) if tokenized is None else tokenized
        grids = self.partitions(tokenized.image_sizes, where=record.where, hd=hd, partition=partition)
        text = _expand(tokenized, grids, list(map(self.image_tokens, grids)))
        self._check(record, text, hd)
        return text

    def _check(self, record: Record, text: EncodedText, hd: int) -> None:
        """Refuse a conversation beyond the context: a text cut before its answer has a silent loss of 0 (spec (j))."""
        images = sum(text.types)
        if text.tokens > self.max_seq_length:
            first = next(i for i, label in enumerate(text.labels) if label != IGNORED)
            answer_lost = first >= self.max_seq_length
            lost = f"the first answer begins at {first + 1:,}" if answer_lost else "its end would be cut off"
            raise RecordError(
                "answer beyond the context" if answer_lost else "beyond the context",
                record.where,
                f"{text.tokens:,} tokens at HD-{hd} ({images:,} of images), the context holds "
                f"{self.max_seq_length:,}, and {lost}; {self._remedy(text, hd)}",
            )
        if not text.num_labels:
            raise RecordError(
                "no label", record.where, f"0 of {text.tokens:,} labels are learned from; write an answer"
            )

    def _remedy(self, text: EncodedText, hd: int) -> str:
        """Name the largest smaller HD that fits, if there is one."""
        text_tokens = text.tokens - sum(text.types)
        for smaller in range(hd - 1, 0, -1) if text.partitions else ():
            try:
                grids = [tiling.partition(one.width, one.height, hd=smaller, rule=one.rule) for one in text.partitions]
            except GeometryError:
                break
            if text_tokens + sum(map(self.image_tokens, grids)) <= self.max_seq_length:
                return f"use HD-{smaller} or a longer context"
        return "shorten the text, take fewer images or a longer context"

    def encode(
        self, record: Record, *, hd: int, partition: str | None = None, text: EncodedText | None = None
    ) -> Encoded:
        """Encode a record with its images decoded.

        Args:
            record: the conversation.
            hd: most tiles per image.
            partition: partition rule; None: the processor's.
            text: what `text` returned for these arguments; None: encode it now.

        Raises:
            RecordError: as `text`; also an image whose pixels are broken behind an intact header.
        """
        text = self.text(record, hd=hd, partition=partition) if text is None else text
        if not text.partitions:
            return Encoded(text=text, pixel_values=None, image_grids=None)
        rule = partition or self.processor.image_processor.partition
        images = open_images(record)
        try:
            processed = self.processor.image_processor(images, hd=hd, partition=rule, return_tensors="np")
        except IxcError as error:
            raise RecordError("image", record.where, str(error)) from error
        grids = np.asarray(processed["image_grids"])
        if [tuple(grid) for grid in grids.tolist()] != [(grid.grid_h, grid.grid_w) for grid in text.partitions]:
            raise RecordError(
                "image", record.where, "a picture has another size in its pixels than in its header; save it again"
            )
        return Encoded(text=text, pixel_values=np.asarray(processed["pixel_values"]), image_grids=grids)

    def check_pixels(self, record: Record, sizes: Sequence[tuple[int, int]]) -> None:
        """Decode the images of a record, and compare their sizes with those of `sizes`, of their headers.

        Raises:
            RecordError: an image that cannot be decoded, or has another size.
        """
        for number, (image, size) in enumerate(zip(open_images(record), sizes, strict=True), 1):
            if image.size != size:
                raise RecordError(
                    "image",
                    record.where,
                    f"image {number} has {image.width} x {image.height} px and {size[0]} x {size[1]} in its header; "
                    "save it again",
                )


class TokenCache:
    """Tokenised records of one source by number, so that each is tokenised once in a run.

    A full cache keeps what it has: every epoch reads all records in another order, so that evicting the oldest would
    leave hardly any hit.

    Args:
        max_tokens: most text tokens kept.
    """

    def __init__(self, *, max_tokens: int = CACHE_TOKENS) -> None:
        self.max_tokens, self.tokens = max_tokens, 0
        self._records: dict[int, TokenizedRecord] = {}
        self._rules: tuple[Any, bool] | None = None

    def tokenized(self, index: int, record: Record, encoder: Encoder) -> TokenizedRecord:
        """Return record `index` tokenised, from the cache if it is there. Errors as `Encoder.tokenize`."""
        self._check_rules(encoder)
        found = self._records.get(index)
        if found is None:
            found = encoder.tokenize(record)
            if self.tokens + len(found.ids) <= self.max_tokens:
                self._records[index] = found
                self.tokens += len(found.ids)
        return found

    def _check_rules(self, encoder: Encoder) -> None:
        """Empty the cache for an encoder with another tokenizer or prompt format."""
        tokenizer, quirks = encoder.processor.tokenizer, encoder.quirks
        if self._rules is not None and (self._rules[0] is not tokenizer or self._rules[1] != quirks):
            self._records.clear()
            self.tokens = 0
        self._rules = (tokenizer, quirks)


def _expand(tokenized: TokenizedRecord, grids: tuple[Partition, ...], counts: Sequence[int]) -> EncodedText:
    """Replace the placeholder of every image by its image tokens."""
    short_ids, short_labels = tokenized.ids.tolist(), tokenized.labels.tolist()
    ids: list[int] = []
    types: list[int] = []
    labels: list[int] = []
    start = 0
    for position, count in zip(tokenized.image_positions, counts, strict=True):
        ids += [*short_ids[start:position], *[short_ids[position]] * count]
        types += [*[0] * (position - start), *[1] * count]
        labels += [*short_labels[start:position], *[IGNORED] * count]
        start = position + 1
    return EncodedText(
        ids=ids + short_ids[start:],
        types=types + [0] * (len(short_ids) - start),
        labels=labels + short_labels[start:],
        partitions=grids,
    )
