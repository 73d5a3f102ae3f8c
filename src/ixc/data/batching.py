"""The batches of a training step: conversations packed to a token budget, pictures shared out evenly over the ranks.

    samples of one step (a fixed number of the mixture)            state: the mixture's two integers, nothing else
        |  measured by text and picture headers
        v
    packs of <= budget tokens, one HD setting a pack               an HD-55 pack holds fewer conversations
        |  shared out by tiles, the same number for every rank
        v
    rank: [ pack, pack, ... ] -> tensors

In a pack every conversation begins anew at position 0, and there is no `attention_mask`: that is how transformers knows
a pack, and takes variable-length attention where it is installed and a block mask otherwise.

Shapes: S tokens of a pack, N tiles and n pictures of all its conversations.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from ixc.core.chat_format import IGNORED
from ixc.core.tiling import partition
from ixc.data.encoding import EncodedText, Encoder
from ixc.data.mixture import Mixture, SampledRecord, StreamPosition
from ixc.errors import DataError, UsageError


@dataclass(frozen=True, kw_only=True)
class BatchSettings:
    """How the samples of a step become batches."""

    samples: int
    """Conversations of an optimiser step, all ranks together (the paper's batch size)."""
    budget: int
    """Most tokens of a pack: what one forward pass takes on one device."""
    ranks: int = 1
    """Devices that share a step."""

    def __post_init__(self) -> None:
        for name in ("samples", "budget", "ranks"):
            if getattr(self, name) < 1:
                raise UsageError(f"{name} is {getattr(self, name)}, at least 1 needed")
        if self.samples < self.ranks:
            raise UsageError(f"{self.samples} samples a step for {self.ranks} ranks; take at least one for each")


@dataclass(frozen=True, kw_only=True)
class MeasuredRecord:
    """A draw, measured."""

    draw: SampledRecord
    """The conversation and its source."""
    hd: int
    """Its setting."""
    text: EncodedText
    """Ids and labels."""


Pack = tuple[MeasuredRecord, ...]
"""Conversations of one forward pass."""


@dataclass(frozen=True, kw_only=True)
class StepBatch:
    """What all ranks do in one optimiser step."""

    packs: tuple[tuple[Pack, ...], ...]
    """rank -> its packs, the same number for every rank."""
    place: StreamPosition
    """Where the mixture stands behind this step: to be saved with the checkpoint."""

    @property
    def num_items(self) -> int:
        """Labels of the whole step over all ranks: the divisor that makes accumulation exact."""
        return sum(sample.text.learned for packs in self.packs for pack in packs for sample in pack)

    @property
    def tokens(self) -> int:
        """Tokens over all ranks."""
        return sum(sample.text.tokens for packs in self.packs for pack in packs for sample in pack)

    def tiles(self) -> list[int]:
        """Tiles by rank."""
        return [sum(sample.text.tiles for pack in packs for sample in pack) for packs in self.packs]


class Batches:
    """The steps of a mixture.

    Args:
        rule: partition rule; None: the processor's.
    """

    def __init__(self, mixture: Mixture, encoder: Encoder, *, settings: BatchSettings, rule: str | None = None) -> None:
        self.mixture, self.encoder, self.settings, self.rule = mixture, encoder, settings, rule

    def step(self, place: StreamPosition) -> StepBatch:
        """The step at a place: the same on every rank, from headers only.

        Raises:
            RecordError: a broken record. DataError: a conversation longer than the budget; no label in the step.
        """
        samples = [
            self.measure(self.mixture.draw(self.mixture.after(place, number)))
            for number in range(self.settings.samples)
        ]
        packs = pack(samples, budget=self.settings.budget, ranks=self.settings.ranks)
        step = StepBatch(
            packs=share_out(packs, ranks=self.settings.ranks), place=self.mixture.after(place, self.settings.samples)
        )
        if not step.num_items:
            raise DataError(f"0 of {step.tokens:,} labels of the step are learned from; see ixc data check")
        return step

    def measure(self, draw: SampledRecord) -> MeasuredRecord:
        """Its setting, ids and labels."""
        hd = draw.source.hd
        if draw.source.dynamic and draw.record.images:
            sizes = self.encoder.sizes(draw.record)
            hd = draw.hd(max(partition(*size, hd=hd, rule="native").tiles for size in sizes))
        return MeasuredRecord(draw=draw, hd=hd, text=self.encoder.text(draw.record, hd=hd, rule=self.rule))

    def tensors(self, samples: Pack) -> dict[str, torch.Tensor]:
        """A pack as the model takes it, on the CPU.

        Returns:
            input_ids, position_ids, mm_token_type_ids, labels (1, S) int64; with pictures pixel_values
            (N, 3, 336, 336) uint8 and image_grids (n, 2) int64.

        Raises:
            RecordError: a picture whose pixels are broken. DataError: no label in the pack.
        """
        return collate([self.encoder.encode(s.draw.record, hd=s.hd, rule=self.rule) for s in samples])


def collate(encoded: Sequence[Any]) -> dict[str, torch.Tensor]:
    """Encoded conversations -> one pack. Shapes and errors as `Batches.tensors`."""
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
    seen = [one for one in encoded if one.pixel_values is not None]
    if seen:
        batch["pixel_values"] = torch.from_numpy(np.concatenate([one.pixel_values for one in seen]))
        batch["image_grids"] = torch.from_numpy(np.concatenate([one.image_grids for one in seen]))
    return batch


def pack(samples: Sequence[MeasuredRecord], *, budget: int, ranks: int = 1) -> list[Pack]:
    """As few packs as first fit needs, then the conversations levelled over them by tiles; one source setting a pack.

    Returns:
        A multiple of `ranks` packs.

    Raises:
        DataError: a conversation longer than the budget; fewer conversations than packs are due.
    """
    groups: dict[int, list[MeasuredRecord]] = {}
    for sample in sorted(samples, key=lambda one: (one.text.tokens, one.text.tiles), reverse=True):
        _check_budget(sample, budget)
        groups.setdefault(sample.draw.source.hd, []).append(sample)
    counts = {hd: _first_fit(group, budget) for hd, group in groups.items()}
    while True:
        if sum(counts.values()) % ranks:
            _add_one(counts, groups)
            continue
        levelled = {hd: _level(group, counts[hd], budget) for hd, group in groups.items()}
        full = [hd for hd, packs in levelled.items() if packs is None]
        if not full:
            return [tuple(one) for hd in sorted(groups, reverse=True) for one in levelled[hd] or ()]
        for hd in full:
            counts[hd] += 1


def _check_budget(sample: MeasuredRecord, budget: int) -> None:
    if sample.text.tokens > budget:
        raise DataError(
            f"{sample.draw.record.where}: {sample.text.tokens:,} tokens at HD-{sample.hd}, a pack holds {budget:,}; "
            "raise the budget or lower the hd of its source"
        )


def _first_fit(samples: Sequence[MeasuredRecord], budget: int) -> int:
    """Packs that first fit by falling length needs."""
    room: list[int] = []
    for sample in samples:
        at = next((i for i, left in enumerate(room) if sample.text.tokens <= left), None)
        if at is None:
            room.append(budget - sample.text.tokens)
        else:
            room[at] -= sample.text.tokens
    return len(room)


def _add_one(counts: dict[int, int], groups: dict[int, list[MeasuredRecord]]) -> None:
    """One pack more, where packs are fullest: every rank must run as many passes as the others."""
    fullest = max(counts, key=lambda hd: len(groups[hd]) / counts[hd])
    if counts[fullest] >= len(groups[fullest]):
        raise DataError(
            f"{sum(counts.values())} packs of one conversation each cannot be shared out evenly; "
            "take a multiple of the ranks as samples a step"
        )
    counts[fullest] += 1


def _level(samples: Sequence[MeasuredRecord], count: int, budget: int) -> list[list[MeasuredRecord]] | None:
    """Longest first, each to the pack with the fewest tiles that has room; None where one finds no room."""
    packs: list[list[MeasuredRecord]] = [[] for _ in range(count)]
    load = [(0, 0)] * count
    for sample in samples:
        tiles, tokens = sample.text.tiles, sample.text.tokens
        open_packs = [i for i in range(count) if load[i][1] + tokens <= budget]
        if not open_packs:
            return None
        at = min(open_packs, key=load.__getitem__)
        packs[at].append(sample)
        load[at] = (load[at][0] + tiles, load[at][1] + tokens)
    return packs if all(packs) else None


def share_out(packs: Sequence[Pack], *, ranks: int) -> tuple[tuple[Pack, ...], ...]:
    """Packs to ranks, the same number each, by falling number of tiles to the rank with the fewest so far."""
    each = len(packs) // ranks
    mine: list[list[Pack]] = [[] for _ in range(ranks)]
    load = [(0, 0)] * ranks
    sizes = [(sum(s.text.tiles for s in one), sum(s.text.tokens for s in one)) for one in packs]
    for number in sorted(range(len(packs)), key=lambda i: sizes[i], reverse=True):
        rank = min((r for r in range(ranks) if len(mine[r]) < each), key=lambda r: load[r])
        mine[rank].append(packs[number])
        load[rank] = (load[rank][0] + sizes[number][0], load[rank][1] + sizes[number][1])
    return tuple(map(tuple, mine))
