"""Rows of a measurement and their JSON file; a run that finds its file measures only what is missing."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ixc.errors import DataError
from ixc.utils import files


@dataclass(frozen=True, kw_only=True)
class BenchRow:
    """One measured quantity."""

    subject: str
    """Measured model: its name, or widths and layers."""
    section: str
    """Key of `speed.SECTIONS`."""
    name: str
    """Quantity."""
    value: float
    """Median of the repeats."""
    low: float
    """Smallest of the repeats."""
    high: float
    """Largest of the repeats."""
    repeats: int
    """Number of repeats, after a warm-up."""
    unit: str
    """s, ms, tokens/s, GB, x, ..."""
    bits: int
    """Of the decoder's weights: 32 (16 on a GPU), 8 or 4."""
    hd: int | None = None
    """HD setting."""
    image_tokens: int | None = None
    """Image tokens."""
    share: float | None = None
    """Share of the limit named by `of`, 0..1."""
    of: str | None = None
    """Limit: matrix product, or memory read."""


@dataclass
class BenchResult:
    """All rows of one machine and month."""

    machine: dict[str, Any]
    """Name, dtype, versions, date, and the measured limits."""
    rows: list[BenchRow]
    """Rows, in order of measurement."""

    def add(self, rows: list[BenchRow]) -> None:
        """Add rows, replacing those of the same subject, section, bits and HD."""
        new = {(row.subject, row.section, row.bits, row.hd) for row in rows}
        self.rows = [row for row in self.rows if (row.subject, row.section, row.bits, row.hd) not in new] + rows

    def has(self, subject: str, section: str, bits: int, hd: int | None = None) -> bool:
        """Whether this was measured."""
        return any(
            (row.subject, row.section, row.bits) == (subject, section, bits) and hd in (None, row.hd)
            for row in self.rows
        )

    def write(self, path: Path) -> None:
        """Write the JSON file."""
        path.parent.mkdir(parents=True, exist_ok=True)
        files.atomic_write(
            path, json.dumps({"machine": self.machine, "rows": [asdict(row) for row in self.rows]}, indent=1)
        )


def read(path: Path) -> BenchResult:
    """Read a file of rows.

    Raises:
        DataError: no result file.
    """
    found = files.read_json_object(path, remedy="name another with --out")
    try:
        return BenchResult(machine=found["machine"], rows=[BenchRow(**row) for row in found["rows"]])
    except (KeyError, TypeError) as error:
        raise DataError(f"{path} is no result of ixc bench speed ({error}); name another with --out") from error
