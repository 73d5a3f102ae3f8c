"""Validate training data: every record and the header of every image, on request its pixels, before hours are spent.

    file --JsonLines--> records --Encoder--> tokens at every HD --> DataReport: errors by line, totals, histograms

Training calls `usable` first: data with invalid records is refused, or on request they are skipped and counted.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Generator, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from ixc.core import tiling
from ixc.data.encoding import EncodedText, Encoder, TokenCache
from ixc.data.records import Record, RecordError
from ixc.errors import DataError, GeometryError
from ixc.utils.counted import counted

log = logging.getLogger(__name__)

HDS = (9, 16, 25, 55)
"""HD settings with a histogram: those of the paper (figure 5)."""

EDGES = (256, 512, 1024, 2048, 4096, 8192, 16384)
"""Upper edges of the histogram's first bins, tokens."""

BAR = 30
"""Length of the longest bar, characters."""

LOGGED = 5
"""Problems that are logged where training refuses or skips records; `ixc data check` lists all."""


class Records(Protocol):
    """Records by number: a file, a table, a list."""

    def __len__(self) -> int: ...
    def __getitem__(self, index: int) -> Record: ...


@dataclass(frozen=True, kw_only=True)
class DataProblem:
    """One invalid record."""

    where: str
    """File and line."""
    kind: str
    """Short name of the violated rule."""
    message: str
    """What is wrong, and the remedy."""

    def __str__(self) -> str:
        return f"{self.where}: {self.message}"


@dataclass(kw_only=True)
class DataReport:
    """Result of a validation; it grows while the records are read."""

    hd: int
    """HD setting the records were validated under."""
    max_seq_length: int
    """Most tokens of a conversation."""
    records: int = 0
    """Number of records read."""
    usable: list[int] = field(default_factory=list)
    """Numbers of the valid records, from 0."""
    problems: list[DataProblem] = field(default_factory=list)
    """One per invalid record, in order."""
    images: int = 0
    """Images of the valid records."""
    tiles: int = 0
    """Tiles of those images at this hd."""
    labels: int = 0
    """Labels of the valid records."""
    tokens: dict[int, list[int]] = field(default_factory=dict)
    """HD -> tokens of every valid record; `hd` is one of the keys."""

    @property
    def kinds(self) -> dict[str, int]:
        """Kind of problem -> count, most frequent first."""
        return dict(Counter(problem.kind for problem in self.problems).most_common())

    def histogram(self, hd: int) -> list[int]:
        """Count valid records by tokens at `hd`: up to each of `EDGES`, and above the last."""
        counts = [0] * (len(EDGES) + 1)
        for tokens in self.tokens[hd]:
            counts[sum(tokens > edge for edge in EDGES)] += 1
        return counts

    def as_dict(self) -> dict[str, Any]:
        """Return the report for JSON."""
        return {
            "hd": self.hd,
            "context": self.max_seq_length,
            "records": self.records,
            "usable": len(self.usable),
            "images": self.images,
            "tiles": self.tiles,
            "labels": self.labels,
            "problems": [vars(problem) for problem in self.problems],
            "kinds": self.kinds,
            "edges": EDGES,
            "tokens": {f"HD-{hd}": _summary(found) | {"histogram": self.histogram(hd)} for hd, found in self._rows()},
        }

    def _rows(self) -> list[tuple[int, list[int]]]:
        return sorted(self.tokens.items())

    def text(self, *, most: int = 20) -> list[str]:
        """Return lines of text: problems (at most `most`), totals, histograms."""
        lines = [str(problem) for problem in self.problems[:most]]
        if len(self.problems) > most:
            lines.append(f"... and {counted(len(self.problems) - most, 'more problem')}")
        if self.problems:
            lines.append("problems: " + ", ".join(f"{kind} {count:,}" for kind, count in self.kinds.items()))
        lines.append(
            f"{counted(self.records, 'record')}, {len(self.usable):,} usable; {counted(self.images, 'image')}, "
            f"{counted(self.tiles, 'tile')}, {counted(sum(self.tokens.get(self.hd, [])), 'token')} at HD-{self.hd}, "
            f"{self.labels:,} of them learned"
        )
        for hd, found in self._rows() if self.usable else []:
            lines += ["", *_histogram_lines(hd, found, self.histogram(hd))]
        return lines


def validate(
    records: Records,
    encoder: Encoder,
    *,
    hd: int,
    partition: str | None = None,
    token_cache: TokenCache | None = None,
    decode: bool = False,
) -> Generator[int | DataReport]:
    """Validate every record; yield the number read so far, for a progress bar, and the report last.

    Args:
        records: the data.
        encoder: encoder of the run.
        hd: most tiles per image.
        partition: partition rule; None: the processor's.
        token_cache: filled with the tokenised records, for training to read; None: they are not kept.
        decode: decode every image too, not only its header.
    """
    report = DataReport(hd=hd, max_seq_length=encoder.max_seq_length, tokens={n: [] for n in sorted({*HDS, hd})})
    cache = token_cache
    for index in range(len(records)):
        report.records += 1
        try:
            record = records[index]
            tokenized = encoder.tokenize(record) if cache is None else cache.tokenized(index, record, encoder)
            text = encoder.text(record, hd=hd, partition=partition, tokenized=tokenized)
            if decode:
                encoder.check_pixels(record, tokenized.image_sizes)
            _count(report, text, encoder)
            report.usable.append(index)
        except RecordError as error:
            report.problems.append(DataProblem(where=error.where, kind=error.kind, message=error.message))
        yield report.records
    yield report


def check(records: Records, encoder: Encoder, *, hd: int, partition: str | None = None) -> DataReport:
    """Validate every record and return the report. Arguments as `validate`."""
    *_, report = validate(records, encoder, hd=hd, partition=partition)
    assert isinstance(report, DataReport)
    return report


def usable(
    records: Records, encoder: Encoder, *, hd: int, partition: str | None = None, skip: bool = False
) -> list[int]:
    """Return the numbers of the records training may use.

    Args:
        records: the data.
        encoder: encoder of the run.
        hd: most tiles per image.
        partition: partition rule; None: the processor's.
        skip: leave invalid records out instead of refusing the data.

    Raises:
        DataError: invalid records and no skip, or nothing left.
    """
    return usable_records(check(records, encoder, hd=hd, partition=partition), skip=skip)


def usable_records(report: DataReport, *, skip: bool = False) -> list[int]:
    """Return the numbers of the records training may use; the first problems are logged.

    Args:
        report: result of the validation.
        skip: leave invalid records out instead of refusing the data.

    Raises:
        DataError: invalid records and no skip, or nothing left.
    """
    broken = len(report.problems)
    for problem in report.problems[:LOGGED]:
        log.warning("%s", problem)
    if broken and not skip:
        raise DataError(
            f"{broken:,} of {counted(report.records, 'record')} cannot be used, 0 may be so; the first: "
            f"{report.problems[0]} (see all: ixc data check; train without them: --skip-invalid)"
        )
    if not report.usable:
        raise DataError(f"0 of {counted(report.records, 'record')} can be used; the first: {report.problems[0]}")
    if broken:
        log.warning("%s of %s cannot be used and left out", f"{broken:,}", counted(report.records, "record"))
    return report.usable


def _count(report: DataReport, text: EncodedText, encoder: Encoder) -> None:
    """Add a valid record to the totals and to the token counts of every HD setting."""
    text_tokens = text.tokens - sum(text.types)
    report.images += len(text.partitions)
    report.tiles += text.tiles
    report.labels += text.num_labels
    for hd, counts in report.tokens.items():
        try:
            grids = [tiling.partition(one.width, one.height, hd=hd, rule=one.rule) for one in text.partitions]
        except GeometryError:  # an aspect ratio without a partition under a smaller setting is not counted there
            continue
        counts.append(text_tokens + sum(map(encoder.image_tokens, grids)))


def _summary(tokens: Sequence[int]) -> dict[str, float]:
    ordered = sorted(tokens)
    if not ordered:
        return {"sum": 0}
    return {
        "sum": sum(ordered),
        "min": ordered[0],
        "median": ordered[len(ordered) // 2],
        "p99": ordered[min(len(ordered) - 1, len(ordered) * 99 // 100)],
        "max": ordered[-1],
    }


def _histogram_lines(hd: int, tokens: Sequence[int], counts: Sequence[int]) -> list[str]:
    found = _summary(tokens)
    title = f"HD-{hd}: " + ", ".join(f"{name} {int(value):,}" for name, value in found.items()) + " tokens"
    names = [f"<= {edge:,}" for edge in EDGES] + [f"> {EDGES[-1]:,}"]
    longest = max(counts) or 1
    rows = [
        f"  {name:>9}  {count:>9,}  {'#' * -(-BAR * count // longest)}"
        for name, count in zip(names, counts, strict=True)
        if count
    ]
    return [title, *rows]


__all__ = ["HDS", "DataProblem", "DataReport", "Records", "check", "usable", "usable_records", "validate"]
