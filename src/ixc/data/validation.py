"""Is this data fit to learn from: every record and the header of every picture, before hours are spent.

    file --JsonLines--> records --Encoder--> tokens at every HD  --> Report: what is wrong by line, totals, a histogram

Training asks `usable` first: data that fails is refused, or, if told to, its broken records are skipped and counted.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Generator, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from ixc.core.tiling import partition
from ixc.data.encoding import Encoder
from ixc.data.records import Record, RecordError
from ixc.errors import DataError, GeometryError

log = logging.getLogger(__name__)

HDS = (9, 16, 25, 55)
"""Settings the histogram shows: those of the paper (figure 5)."""

EDGES = (256, 512, 1024, 2048, 4096, 8192, 16384)
"""Upper edges of the histogram's first bins, tokens."""

BAR = 30
"""Characters of the longest bar."""

LOGGED = 5
"""Problems told where training refuses or skips; `ixc data check` tells all."""


class Records(Protocol):
    """What can be checked and mixed: a file, a table, a list."""

    def __len__(self) -> int: ...
    def __getitem__(self, index: int) -> Record: ...


@dataclass(frozen=True, kw_only=True)
class DataProblem:
    """One broken record."""

    where: str
    """File and line."""
    kind: str
    """Short name of the rule it breaks."""
    message: str
    """What is wrong, and the remedy."""

    def __str__(self) -> str:
        return f"{self.where}: {self.message}"


@dataclass(kw_only=True)
class DataReport:
    """What a check found; it grows while the records are read."""

    hd: int
    """Setting the records were checked under."""
    context: int
    """Most tokens of a conversation."""
    records: int = 0
    """Records read."""
    usable: list[int] = field(default_factory=list)
    """Numbers of the good ones, from 0."""
    problems: list[DataProblem] = field(default_factory=list)
    """One for each broken one, in order."""
    images: int = 0
    """Pictures of the good records."""
    tiles: int = 0
    """Their tiles at this hd."""
    learned: int = 0
    """Labels learned from, good records."""
    tokens: dict[int, list[int]] = field(default_factory=dict)
    """HD -> tokens of every good record; the setting itself is among them."""

    @property
    def kinds(self) -> dict[str, int]:
        """Kind of problem -> how often, most frequent first."""
        return dict(Counter(problem.kind for problem in self.problems).most_common())

    def histogram(self, hd: int) -> list[int]:
        """Good records by tokens at `hd`: up to each of `EDGES`, and above the last."""
        counts = [0] * (len(EDGES) + 1)
        for tokens in self.tokens[hd]:
            counts[sum(tokens > edge for edge in EDGES)] += 1
        return counts

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "hd": self.hd,
            "context": self.context,
            "records": self.records,
            "usable": len(self.usable),
            "images": self.images,
            "tiles": self.tiles,
            "labels": self.learned,
            "problems": [vars(problem) for problem in self.problems],
            "kinds": self.kinds,
            "edges": EDGES,
            "tokens": {f"HD-{hd}": _summary(found) | {"histogram": self.histogram(hd)} for hd, found in self._rows()},
        }

    def _rows(self) -> list[tuple[int, list[int]]]:
        return sorted(self.tokens.items())

    def text(self, *, most: int = 20) -> list[str]:
        """Lines for people: problems (at most so many), totals, histograms."""
        lines = [str(problem) for problem in self.problems[:most]]
        if len(self.problems) > most:
            lines.append(f"... and {len(self.problems) - most:,} more problems")
        if self.problems:
            lines.append("problems: " + ", ".join(f"{kind} {count:,}" for kind, count in self.kinds.items()))
        lines.append(
            f"{self.records:,} records, {len(self.usable):,} usable; {self.images:,} images, {self.tiles:,} tiles, "
            f"{sum(self.tokens.get(self.hd, [])):,} tokens at HD-{self.hd}, {self.learned:,} of them learned"
        )
        for hd, found in self._rows() if self.usable else []:
            lines += ["", *_drawn(hd, found, self.histogram(hd))]
        return lines


def validate(records: Records, encoder: Encoder, *, hd: int, rule: str | None = None) -> Generator[int | DataReport]:
    """Checks every record; yields how many were read, for a progress bar, and the report last.

    Args:
        hd: most tiles a picture.
        rule: partition rule; None: the processor's.
    """
    report = DataReport(hd=hd, context=encoder.context, tokens={n: [] for n in sorted({*HDS, hd})})
    for index in range(len(records)):
        report.records += 1
        try:
            _count(report, records[index], encoder, hd=hd, rule=rule)
            report.usable.append(index)
        except RecordError as error:
            report.problems.append(DataProblem(where=error.where, kind=error.kind, message=error.message))
        yield report.records
    yield report


def check(records: Records, encoder: Encoder, *, hd: int, rule: str | None = None) -> DataReport:
    """The whole report. Arguments as `validate`."""
    *_, report = validate(records, encoder, hd=hd, rule=rule)
    assert isinstance(report, DataReport)
    return report


def usable(records: Records, encoder: Encoder, *, hd: int, rule: str | None = None, skip: bool = False) -> list[int]:
    """Numbers of the records training may use.

    Args:
        skip: leave broken records out instead of refusing the data.

    Raises:
        DataError: broken records and no skip, or nothing left.
    """
    return usable_records(check(records, encoder, hd=hd, rule=rule), skip=skip)


def usable_records(report: DataReport, *, skip: bool = False) -> list[int]:
    """Numbers of the records training may use, by a report; the first problems are logged.

    Args:
        skip: leave broken records out instead of refusing the data.

    Raises:
        DataError: broken records and no skip, or nothing left.
    """
    broken = len(report.problems)
    for problem in report.problems[:LOGGED]:
        log.warning("%s", problem)
    if broken and not skip:
        raise DataError(
            f"{broken:,} of {report.records:,} records are broken, 0 may be; the first: {report.problems[0]} "
            "(see all: ixc data check; train without them: --skip-broken)"
        )
    if not report.usable:
        raise DataError(f"0 of {report.records:,} records are usable; the first: {report.problems[0]}")
    if broken:
        log.warning("%s of %s records are broken and skipped", f"{broken:,}", f"{report.records:,}")
    return report.usable


def _count(report: DataReport, record: Record, encoder: Encoder, *, hd: int, rule: str | None) -> None:
    text = encoder.text(record, hd=hd, rule=rule)
    words = text.tokens - sum(text.types)
    report.images += len(text.parts)
    report.tiles += text.tiles
    report.learned += text.learned
    for other, found in report.tokens.items():
        try:
            parts = [partition(part.width, part.height, hd=other, rule=part.rule) for part in text.parts]
            found.append(words + sum(map(encoder.image_tokens, parts)))
        except GeometryError:  # too long and thin for a smaller setting: no figure there
            continue


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


def _drawn(hd: int, tokens: Sequence[int], counts: Sequence[int]) -> list[str]:
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
