"""Several data sets as one endless, deterministic stream. Paper: weighted by data count, an HD for each.

    round r:  [ slot 0 .. slot R-1 ]      R = sum of count * weight, every slot belongs to one source
               |  shuffled by (seed, r): which source is due
               v
              the k-th draw of source s  ->  its pass k // count, shuffled by (seed, s, pass): which record

Where the stream stands is two integers, (round, slot): a run that goes on with them repeats and loses no sample.
No record of a source comes twice before every other has come once.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from ixc.data.records import Record
from ixc.data.validation import Records
from ixc.errors import DataError, UsageError

_SLOTS, _RECORDS, _HD = 1, 2, 3
"""Purposes of random numbers: one stream each."""


@dataclass(frozen=True, kw_only=True)
class Source:
    """One data set of a mixture."""

    name: str
    """For messages and logs."""
    records: Records
    """Its records."""
    hd: int
    """Most tiles a picture: 25, or 55 for the documents (paper, 4KHD fine-tuning)."""
    weight: float = 1.0
    """Times each record is drawn in a round, above 0; 1 = weighted by count."""
    keep: Sequence[int] | None = None
    """Numbers of the usable records (`check.usable`); None: all."""
    dynamic: bool = False
    """Draw the setting of each picture between its own size and `hd`, as the paper did for all but HD-OCR data. The
    paper gives no rule; here each number of tiles between is equally probable."""
    shuffle: bool = True
    """False: in the order of the file, for streams that cannot jump."""

    @property
    def count(self) -> int:
        """Usable records."""
        return len(self.records) if self.keep is None else len(self.keep)

    @property
    def draws(self) -> int:
        """Slots of a round."""
        return round(self.count * self.weight)


@dataclass(frozen=True)
class StreamPosition:
    """Where a mixture stands: all there is to save."""

    round: int = 0
    """Rounds gone through."""
    slot: int = 0
    """Slots of this round gone through."""


@dataclass(frozen=True, kw_only=True)
class SampledRecord:
    """One sample of the stream."""

    record: Record
    """The conversation."""
    source: Source
    """Where it is from."""
    index: int
    """Its number in the source."""
    dynamic_share: float
    """0 <= x < 1: where between a picture's own size and the source's hd its setting lies; 1 where not dynamic."""

    def hd(self, native: int) -> int:
        """The setting of this sample.

        Args:
            native: tiles of its largest picture at its own size, 1 .. the source's hd.
        """
        if not self.source.dynamic:
            return self.source.hd
        return native + int(self.dynamic_share * (self.source.hd - native + 1))


class Mixture:
    """The stream of several sources.

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
        self._ends = np.cumsum([source.draws for source in sources])
        self._order = lru_cache(maxsize=2)(self._slots)
        self._record_order = lru_cache(maxsize=2 * len(sources))(self._records)

    @property
    def round_length(self) -> int:
        """Samples of a round."""
        return int(self._ends[-1])

    def shares(self) -> dict[str, float]:
        """Part of the samples by source."""
        return {source.name: source.draws / self.round_length for source in self.sources}

    def after(self, place: StreamPosition, samples: int) -> StreamPosition:
        """The place so many samples further on."""
        rounds, slot = divmod(place.slot + samples, self.round_length)
        return StreamPosition(place.round + rounds, slot)

    def draw(self, place: StreamPosition) -> SampledRecord:
        """The sample at a place.

        Raises:
            RecordError: the record is broken.
        """
        number, index = self.locate(place)
        source = self.sources[number]
        kept = index if source.keep is None else source.keep[index]
        share = self._random(_HD, place.round, place.slot).random() if source.dynamic else 1.0
        return SampledRecord(record=source.records[kept], source=source, index=kept, dynamic_share=share)

    def locate(self, place: StreamPosition) -> tuple[int, int]:
        """(number of the source, number among its usable records) of the sample at a place."""
        slot = int(self._order(place.round)[place.slot])
        number = int(np.searchsorted(self._ends, slot, side="right"))
        source = self.sources[number]
        drawn = place.round * source.draws + slot - int(self._ends[number]) + source.draws
        turn, index = divmod(drawn, source.count)
        return number, int(self._record_order(number, turn)[index]) if source.shuffle else index

    def walk(self, place: StreamPosition = StreamPosition()) -> Iterator[tuple[StreamPosition, SampledRecord]]:
        """Endless: every sample with the place behind it."""
        while True:
            draw, place = self.draw(place), self.after(place, 1)
            yield place, draw

    def _slots(self, turn: int) -> np.ndarray:
        """Slots of a round in the order they come; those of unshuffled sources keep theirs among themselves."""
        order = self._random(_SLOTS, turn).permutation(self.round_length)
        owners = np.searchsorted(self._ends, order, side="right")
        for number, source in enumerate(self.sources):
            if not source.shuffle:
                mine = owners == number
                order[mine] = np.sort(order[mine])
        return order

    def _records(self, number: int, turn: int) -> np.ndarray:
        return self._random(_RECORDS, number, turn).permutation(self.sources[number].count)

    def _random(self, *key: int) -> np.random.Generator:
        return np.random.default_rng([self.seed, *key])


def _check(source: Source) -> None:
    if not source.weight > 0:
        raise UsageError(f"source {source.name} has weight {source.weight}, above 0 needed; leave it out instead")
    if source.hd < 1:
        raise UsageError(f"source {source.name} has hd {source.hd}, at least 1 needed; use 25 or 55")
    if not source.count:
        raise DataError(f"source {source.name} has 0 usable records, at least 1 needed; see ixc data check")
    if not source.draws:
        raise UsageError(
            f"source {source.name}: {source.count} records of weight {source.weight} give 0 draws; raise the weight"
        )
