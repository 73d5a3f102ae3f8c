"""Mix several data sets into one endless, deterministic stream: weighted by record count, with an HD setting for each.

    round r:  [ slot 0 .. slot R-1 ]      R = sum of count * weight; every slot belongs to one source
               |  permuted by (seed, r): which source comes next
               v
              the k-th sample of source s  ->  its epoch k // count, permuted by (seed, s, epoch): which record

The position in the stream is two integers, (round, slot): a run resumed from them repeats and loses no sample. No
record of a source comes twice before every other record has come once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np

from ixc.core.tiling import check_hd
from ixc.data.encoding import TokenCache
from ixc.data.records import Record
from ixc.data.validation import DataProblem, Records
from ixc.errors import DataError, UsageError

_SLOTS, _RECORDS, _HD = 1, 2, 3
"""Random streams: the order of slots, the order of records, dynamic HD settings."""


@dataclass(frozen=True, kw_only=True)
class Source:
    """One data set of a mixture."""

    name: str
    """For messages and logs."""
    records: Records
    """The records."""
    hd: int
    """Most tiles per image: 25, or 55 for documents (paper, 4KHD fine-tuning)."""
    weight: float = 1.0
    """How often each record is sampled per round, above 0; 1 weights sources by record count."""
    indices: Sequence[int] | None = None
    """Numbers of the usable records (`validation.usable`); None: all."""
    dynamic: bool = False
    """Draw the setting of each sample between its image's own size and `hd`, as the paper does for all but HD-OCR data.
    The paper gives no distribution; here every number of tiles between them is equally probable."""
    shuffle: bool = True
    """False: in the order of the file, for streams without random access."""
    problems: Sequence[DataProblem] = ()
    """Why the other records are not among `indices`, for the report at the end of a run."""
    token_cache: TokenCache = field(default_factory=TokenCache, repr=False, compare=False)
    """Tokenised records; validation fills it and planning reads it."""

    @property
    def count(self) -> int:
        """Number of usable records."""
        return len(self.records) if self.indices is None else len(self.indices)

    @property
    def slots(self) -> int:
        """Slots per round."""
        return round(self.count * self.weight)


@dataclass(frozen=True)
class StreamPosition:
    """Position in a mixture's stream; saved with every checkpoint."""

    round: int = 0
    """Rounds completed."""
    slot: int = 0
    """Slots of this round completed."""


@dataclass(frozen=True, kw_only=True)
class SampledRecord:
    """One sample of the stream."""

    record: Record
    """The conversation."""
    source: Source
    """Its source."""
    index: int
    """Its number in the source."""
    dynamic_share: float
    """0 <= x < 1: where the setting lies between the image's own size and the source's hd; 1 where not dynamic."""

    def hd(self, native: int) -> int:
        """Return the HD setting of this sample.

        Args:
            native: tiles of its largest image at its own size, 1 .. the source's hd.
        """
        if not self.source.dynamic:
            return self.source.hd
        return native + int(self.dynamic_share * (self.source.hd - native + 1))


class Mixture:
    """An endless stream of samples from several sources.

    Raises:
        UsageError: no source, two of one name, a weight or an hd out of range.
        DataError: a source without usable records.
    """

    def __init__(self, sources: Sequence[Source], *, seed: int = 0) -> None:
        if not sources:
            raise UsageError("0 sources in the mixture, at least 1 needed")
        for source in sources:
            _check(source)
        names = [source.name for source in sources]
        if len(set(names)) < len(names):
            raise UsageError(f"{len(names)} sources have {len(set(names))} names; give each one of its own")
        self.sources, self.seed = tuple(sources), seed
        self._ends = np.cumsum([source.slots for source in sources])
        self._slot_order = lru_cache(maxsize=2)(self._permuted_slots)
        self._record_order = lru_cache(maxsize=2 * len(sources))(self._permuted_records)

    @property
    def round_length(self) -> int:
        """Samples per round."""
        return int(self._ends[-1])

    def shares(self) -> dict[str, float]:
        """Return source name -> share of the samples."""
        return {source.name: source.slots / self.round_length for source in self.sources}

    def advance(self, position: StreamPosition, samples: int) -> StreamPosition:
        """Return the position a number of samples further on."""
        rounds, slot = divmod(position.slot + samples, self.round_length)
        return StreamPosition(position.round + rounds, slot)

    def sample(self, position: StreamPosition) -> SampledRecord:
        """Return the sample at a position.

        Raises:
            RecordError: the record is broken.
        """
        source, record_number = self.record_at(position)
        share = self._random(_HD, position.round, position.slot).random() if source.dynamic else 1.0
        return SampledRecord(
            record=source.records[record_number], source=source, index=record_number, dynamic_share=share
        )

    def record_at(self, position: StreamPosition) -> tuple[Source, int]:
        """Return the source of the sample at a position, and the number of its record there; nothing is read."""
        number, index = self.locate(position)
        source = self.sources[number]
        return source, index if source.indices is None else source.indices[index]

    def num_drawn(self, position: StreamPosition) -> dict[str, int]:
        """Return source name -> number of different records before a position."""
        slots = self._slot_order(position.round)[: position.slot]
        return {source.name: self._num_drawn(number, position, slots) for number, source in enumerate(self.sources)}

    def _num_drawn(self, number: int, position: StreamPosition, slots: np.ndarray) -> int:
        source, before = self.sources[number], position.round * self.sources[number].slots
        if before >= source.count:
            return source.count
        start = int(self._ends[number]) - source.slots
        own = slots[(slots >= start) & (slots < start + source.slots)] - start
        epochs, indices = np.divmod(np.concatenate([np.arange(before), before + own]), source.count)
        drawn = [self._order(number, int(epoch))[indices[epochs == epoch]] for epoch in np.unique(epochs)]
        return len(np.unique(np.concatenate(drawn))) if drawn else 0

    def _order(self, number: int, epoch: int) -> np.ndarray:
        """Return the records of a source in the order of an epoch."""
        source = self.sources[number]
        return self._record_order(number, epoch) if source.shuffle else np.arange(source.count)

    def locate(self, position: StreamPosition) -> tuple[int, int]:
        """Return (number of the source, number among its usable records) of the sample at a position."""
        slot = int(self._slot_order(position.round)[position.slot])
        number = int(np.searchsorted(self._ends, slot, side="right"))
        source = self.sources[number]
        nth_sample = position.round * source.slots + slot - int(self._ends[number]) + source.slots
        epoch, index = divmod(nth_sample, source.count)
        return number, int(self._record_order(number, epoch)[index]) if source.shuffle else index

    def _permuted_slots(self, round_number: int) -> np.ndarray:
        """Return the slots of a round in random order; those of unshuffled sources stay in order among themselves."""
        order = self._random(_SLOTS, round_number).permutation(self.round_length)
        owners = np.searchsorted(self._ends, order, side="right")
        for number, source in enumerate(self.sources):
            if not source.shuffle:
                own = owners == number
                order[own] = np.sort(order[own])
        return order

    def _permuted_records(self, number: int, epoch: int) -> np.ndarray:
        return self._random(_RECORDS, number, epoch).permutation(self.sources[number].count)

    def _random(self, *key: int) -> np.random.Generator:
        return np.random.default_rng([self.seed, *key])


def _check(source: Source) -> None:
    if not source.weight > 0:
        raise UsageError(f"source {source.name} has weight {source.weight}, above 0 needed; leave it out instead")
    check_hd(source.hd, name=f"source {source.name}: hd")
    if not source.count:
        raise DataError(f"source {source.name} has 0 usable records, at least 1 needed; see ixc data check")
    if not source.slots:
        raise UsageError(
            f"source {source.name}: {source.count} records of weight {source.weight} give 0 draws; raise the weight"
        )
