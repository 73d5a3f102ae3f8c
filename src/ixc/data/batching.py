"""Pack the conversations of an optimiser step into batches of a token budget, shared out evenly over the ranks.

    samples of one step (a fixed number of the mixture)            state: the mixture's two integers, nothing else
        |  measured from text and image headers
        v
    packs of <= max_tokens_per_batch tokens, one HD setting each   an HD-55 pack holds fewer conversations
        |  shared out by tiles, the same number of packs for every rank
        v
    rank: [ pack, pack, ... ] -> tensors

In a pack the positions of every conversation begin at 0, and there is no `attention_mask`. transformers detects packing
by that: it uses variable-length attention where it is installed, and a block-diagonal
packing mask (`causal_mask` of `model/transformers_contract.py`) otherwise.

Shapes: S tokens of a pack, N tiles and n images of all its conversations.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from ixc.core import tiling
from ixc.core.chat_format import IGNORED
from ixc.data.encoding import Encoded, EncodedText, Encoder
from ixc.data.mixture import Mixture, SampledRecord, StreamPosition
from ixc.data.records import RecordError
from ixc.data.skipped_records import SkippedRecords
from ixc.errors import DataError, UsageError


@dataclass(frozen=True, kw_only=True)
class BatchSettings:
    """Sizes of an optimiser step and of its packs."""

    global_batch_size: int
    """Conversations per optimiser step, summed over all ranks (the paper's batch size)."""
    max_tokens_per_batch: int
    """Most tokens of a pack, which is one forward pass on one device."""
    world_size: int = 1
    """Ranks that share a step."""

    def __post_init__(self) -> None:
        for name in ("global_batch_size", "max_tokens_per_batch", "world_size"):
            if getattr(self, name) < 1:
                raise UsageError(f"{name} is {getattr(self, name)}, at least 1 needed")
        if self.global_batch_size < self.world_size:
            raise UsageError(
                f"{self.global_batch_size} samples a step for {self.world_size} ranks; take at least one for each"
            )


@dataclass(frozen=True, kw_only=True)
class MeasuredRecord:
    """A sample with its token and tile counts."""

    sampled: SampledRecord
    """The conversation and its source."""
    hd: int
    """HD setting of this sample."""
    text: EncodedText
    """Ids and labels."""


Pack = tuple[MeasuredRecord, ...]
"""Conversations of one forward pass."""


@dataclass(frozen=True, kw_only=True)
class StepBatch:
    """The packs of all ranks in one optimiser step."""

    packs: tuple[tuple[Pack, ...], ...]
    """Packs by rank, the same number for every rank."""
    position: StreamPosition
    """Position in the mixture after this step; saved with the checkpoint."""

    @property
    def num_labels(self) -> int:
        """Labels of the step over all ranks: the divisor that makes gradient accumulation exact."""
        return sum(sample.text.num_labels for packs in self.packs for pack in packs for sample in pack)

    @property
    def tokens(self) -> int:
        """Tokens of the step over all ranks."""
        return sum(sample.text.tokens for packs in self.packs for pack in packs for sample in pack)

    def tiles(self) -> list[int]:
        """Return the number of tiles by rank."""
        return [sum(sample.text.tiles for pack in packs for sample in pack) for packs in self.packs]


class Batches:
    """The optimiser steps of a mixture.

    Args:
        mixture: the data.
        encoder: encoder of the conversations.
        settings: sizes.
        partition: partition rule; None: the processor's.
        skipped: records to leave out; those that fail are added to it. None: a record that fails is an error.
    """

    def __init__(
        self,
        mixture: Mixture,
        encoder: Encoder,
        *,
        settings: BatchSettings,
        partition: str | None = None,
        skipped: SkippedRecords | None = None,
    ) -> None:
        self.mixture, self.encoder, self.settings, self.partition = mixture, encoder, settings, partition
        self.skipped = skipped

    def step(self, position: StreamPosition) -> StepBatch:
        """Plan the step at a position: the same on every rank that leaves out the same records, from image headers.

        Raises:
            RecordError: a broken record, unless it is left out. DataError: a conversation longer than a pack; no label
                in the step; every record left out.
        """
        world_size = self.settings.world_size
        samples, end = self._next_samples(position)
        packs = pack(samples, max_tokens=self.settings.max_tokens_per_batch, world_size=world_size)
        step = StepBatch(packs=share_out(packs, world_size=world_size), position=end)
        if not step.num_labels:
            raise DataError(f"0 of {step.tokens:,} labels of the step are learned from; see ixc data check")
        return step

    def _next_samples(self, position: StreamPosition) -> tuple[list[MeasuredRecord], StreamPosition]:
        """Return the samples of the step at a position, and the position after them."""
        samples: list[MeasuredRecord] = []
        while len(samples) < self.settings.global_batch_size:
            here, position = position, self.mixture.advance(position, 1)
            if self.skipped is None:
                samples.append(self.measure(self.mixture.sample(here)))
                continue
            self._check_some_left(self.skipped)
            source, index = self.mixture.record_at(here)
            if (source.name, index) in self.skipped:
                continue
            try:
                samples.append(self.measure(self.mixture.sample(here)))
            except RecordError as error:
                self.skipped.add(source.name, index, error)
        return samples, position

    def _check_some_left(self, skipped: SkippedRecords) -> None:
        count = sum(source.count for source in self.mixture.sources)
        if len(skipped) >= count:
            first = next(one for source in self.mixture.sources for one in skipped.of(source.name))
            raise DataError(f"0 of {count:,} records can be used, all of them fail; the first: {first}")

    def measure(self, sampled: SampledRecord) -> MeasuredRecord:
        """Choose the HD setting of a sample and encode its text."""
        source, record = sampled.source, sampled.record
        tokenized = source.token_cache.tokenized(sampled.index, record, self.encoder)
        hd = source.hd
        if source.dynamic and tokenized.image_sizes:
            sizes = tokenized.image_sizes
            hd = sampled.hd(max(tiling.partition(*size, hd=hd, rule="native").tiles for size in sizes))
        text = self.encoder.text(record, hd=hd, partition=self.partition, tokenized=tokenized)
        return MeasuredRecord(sampled=sampled, hd=hd, text=text)

    def tensors(self, samples: Pack) -> dict[str, torch.Tensor]:
        """Return a pack as the model takes it, on the CPU.

        Returns:
            input_ids, position_ids, mm_token_type_ids, labels (1, S) int64; with images pixel_values
            (N, 3, 336, 336) uint8 and image_grids (n, 2) int64.

        Raises:
            RecordError: an image whose pixels are broken. DataError: no label in the pack.
        """
        return collate([self._encode(one) for one in samples])

    def try_tensors(self, samples: Pack) -> dict[str, torch.Tensor] | None:
        """Return a pack as `tensors` does; None if some of its records fail, which are all added to `skipped`."""
        assert self.skipped is not None
        encoded = []
        for one in samples:
            try:
                encoded.append(self._encode(one))
            except RecordError as error:
                self.skipped.add(one.sampled.source.name, one.sampled.index, error)
        return collate(encoded) if len(encoded) == len(samples) else None

    def _encode(self, one: MeasuredRecord) -> Encoded:
        return self.encoder.encode(one.sampled.record, hd=one.hd, partition=self.partition, text=one.text)


def collate(encoded: Sequence[Encoded]) -> dict[str, torch.Tensor]:
    """Concatenate encoded conversations into one pack. Shapes and errors as `Batches.tensors`."""
    texts = [one.text for one in encoded]
    data = {
        "input_ids": [token for text in texts for token in text.ids],
        "position_ids": [position for text in texts for position in range(text.tokens)],
        "mm_token_type_ids": [kind for text in texts for kind in text.types],
        "labels": [label for text in texts for label in text.labels],
    }
    if all(label == IGNORED for label in data["labels"]):
        raise DataError(
            f"0 of the {len(data['labels']):,} labels of a batch of {len(texts)} conversations are learned from; "
            "see ixc data check"
        )
    batch = {name: torch.tensor([row]) for name, row in data.items()}
    tiles = [one.pixel_values for one in encoded if one.pixel_values is not None]
    grids = [one.image_grids for one in encoded if one.image_grids is not None]
    if tiles:
        batch["pixel_values"] = torch.from_numpy(np.concatenate(tiles))
        batch["image_grids"] = torch.from_numpy(np.concatenate(grids))
    return batch


def pack(samples: Sequence[MeasuredRecord], *, max_tokens: int, world_size: int = 1) -> list[Pack]:
    """Pack conversations into as few packs as first fit needs, balanced by tiles; one source setting per pack.

    Returns:
        A multiple of `world_size` packs.

    Raises:
        DataError: a conversation longer than a pack; fewer conversations than packs are needed.
    """
    groups: dict[int, list[MeasuredRecord]] = {}
    for sample in sorted(samples, key=lambda one: (one.text.tokens, one.text.tiles), reverse=True):
        _check_length(sample, max_tokens)
        groups.setdefault(sample.sampled.source.hd, []).append(sample)
    counts = {hd: _first_fit_count(group, max_tokens) for hd, group in groups.items()}
    while True:
        if sum(counts.values()) % world_size:
            _add_one(counts, groups)
            continue
        balanced = {hd: _balance(group, counts[hd], max_tokens) for hd, group in groups.items()}
        failed = [hd for hd, packs in balanced.items() if packs is None]
        if not failed:
            return [tuple(one) for hd in sorted(groups, reverse=True) for one in balanced[hd] or ()]
        for hd in failed:
            counts[hd] += 1


def _check_length(sample: MeasuredRecord, max_tokens: int) -> None:
    if sample.text.tokens > max_tokens:
        raise DataError(
            f"{sample.sampled.record.where}: {sample.text.tokens:,} tokens at HD-{sample.hd}, a pack holds "
            f"{max_tokens:,}; raise max_tokens_per_batch or lower the hd of its source"
        )


def _first_fit_count(samples: Sequence[MeasuredRecord], max_tokens: int) -> int:
    """Return the number of packs that first fit by falling length needs."""
    free: list[int] = []  # tokens left by pack
    for sample in samples:
        index = next((i for i, left in enumerate(free) if sample.text.tokens <= left), None)
        if index is None:
            free.append(max_tokens - sample.text.tokens)
        else:
            free[index] -= sample.text.tokens
    return len(free)


def _add_one(counts: dict[int, int], groups: dict[int, list[MeasuredRecord]]) -> None:
    """Add a pack to the setting with the most conversations per pack: every rank must run as many passes."""
    fullest = max(counts, key=lambda hd: len(groups[hd]) / counts[hd])
    if counts[fullest] >= len(groups[fullest]):
        raise DataError(
            f"{sum(counts.values())} packs of one conversation each cannot be shared out evenly; "
            "take a multiple of the ranks as samples a step"
        )
    counts[fullest] += 1


def _balance(samples: Sequence[MeasuredRecord], count: int, max_tokens: int) -> list[list[MeasuredRecord]] | None:
    """Put each sample, longest first, into the pack with the fewest tiles that it fits; None where one fits nowhere."""
    packs: list[list[MeasuredRecord]] = [[] for _ in range(count)]
    load = [(0, 0)] * count  # (tiles, tokens) by pack
    for sample in samples:
        tiles, tokens = sample.text.tiles, sample.text.tokens
        fitting = [i for i in range(count) if load[i][1] + tokens <= max_tokens]
        if not fitting:
            return None
        index = min(fitting, key=load.__getitem__)
        packs[index].append(sample)
        load[index] = (load[index][0] + tiles, load[index][1] + tokens)
    return packs if all(packs) else None


def share_out(packs: Sequence[Pack], *, world_size: int) -> tuple[tuple[Pack, ...], ...]:
    """Assign packs to ranks, the same number each: by falling number of tiles to the rank with the fewest so far."""
    per_rank = len(packs) // world_size
    assigned: list[list[Pack]] = [[] for _ in range(world_size)]
    load = [(0, 0)] * world_size
    sizes = [(sum(s.text.tiles for s in one), sum(s.text.tokens for s in one)) for one in packs]
    for number in sorted(range(len(packs)), key=lambda i: sizes[i], reverse=True):
        rank = min((r for r in range(world_size) if len(assigned[r]) < per_rank), key=lambda r: load[r])
        assigned[rank].append(packs[number])
        load[rank] = (load[rank][0] + sizes[number][0], load[rank][1] + sizes[number][1])
    return tuple(map(tuple, assigned))
